"""Answers that are kept until a connection of this process writes the tables from which they were read."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from sqlalchemy.types import Integer, String

from atoll.services.patches.shared import kept_reads
from atoll.services.patches.shared.kept_reads import KeptReads


class Base(DeclarativeBase):
    pass


class Limit(Base):
    __tablename__ = "limits"
    id = mapped_column(Integer, primary_key=True)
    name = mapped_column(String)


TABLE: Any = Limit.__table__


class Port(Base):
    __tablename__ = "ports"
    id = mapped_column(Integer, primary_key=True)
    owner = mapped_column(String)


@pytest.fixture
def engine(tmp_path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path}/x.db?plugin=atoll")
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def limits(monkeypatch) -> KeptReads:
    monkeypatch.setattr(kept_reads, "_WATCHING", [])
    kept = KeptReads("limits")
    kept.watch()
    return kept


class Reader:
    """A reader of names through the kept answers, which counts how often it reads."""

    def __init__(self, kept: KeptReads, engine: Engine) -> None:
        self.kept, self.engine = kept, engine
        self.apart = self.here = 0

    def _names(self, connection) -> list[str]:
        return sorted(connection.execute(text("SELECT name FROM limits")).scalars())

    def read(self, session: Session | None = None, during=lambda: None) -> list[str]:
        def apart():
            self.apart += 1
            with self.engine.connect() as connection:
                found = self._names(connection)
            during()
            return found

        def here():
            self.here += 1
            if session is not None:
                return self._names(session)
            with self.engine.connect() as connection:
                return self._names(connection)

        return self.kept.answer("names", here, apart, session)


@pytest.fixture
def reader(limits, engine) -> Reader:
    return Reader(limits, engine)


def insert(engine: Engine, name: str = "a") -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO limits (name) VALUES (:name)"), {"name": name})


def test_an_answer_is_read_once(reader):
    assert [reader.read() for _ in range(3)] == [[]] * 3
    assert (reader.apart, reader.here) == (1, 0)


WRITES = {
    "text": lambda session: session.execute(text("INSERT INTO limits (name) VALUES ('n')")),
    "quoted": lambda session: session.execute(text('insert into "limits" (name) values (:name)'), {"name": "n"}),
    "driver": lambda session: session.connection().exec_driver_sql("INSERT INTO limits (name) VALUES (?)", ("n",)),
    "core": lambda session: session.execute(TABLE.insert().values(name="n")),
    "many": lambda session: session.execute(TABLE.insert(), [{"name": "n"}, {"name": "n"}]),
    "object": lambda session: session.add(Limit(name="n")),
    "bulk": lambda session: session.query(Limit).update({"name": "n"}, synchronize_session=False),
    "deletion": lambda session: session.query(Limit).delete(synchronize_session=False),
    "schema": lambda session: session.execute(text("ALTER TABLE limits ADD COLUMN more INTEGER")),
}


@pytest.mark.parametrize("kind", WRITES)
def test_each_kind_of_write_makes_it_read_again(reader, engine, kind):
    insert(engine)
    reader.read()
    other = create_engine(engine.url)  # another engine of this process, for the same file
    with Session(other) as session:
        WRITES[kind](session)
        session.commit()
        expected = sorted(session.execute(text("SELECT name FROM limits")).scalars())
    other.dispose()
    assert reader.read() == expected
    assert reader.apart == 2


def test_other_tables_do_not_matter(reader, engine):
    reader.read()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO ports (owner) VALUES ('limits_of_others')"))
        connection.execute(text("SELECT * FROM limits"))
    reader.read()
    assert reader.apart == 1


def test_a_transaction_reads_its_own_changes_and_others_what_is_committed(reader, engine):
    reader.read()
    with Session(engine) as session:
        session.add(Limit(name="new"))
        assert reader.read(session) == ["new"], "pending objects are written before an answer"
        assert reader.read() == []
        session.commit()
        assert reader.read() == ["new"]
    assert reader.read() == ["new"]
    assert reader.here >= 2


def test_nothing_is_kept_of_a_transaction_that_is_rolled_back(reader, engine):
    reader.read()
    with Session(engine) as session:
        session.add(Limit(name="new"))
        assert reader.read(session) == ["new"]
        session.rollback()
    assert reader.read() == []
    with Session(engine) as session:
        session.add(Limit(name="kept"))
        session.flush()
        nested = session.begin_nested()
        session.add(Limit(name="undone"))
        assert reader.read(session) == ["kept", "undone"]
        nested.rollback()
        assert reader.read(session) == ["kept"]
        session.commit()
    assert reader.read() == reader.read() == ["kept"]


def test_an_answer_that_a_write_overtakes_is_not_kept(reader, engine):
    assert reader.read(during=lambda: insert(engine)) == [], "it was read before the write"
    assert reader.read() == ["a"]
    assert reader.apart == 2


def test_an_answer_that_is_read_beside_an_open_write_is_not_kept(reader, engine):
    with Session(engine) as session:
        session.add(Limit(name="new"))
        session.flush()
        assert reader.read() == []
        session.commit()
    assert reader.read() == ["new"]


def test_an_old_snapshot_is_not_kept(reader, engine):
    with engine.connect() as old:
        assert old.execute(text("SELECT name FROM limits")).all() == []
        insert(engine)
        with Session(old) as session:
            assert reader.read(session) == ["a"], "it is read apart, after the commit"
    assert reader.read() == ["a"]


def test_a_write_that_fails_does_not_end_the_keeping(reader, engine):
    reader.read()
    with pytest.raises(Exception, match="no such column"), engine.begin() as connection:
        connection.execute(text("UPDATE limits SET missing = 1"))
    reader.read()
    reader.read()
    assert reader.apart == 2


def test_a_connection_that_is_lost_ends_its_write(reader, engine):
    reader.read()
    connection = engine.connect()
    connection.execute(text("INSERT INTO limits (name) VALUES ('lost')"))
    connection.invalidate()
    connection.close()
    assert reader.read() == []
    reader.read()
    assert reader.apart == 2


def test_a_detached_connection_ends_the_keeping(reader, engine):
    reader.read()
    with engine.connect() as connection:
        connection.detach()
        connection.execute(text("INSERT INTO limits (name) VALUES ('n')"))
        connection.commit()
    reader.read()
    assert reader.read() == ["n"]
    assert reader.apart == 1


def test_only_statements_with_the_values_matter(engine, limits):
    kept = KeptReads("ports", values=("dhcp",))
    kept.watch()
    asked = []

    def read():
        return kept.answer("any", lambda: asked.append("here"), lambda: asked.append("apart"))

    def write(statement, **values):
        with engine.begin() as connection:
            connection.execute(text(statement), values)
        read()
        return len(asked)

    read()
    assert write("INSERT INTO ports (owner) VALUES (:owner)", owner="compute") == 1
    assert write("INSERT INTO ports (owner) VALUES (:owner)", owner="dhcp") == 2
    assert write("UPDATE ports SET owner = :owner", owner="dhcp") == 3
    assert write("UPDATE ports SET owner = 'dhcp' WHERE id = :id", id=1) == 4
    assert write("UPDATE ports SET owner = 'x' WHERE id = :id", id=1) == 4
    assert write("DELETE FROM ports") == 5


def test_harmless_statements_do_not_matter(engine, limits):
    kept = KeptReads("ports", harmless=r"UPDATE ports SET owner=\S+ WHERE")
    assert not kept.writes("UPDATE ports SET owner=? WHERE id = ?", ())
    assert kept.writes("UPDATE ports SET owner=?, id=? WHERE id = ?", ())
    assert kept.writes("DELETE FROM ports", ())


def test_refused_answers_are_not_kept(limits):
    asked = []
    for _ in range(2):
        limits.answer("x", asked.append, lambda: asked.append("apart"), keep=lambda answer: answer is not None)
    assert asked == ["apart", "apart"]


def test_an_error_is_not_kept(limits):
    def fail():
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            limits.answer("x", fail, fail)


def test_nothing_is_kept_without_watching(engine):
    kept, asked = KeptReads("limits"), []
    for _ in range(2):
        kept.answer("x", lambda: asked.append("here"), lambda: asked.append("apart"))
    assert asked == ["here", "here"]


def test_readers_beside_writers_never_see_an_older_state(reader, engine):
    """Each reader sees at least the rows whose insertion had returned when the reading began."""
    done = 0
    failed = []
    end = threading.Event()

    def look():
        while not end.is_set():
            least = done
            found = len(reader.read())
            if found < least:
                failed.append((least, found))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(150):
        insert(engine, str(number))
        done = number + 1
    end.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(reader.read()) == 150
