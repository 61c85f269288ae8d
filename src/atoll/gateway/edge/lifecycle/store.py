"""Records of instances without a server, and of operations, for which OpenStack has no objects.

Each gateway keeps these records in a file of its own. Their number is bounded, for each project and in all.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from atoll.gateway.edge.problem import Problem
from atoll.gateway.private_database import opened

MOST_OF_PROJECT = 256
"""Greatest number of instances without a server of one project at one gateway; also of operations, of which the oldest are deleted."""

MOST_LEFT = 1024
"""Greatest number of identifiers of a project at one gateway after a termination, which leaves one. A further termination is refused: a
tenant can give any server the metadata of an instance, and terminate it."""

MOST = 16384
"""Greatest number of instances without a server at one gateway."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS identifier (id TEXT NOT NULL, project TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (id, project));
CREATE INDEX IF NOT EXISTS identifier_project ON identifier (project);
CREATE TABLE IF NOT EXISTS operation (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS operation_project ON operation (project);
"""

_DELETE_OLD = """
DELETE FROM operation WHERE number IN (
    SELECT number FROM operation WHERE project = ? ORDER BY number DESC LIMIT -1 OFFSET ?)
"""


class OperationKind(StrEnum):
    """The kinds of operations."""

    INSTANTIATE = "INSTANTIATE"
    START = "START"
    STOP = "STOP"
    TERMINATE = "TERMINATE"


class State(StrEnum):
    """The states of operations."""

    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class IdleInstance:
    """An instance without a server: it was created and not yet instantiated, or it was terminated.

    Attributes:
        id: the id of the instance.
        project: the project that owns it.
        app: the id of the application.
        name: the name; empty for that of the application.
        description: a text for people; empty for none.
        site: the site that may have a server of it still, or already; empty if none has.
    """

    id: str
    project: str
    app: str
    name: str = ""
    description: str = ""
    site: str = ""


@dataclass(frozen=True)
class LifeOperation:
    """An operation on an instance.

    Attributes:
        id: its id.
        project: the project that owns the instance.
        instance: the id of the instance.
        server: the id of the server.
        kind: the kind.
        began_s: the Unix time of its beginning.
        entered_s: the Unix time at which it entered its state.
        state: the last known state.
        parameters: the parameters of an instantiation in the standard's form.
    """

    id: str
    project: str
    instance: str
    server: str
    kind: OperationKind
    began_s: float
    entered_s: float
    state: State = State.PROCESSING
    parameters: dict[str, Any] = field(default_factory=dict)


class Store:
    """The instances without a server, and the operations, of one gateway.

    Args:
        file: the SQLite file, in an existing directory.

    Raises:
        sqlite3.Error: by every method, if the file can't be read or written.
    """

    def __init__(self, file: Path | str) -> None:
        self._database = opened(self, file, _SCHEMA, durable=False)

    def close(self) -> None:
        """Close the database file."""
        self._database.close()

    def add(self, identifier: IdleInstance, *, terminated: bool = False) -> bool:
        """Store an instance without a server, or replace the project's one with its id; return whether it is new.

        Args:
            identifier: the instance.
            terminated: whether a termination leaves the instance; then the project has another bound, and the gateway none.

        Raises:
            Problem: the project or the gateway already has the greatest number of such instances.
        """
        new = self.identifier(identifier.id, identifier.project) is None
        (own,) = self._database.execute("SELECT count(*) FROM identifier WHERE project = ?", (identifier.project,)).fetchone()
        (count,) = self._database.execute("SELECT count(*) FROM identifier").fetchone()
        if new and (own >= MOST_LEFT if terminated else own >= MOST_OF_PROJECT or count >= MOST):
            raise Problem(429, f"there are {own} instances without a server at this site: delete one", "QUOTA_EXCEEDED")
        statement = "INSERT OR REPLACE INTO identifier VALUES (?, ?, ?)"
        self._database.execute(statement, (identifier.id, identifier.project, json.dumps(asdict(identifier))))
        return new

    def change(self, identifier: IdleInstance) -> None:
        """Replace the project's identifier with the same id, if it exists."""
        values = json.dumps(asdict(identifier)), identifier.id, identifier.project
        self._database.execute("UPDATE identifier SET record = ? WHERE id = ? AND project = ?", values)

    def identifiers(self, project: str) -> list[IdleInstance]:
        """Return the instances without a server of a project."""
        rows = self._database.execute("SELECT record FROM identifier WHERE project = ? ORDER BY id", (project,))
        return [IdleInstance(**json.loads(row[0])) for row in rows]

    def identifier(self, identifier: str, project: str) -> IdleInstance | None:
        """Return the instance without a server of a project with an id; `None` if it does not exist."""
        row = self._database.execute("SELECT record FROM identifier WHERE id = ? AND project = ?", (identifier, project)).fetchone()
        return IdleInstance(**json.loads(row[0])) if row is not None else None

    def remove(self, identifier: IdleInstance) -> None:
        """Delete an instance without a server of its project, if it exists."""
        self._database.execute("DELETE FROM identifier WHERE id = ? AND project = ?", (identifier.id, identifier.project))

    def begin(self, operation: LifeOperation) -> None:
        """Store a new operation, and delete the oldest ones of the project above the limit."""
        self._database.execute(
            "INSERT INTO operation (id, project, record) VALUES (?, ?, ?)", (operation.id, operation.project, json.dumps(asdict(operation)))
        )
        self._database.execute(_DELETE_OLD, (operation.project, MOST_OF_PROJECT))

    def end(self, operation: LifeOperation, state: State, now_s: float) -> LifeOperation:
        """Record the final state of an operation, and return it."""
        ended = replace(operation, state=state, entered_s=now_s)
        self._database.execute("UPDATE operation SET record = ? WHERE id = ?", (json.dumps(asdict(ended)), operation.id))
        return ended

    def operations(self, project: str) -> list[LifeOperation]:
        """Return the operations of a project, the oldest first."""
        rows = self._database.execute("SELECT record FROM operation WHERE project = ? ORDER BY number", (project,))
        return [_operation(row[0]) for row in rows]

    def operation(self, identifier: str, project: str) -> LifeOperation | None:
        """Return the operation of a project with an id; `None` if there is none."""
        row = self._database.execute("SELECT record FROM operation WHERE id = ? AND project = ?", (identifier, project)).fetchone()
        return _operation(row[0]) if row is not None else None


def _operation(record: str) -> LifeOperation:
    fields = json.loads(record)
    return LifeOperation(**fields | {"kind": OperationKind(fields["kind"]), "state": State(fields["state"])})
