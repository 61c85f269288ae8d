"""The file of the operations that wait."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from atoll.gateway.copies.operation import Operation
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

_NAMES = [each.name for each in fields(Operation)]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM operation"  # noqa: S608 - names of our own


class Store:
    """The file. What a method wrote is on the disk when it returns, if it is `durable`, and raises sqlite3.Error if it can't be."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._database = opened(self, path, _SCHEMA, durable=durable)
        # A file of an earlier version does not say who asked: no site does what it holds, and the operator is told.
        there = {row[1] for row in self._database.execute("PRAGMA table_info(operation)")}
        for name, default in {"requester": "''", "identity": "'{}'", "before": "'{}'"}.items():
            if name not in there:
                self._database.execute(f"ALTER TABLE operation ADD COLUMN {name} TEXT NOT NULL DEFAULT {default}")

    def add(self, operations: Iterable[Operation], now: float) -> list[int]:
        """Keep operations, all or none; returns their numbers."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            return [self._add(operation, now) for operation in operations]

    def _add(self, operation: Operation, now: float) -> int:
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
        number = self._database.execute(f"INSERT INTO operation ({names}) VALUES ({marks})", values).lastrowid  # noqa: S608 - as above
        assert number is not None
        return number

    def supersede(self, number: int) -> None:
        """If this is the deletion of a resource, all that waited for it before is pointless."""
        operation = self._get(number)
        if operation.method == "DELETE" and operation.path == operation.resource and not operation.tag:
            values = (operation.site, resource_key(operation), number)
            self._database.execute("DELETE FROM operation WHERE site = ? AND resource = ? AND number < ?", values)

    def all(self) -> list[Operation]:
        """Everything, oldest first."""
        return [_operation(row) for row in self._database.execute(f"{_SELECT} ORDER BY number")]

    def resources(self) -> list[tuple[str, str]]:
        """Site and resource of all that waits, oldest first."""
        return list(self._database.execute("SELECT site, resource FROM operation GROUP BY site, resource ORDER BY min(number)"))

    def first(self, site: str, resource: str) -> Operation | None:
        """What has to be done first for a resource at a site."""
        row = self._database.execute(f"{_SELECT} WHERE site = ? AND resource = ? ORDER BY number LIMIT 1", (site, resource)).fetchone()
        return row and _operation(row)

    def failed(self, number: int, error: str, *, refused: bool) -> Operation:
        """It was tried in vain; returns it."""
        self._database.execute("UPDATE operation SET error = ?, attempts = attempts + ? WHERE number = ?", (error, refused, number))
        return self._get(number)

    def _get(self, number: int) -> Operation:
        return _operation(self._database.execute(f"{_SELECT} WHERE number = ?", (number,)).fetchone())

    def done(self, *numbers: int) -> None:
        """They wait no more: all of them, or none if it can't be written."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            self._database.executemany("DELETE FROM operation WHERE number = ?", [(number,) for number in numbers])

    def forget(self, site: str) -> None:
        """Nothing waits for this site any more."""
        self._database.execute("DELETE FROM operation WHERE site = ?", (site,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def resource_key(operation: Operation) -> str:
    """The resource within its site: its service and path, and for servers without an id their tag."""
    return f"{operation.service}{operation.resource}" + (f"#{operation.tag}" if operation.tag else "")


def _operation(row: Sequence[Any]) -> Operation:
    values = dict(zip(_NAMES, row, strict=True))
    values |= {name: json.loads(values[name]) for name in ("headers", "identity", "before")}
    values["requester"] = Requester.load(values["requester"])
    return Operation(**values | {name: bool(values[name]) for name in ("unsure", "copies_data")})
