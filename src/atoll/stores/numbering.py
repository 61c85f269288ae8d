"""Ids of rows: each site numbers the rows that it inserts in a series of its own, so that two sites never give the same id.

SQLite gives a new row the id `max + 1`, which two sites would both choose. So the store rewrites an INSERT that leaves the id to SQLite,
and adds an id: the least number that is greater than all ids and congruent to the site's number modulo the log's stride. Only INSERT
statements as SQLAlchemy writes them are rewritten. Other INSERT statements work too, but if two sites insert at the same time, one
transaction must be replayed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import apsw

from atoll.stores.query import row
from atoll.stores.shape import Shape

_INSERT = re.compile(r'\s*INSERT INTO ("?)(\w+)\1 \(([^()\']*)\) VALUES (\([^\']*?\))((?: RETURNING | ON CONFLICT )[^\']*)?$', re.DOTALL)


class Series(NamedTuple):
    """The ids that a site gives to rows: the numbers congruent to `slot` modulo `stride`."""

    slot: int
    """Number that identifies the site in the log, from 0."""
    stride: int
    """Greatest number of sites of the log."""

    def after(self, top: int) -> int:
        """Return the site's least id that is greater than `top`."""
        return (top // self.stride + 1) * self.stride + self.slot


def number(
    db: apsw.Connection, sql: str, parameters: Sequence[Any], shape: Callable[[str], Shape], series: Series
) -> tuple[str, Sequence[Any]]:
    """Return a statement and its parameters; if the statement inserts rows without ids, add ids of the site's series.

    Args:
        db: the connection on which the statement will run, in a write transaction.
        sql: a statement.
        parameters: its positional parameters.
        shape: a function that returns a table's shape.
        series: the site's ids.
    """
    found = _INSERT.match(sql)
    if not found:
        return sql, parameters
    _quote, table, columns, values, rest = found.groups(default="")
    alias = shape(table).rowid_alias
    if alias is None or alias in (name.strip().strip('"') for name in columns.split(",")):
        return sql, parameters
    top = row(db, f'SELECT max("{alias}") FROM "{table}"')
    first = series.after(top[0] or 0)
    if "), (" in values or "),(" in values:
        source = f"SELECT ? + {series.stride} * (row_number() OVER () - 1), * FROM (VALUES {values}){' WHERE true' if rest else ''}"
    else:
        source = f"VALUES (?, {values[1:]}"
    return f'INSERT INTO "{table}" ("{alias}", {columns}) {source}{rest}', (first, *parameters)
