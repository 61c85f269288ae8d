"""Functions for queries that the store itself executes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw


def rows(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """Return all rows of a query."""
    return db.execute(sql, values).fetchall()


def row(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> Any:
    """Return the first row of a query; `None` if the query has no rows."""
    found = db.execute(sql, values).fetchall()
    return found[0] if found else None
