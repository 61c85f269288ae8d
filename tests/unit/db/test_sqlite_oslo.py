"""Transactions of oslo.db on SQLite: the plugin keeps oslo.db from beginning them, by an internal mark of oslo.db."""

from pathlib import Path

import pytest
from oslo_db.sqlalchemy import engines
from sqlalchemy import Engine, event, text


def statements(engine: Engine) -> list[str]:
    """Return the statements of two transactions in SQLAlchemy, the second one on the same connection."""
    said: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: said.append(statement))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.commit()
        connection.execute(text("SELECT 2"))
        assert connection.info.get("in_transaction") is True
        connection.rollback()
        assert "in_transaction" not in connection.info, "oslo.db must remove its mark at the end of a transaction"
    engine.dispose()
    return said


def test_oslo_db_begins_transactions_itself(tmp_path: Path) -> None:
    """If this fails, oslo.db no longer begins transactions itself, and `_forestall_begin` of db/sqlite.py can be removed."""
    assert statements(engines.create_engine(f"sqlite:///{tmp_path}/x.db")) == ["BEGIN", "SELECT 1", "BEGIN", "SELECT 2"]


def test_oslo_db_honours_the_mark_of_the_plugin(tmp_path: Path) -> None:
    """If this fails, oslo.db looks for another mark, or no longer calls the plugin's listener first."""
    assert statements(engines.create_engine(f"sqlite:///{tmp_path}/x.db?plugin=atoll")) == ["SELECT 1", "SELECT 2"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_transaction_is_open_nevertheless(tmp_path: Path, end: str) -> None:
    engine = engines.create_engine(f"sqlite:///{tmp_path}/x.db?plugin=atoll")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x)"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        assert connection.connection.dbapi_connection.in_transaction
        getattr(connection, end)()
        assert len(connection.execute(text("SELECT x FROM t")).all()) == (end == "commit")
    engine.dispose()
