"""Rows of all types of columns move through real servers of all engines and back, without services."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from deployment import until
from moved_tables import MovedTables
from sqlalchemy import create_engine, insert, select, text

from atoll.files import make_directory, write_private
from atoll.services import Settings, database_servers, engines, places
from atoll.services.transfer import database, schema
from atoll.services.transfer.errors import TransferError

TABLES = MovedTables(unique_names=True)

NOW = datetime.fromisoformat("2026-11-30T17:00:01.999999")

ROWS = [
    {"id": 0, "parent": None},
    {"id": 1, "parent": 9, "yes": True, "at": NOW, "data": {"a": [1, None, "ü"]}, "text": "x" * 100_000, "name": "Ä ", "kind": "a"},
    {"id": 2, "parent": 3, "yes": False, "at": NOW.replace(microsecond=0), "data": [], "text": "%s :x \\ '\"", "name": "ä"},
    {"id": 700, "parent": 3, "kind": "b", "blob": bytes(range(256)), "ratio": 0.1, "name": "", "text": ""},
    {"id": 701, "ratio": 1.5, "data": "text", "name": "same"},
]

SERVE = """
import sys
from importlib import import_module
from pathlib import Path
class Child:
    arguments = {"directory": sys.argv[2]}
    def ready(self):
        Path(sys.argv[2], f"{sys.argv[1]} is ready").touch()
import_module(f"atoll.services.engines.{sys.argv[1]}").run(Child())
"""


@pytest.fixture(scope="module")
def paris(tmp_path_factory) -> Settings:
    directory = tmp_path_factory.mktemp("p")
    secrets = {"database": "a-password"}
    made = Settings(site="paris", directory=directory, templates=directory / "templates", host="127.0.0.1", ports={}, secrets=secrets)
    make_directory(made.data)
    make_directory(made.templates / "any")
    made.save()
    return made


@pytest.fixture(scope="module")
def places_of(paris) -> Iterator[dict[str, Settings]]:
    """Yield the settings of the site with each engine, whose servers run."""
    found, processes = {}, []
    for engine in engines.SERVERS:
        if problem := engines.obstacle(engine)[0]:
            pytest.skip(problem)
        told = replace(paris, engine=engine)
        for name, rendered in engines.SERVERS[engine].configuration(told).items():
            make_directory((told.etc / name).parent)
            write_private(told.etc / name, rendered)
        processes.append(subprocess.Popen([sys.executable, "-c", SERVE, engine, str(paris.directory)], stdout=subprocess.DEVNULL))
        found[engine] = told
    for engine in found:
        until((paris.directory / f"{engine} is ready").exists, f"{engine} serves", patience_s=600)
    yield found
    for process in processes:
        process.terminate()
        process.wait()


def make(settings: Settings, name: str) -> None:
    """Make the schema at a place, as the services' migrations do."""
    places.begin_move(settings)
    if settings.engine in schema.FILES:
        schema.make_file(settings, "any", name)
        return
    database_servers.create(settings, name)
    make_tables(settings.database(name))


def make_tables(url: str) -> None:
    engine = create_engine(url)
    TABLES.model.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(TABLES.version).values(version_num="1"))
        connection.execute(insert(TABLES.parents), [{"id": 3}, {"id": 5, "above": 3}])  # as migrations do
    engine.dispose()


def content(settings: Settings, name: str) -> list[list[tuple[Any, ...]]]:
    engine = create_engine(settings.database(name))
    with engine.connect() as connection:
        found = [
            [tuple(row) for row in connection.execute(select(table).order_by(table.c.id))] for table in (TABLES.parents, TABLES.things)
        ]
    engine.dispose()
    return found


def execute(settings: Settings, name: str, *statements: str) -> None:
    engine = create_engine(settings.database(name))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def name(request) -> str:
    """Return the name of a database of the test's own."""
    return f"rows{abs(hash(request.node.name)) % 10**8}"


@pytest.fixture
def source(paris, name) -> Settings:
    """Return a site on SQLite with the rows; a reference may point to a later row."""
    make_tables(f"sqlite:///{paris.templates}/any/{name}.db")
    make(paris, name)
    engine = create_engine(paris.database(name))
    with engine.begin() as connection:
        connection.execute(insert(TABLES.parents), [{"id": 8, "above": 9}, {"id": 9, "above": 8}])
        for row in ROWS:
            connection.execute(insert(TABLES.things).values(row))
        connection.execute(text("update things set name = 'name' || id where name is null"))
        # MariaDB takes it for the same name as the one with a capital
        connection.execute(text("delete from things where name = 'ä'"))
    engine.dispose()
    database.finish(paris, paris, name)
    return paris


@pytest.mark.long
def test_rows_move_through_all_engines_and_back(places_of, source, paris, name):
    kept = content(source, name)
    whole = [kept[0], [(*row[:3], row[3] and row[3].replace(microsecond=0), *row[4:]) for row in kept[1]]]
    at = source
    for engine in ("postgresql", "redis", "mariadb"):
        target = places_of[engine]
        make(target, name)
        first = database.transfer(at, target, name)
        assert (first.copied, first.tables, first.rows) == (True, 2, 8)
        assert not database.transfer(at, target, name).copied
        database.finish(at, target, name)
        assert content(target, name) == (whole if engine == "mariadb" else kept)
        assert next_id(target, name) > 701
        at = target
    back = replace(paris, directory=paris.directory / "back")
    make_directory(back.data)
    make(back, name)
    database.transfer(at, back, name)
    database.finish(at, back, name)
    assert content(back, name) == whole


def next_id(settings: Settings, name: str) -> int:
    """Return the id that the engine gives to a row, which is not committed."""
    engine = create_engine(settings.database(name))
    with engine.connect() as connection:
        [number] = connection.execute(insert(TABLES.things).values(name="new")).inserted_primary_key
    engine.dispose()
    return int(number)


@pytest.mark.long
@pytest.mark.parametrize(
    ("engine", "statement", "expected"),
    [
        ("mariadb", "update things set name = char(128512) where id = 1", "Incorrect string value"),
        ("mariadb", "update things set name = 'SAME' where id = 1", "Duplicate entry"),
        ("mariadb", "update things set parent = 99 where id = 1", "1 rows of things refer to rows of parents that do not exist"),
        ("postgresql", "update things set parent = 99 where id = 1", "1 rows of things refer to rows of parents that do not exist"),
        ("postgresql", "update things set kind = 'c' where id = 1", "invalid input value for enum"),
    ],
)
def test_what_an_engine_cannot_hold_is_one_line(places_of, source, name, engine, statement, expected):
    execute(source, name, statement)
    target = places_of[engine]
    make(target, name)
    before = content(target, name)
    with pytest.raises(TransferError, match=expected) as caught:
        database.transfer(source, target, name)
    assert "\n" not in str(caught.value)
    assert "a-password" not in str(caught.value)
    assert content(target, name) == before
