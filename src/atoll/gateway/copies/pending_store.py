"""The database of the operations that wait."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from atoll.gateway.copies.pending_operation import PendingOperation
from atoll.gateway.private_database import opened
from atoll.gateway.request.requester import Requester

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    number INTEGER PRIMARY KEY AUTOINCREMENT, since REAL NOT NULL, attempts INTEGER NOT NULL, error TEXT NOT NULL,
    site TEXT NOT NULL, method TEXT NOT NULL, service TEXT NOT NULL, path TEXT NOT NULL, query TEXT NOT NULL, headers TEXT NOT NULL,
    body BLOB, request_id TEXT NOT NULL, unsure INTEGER NOT NULL, tag TEXT NOT NULL, about TEXT NOT NULL, copies_data INTEGER NOT NULL,
    resource TEXT NOT NULL, requester TEXT NOT NULL DEFAULT '', identity TEXT NOT NULL DEFAULT '{}',
    before TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS operation_resource ON operation (site, resource, number);
"""

_NAMES = [each.name for each in fields(PendingOperation)]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM operation"


class PendingStore:
    """The database file. A change is on the disk when its method returns, if the file is `durable`.

    Raises:
        sqlite3.Error: by every method, if the file can't be read or written.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._database = opened(self, path, _SCHEMA, durable=durable)
        # A file of an earlier version names no requesters: no site carries its operations out, and a conflict is recorded for the operator.
        there = {row[1] for row in self._database.execute("PRAGMA table_info(operation)")}
        for name, default in {"requester": "''", "identity": "'{}'", "before": "'{}'"}.items():
            if name not in there:
                self._database.execute(f"ALTER TABLE operation ADD COLUMN {name} TEXT NOT NULL DEFAULT {default}")

    def add(self, operations: Iterable[PendingOperation], now: float) -> list[int]:
        """Store operations, all or none; return their numbers."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            return [self._add(operation, now) for operation in operations]

    def _add(self, operation: PendingOperation, now: float) -> int:
        values = asdict(operation) | {
            "since": now,
            "headers": json.dumps(dict(operation.headers)),
            "resource": resource_key(operation),
            "requester": operation.requester.dump() if operation.requester else "",
            "identity": json.dumps(dict(operation.identity)),
            "before": json.dumps(dict(operation.before)),
        }
        del values["number"]
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        number = self._database.execute(f"INSERT INTO operation ({names}) VALUES ({marks})", values).lastrowid
        assert number is not None
        return number

    def supersede(self, number: int) -> None:
        """Remove the earlier operations on a resource if this one deletes it."""
        operation = self._get(number)
        if operation.method == "DELETE" and operation.path == operation.resource and not operation.tag:
            values = (operation.site, resource_key(operation), number)
            self._database.execute("DELETE FROM operation WHERE site = ? AND resource = ? AND number < ?", values)

    def all(self) -> list[PendingOperation]:
        """Return all operations, oldest first."""
        return [_operation(row) for row in self._database.execute(f"{_SELECT} ORDER BY number")]

    def resources(self) -> list[tuple[str, str]]:
        """Return site and resource of all operations, oldest first."""
        return list(self._database.execute("SELECT site, resource FROM operation GROUP BY site, resource ORDER BY min(number)"))

    def first(self, site: str, resource: str) -> PendingOperation | None:
        """Return the oldest operation on a resource at a site; `None` if there is none."""
        row = self._database.execute(f"{_SELECT} WHERE site = ? AND resource = ? ORDER BY number LIMIT 1", (site, resource)).fetchone()
        return row and _operation(row)

    def failed(self, number: int, error: str, *, refused: bool) -> PendingOperation:
        """Record a failed attempt; return the operation."""
        self._database.execute("UPDATE operation SET error = ?, attempts = attempts + ? WHERE number = ?", (error, refused, number))
        return self._get(number)

    def _get(self, number: int) -> PendingOperation:
        return _operation(self._database.execute(f"{_SELECT} WHERE number = ?", (number,)).fetchone())

    def done(self, *numbers: int) -> None:
        """Remove operations: all of them, or none if that can't be written."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            self._database.executemany("DELETE FROM operation WHERE number = ?", [(number,) for number in numbers])

    def forget(self, site: str) -> None:
        """Remove all operations of a site."""
        self._database.execute("DELETE FROM operation WHERE site = ?", (site,))

    def close(self) -> None:
        """Close the database file."""
        self._database.close()


def resource_key(operation: PendingOperation) -> str:
    """Return the key of a resource within its site: service and path and, for servers without an id, their tag."""
    return f"{operation.service}{operation.resource}" + (f"#{operation.tag}" if operation.tag else "")


def _operation(row: Sequence[Any]) -> PendingOperation:
    values = dict(zip(_NAMES, row, strict=True))
    values |= {name: json.loads(values[name]) for name in ("headers", "identity", "before")}
    values["requester"] = Requester.load(values["requester"])
    return PendingOperation(**values | {name: bool(values[name]) for name in ("unsure", "copies_data")})
