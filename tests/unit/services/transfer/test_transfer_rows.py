"""Copy and comparison of rows, from SQLite to SQLite; tests/sites/test_moves.py has the other engines."""

from contextlib import ExitStack
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moved_tables import MovedTables
from sqlalchemy import create_engine, insert, select, text

from atoll.services.transfer import rows, tables
from atoll.services.transfer.errors import TransferError

TABLES = MovedTables(unique_names=False)

FIRST = datetime.fromisoformat("1990-01-01T00:00:00")
NAMES = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"]), max_size=20)
ROW = st.fixed_dictionaries(
    {
        "yes": st.none() | st.booleans(),
        "at": st.none() | st.datetimes(min_value=FIRST),
        "data": st.none() | NAMES | st.dictionaries(st.text("abc", max_size=3), st.integers() | st.none(), max_size=3),
        "text": st.none() | NAMES,
        "name": st.none() | NAMES,
        "kind": st.none() | st.sampled_from("ab"),
        "blob": st.none() | st.binary(max_size=20),
        "ratio": st.none() | st.floats(-1e6, 1e6),
    }
)


@pytest.fixture
def ends():
    with ExitStack() as stack:
        made = [create_engine("sqlite://") for _ in range(2)]
        for engine in made:
            stack.callback(engine.dispose)
        connections = [stack.enter_context(engine.connect()) for engine in made]
        for connection in connections:
            TABLES.model.create_all(connection)
            connection.execute(insert(TABLES.version).values(version_num="1"))
        yield connections


def moved(source, target) -> list[str]:
    told: list[str] = []
    found = tables.pairs(source, target)
    rows.copy(source, target, found, told.append)
    assert list(rows.differences(source, target, found)) == []
    assert rows.same(source, target, found)
    return told


@settings(max_examples=30, deadline=None)
@given(st.lists(ROW, max_size=8))
def test_rows_of_all_types_are_the_same(made):
    one, other = create_engine("sqlite://"), create_engine("sqlite://")
    with one.connect() as source, other.connect() as target:
        for connection in (source, target):
            TABLES.model.create_all(connection)
        for row in made:
            source.execute(insert(TABLES.things).values(row))
        moved(source, target)
        assert source.execute(select(TABLES.things)).all() == target.execute(select(TABLES.things)).all()
    one.dispose()
    other.dispose()


def test_rows_of_the_target_are_replaced(ends):
    source, target = ends
    source.execute(insert(TABLES.parents), [{"id": 5, "above": 7}, {"id": 7, "above": None}])
    target.execute(insert(TABLES.parents), [{"id": 1}, {"id": 2}])
    assert moved(source, target) == ["parents", "things"]
    assert [row.id for row in target.execute(select(TABLES.parents).order_by("id"))] == [5, 7]


def test_more_rows_than_a_batch(ends, monkeypatch):
    monkeypatch.setattr(rows, "BATCH", 7)
    source, target = ends
    source.execute(insert(TABLES.things), [{"id": number, "name": str(number)} for number in range(40)])
    moved(source, target)
    assert rows.count(source, tables.pairs(source, target)) == 40


@pytest.mark.parametrize("change", ["update things set name = 'y'", "delete from things", "insert into things (id) values (9)"])
def test_a_difference_is_found(ends, change):
    source, target = ends
    source.execute(insert(TABLES.things), [{"id": 1, "name": "x"}])
    moved(source, target)
    target.execute(text(change))
    found = tables.pairs(source, target)
    assert not rows.same(source, target, found)
    assert list(rows.differences(source, target, found)) == [("things", 1)]


def refused(source, target) -> str:
    with pytest.raises(TransferError) as caught:
        tables.pairs(source, target)
    return str(caught.value)


def test_other_versions_of_the_schema_are_refused(ends):
    source, target = ends
    target.execute(text("update alembic_version set version_num = '2'"))
    assert refused(source, target) == "the versions of the schema differ: alembic_version is 1 at the source, and 2 at the target"


def test_rows_without_a_place_at_the_target_are_refused(ends):
    source, target = ends
    source.execute(text("create table old (x integer)"))
    assert [pair.name for pair in tables.pairs(source, target)] == ["parents", "things"]
    source.execute(text("insert into old values (1)"))
    assert refused(source, target) == "the target has no table old, which has rows at the source"
    source.execute(text("drop table old"))
    source.execute(text("alter table things add column more text"))
    source.execute(insert(TABLES.things), [{"id": 1}])
    tables.pairs(source, target)
    source.execute(text("update things set more = 'x'"))
    assert refused(source, target) == "the target has no column things.more, which has values at the source"


def test_dangling_references_are_refused(ends):
    source, target = ends
    source.execute(insert(TABLES.parents), [{"id": 1}])
    source.execute(insert(TABLES.things), [{"id": 1, "parent": 1}, {"id": 2, "parent": None}])
    found = tables.pairs(source, target)
    tables.check_references(source, found)
    source.execute(insert(TABLES.things), [{"id": 3, "parent": 4}])
    with pytest.raises(TransferError, match="1 rows of things refer to rows of parents that do not exist"):
        tables.check_references(source, found)


def test_a_value_of_another_type_is_told(ends):
    source, target = ends
    source.execute(text("insert into things (id, parent) values (1, 'x')"))
    with pytest.raises(TransferError, match=r"things\.parent has a value that is no integer"):
        moved(source, target)
