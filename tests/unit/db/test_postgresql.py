"""The plugin for PostgreSQL's driver; no server is needed."""

from ipaddress import IPv4Address

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.pq import Format
from sqlalchemy.dialects import plugins

from atoll.db.postgresql import PostgreSQLPlugin

plugins.register("atoll-postgresql", "atoll.db.postgresql", "PostgreSQLPlugin")

INET = psycopg.adapters.types["inet"].oid


def loaded(adapters: psycopg.adapt.AdaptersMap) -> object:
    """Return an address as a connection with these adapters reads it from a column of the type INET."""
    return adapters.get_loader(INET, Format.TEXT)(INET).load(b"10.0.0.1")


def engine(**query: str) -> sa.Engine:
    return sa.create_engine(sa.URL.create("postgresql+psycopg", "u", host="h", database="d", query=query))


def test_addresses_are_text_and_cursors_have_a_row_id(monkeypatch):
    made, arguments = engine(plugin="atoll-postgresql"), {}

    def connect(*_positional, **named):
        arguments.update(named)
        raise psycopg.OperationalError("no server")

    monkeypatch.setattr(made.dialect.dbapi, "connect", connect)
    with pytest.raises(sa.exc.OperationalError):
        made.connect()
    assert loaded(arguments["context"]) == "10.0.0.1"
    assert arguments["cursor_factory"].lastrowid == 0
    assert issubclass(arguments["cursor_factory"], psycopg.Cursor)
    assert "plugin" not in arguments


def test_stock_driver_has_neither():
    assert not hasattr(psycopg.Cursor, "lastrowid")
    assert loaded(psycopg.adapters) == IPv4Address("10.0.0.1")


def test_the_url_stays_as_it_is():
    url = sa.make_url("postgresql+psycopg://u@h/d")
    assert PostgreSQLPlugin(url, {}).update_url(url) == url
