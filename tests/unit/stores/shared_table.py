"""A table that the sites of a test share, and what the tests do with it."""

import time

import sqlalchemy as sa

from atoll.stores.store import open_store
from atoll.stores.url import parse

META = sa.MetaData()
T = sa.Table("t", META, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))


def write(engine, n=9):
    with engine.begin() as connection:
        connection.execute(T.insert().values(n=n))


def numbers(engine):
    with engine.connect() as connection:
        return connection.execute(sa.select(T.c.n).order_by(T.c.n)).scalars().all()


def store_of(engine):
    return open_store(parse(engine.url))


def eventually(check):
    until = time.monotonic() + 10
    while not check():
        assert time.monotonic() < until
        time.sleep(0.01)
