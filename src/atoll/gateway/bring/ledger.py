"""The gateway's ledger of copies, grants and unfinished work.

It records copies, unfinished creations and moves of ports, and two kinds of grants: grants that the gateway made because other sites grant
the same, and *loans*, grants that other sites made because this site grants the same.

Every grant that the gateway makes with its own authority is recorded here first. So the gateway can revoke the grant when the owner's
grant ends, and revokes no other. A resource that is not in the ledger is native: its owner created it at this site.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from atoll.gateway.private_database import opened

_SCHEMA = """
CREATE TABLE IF NOT EXISTS brought (kind TEXT NOT NULL, id TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS grants (
    kind TEXT NOT NULL, id TEXT NOT NULL, project TEXT NOT NULL, action TEXT NOT NULL, lender TEXT NOT NULL,
    PRIMARY KEY (kind, id, project, action, lender)
);
CREATE TABLE IF NOT EXISTS loan (
    kind TEXT NOT NULL, id TEXT NOT NULL, project TEXT NOT NULL, borrower TEXT NOT NULL, ended TEXT NOT NULL DEFAULT '',
    since REAL NOT NULL DEFAULT 0, PRIMARY KEY (kind, id, project, borrower)
);
CREATE TABLE IF NOT EXISTS creation (
    number INTEGER PRIMARY KEY AUTOINCREMENT, abandoned INTEGER NOT NULL DEFAULT 0, kind TEXT NOT NULL, id TEXT NOT NULL,
    source TEXT NOT NULL, service TEXT NOT NULL, target TEXT NOT NULL, lasting TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS moving (port TEXT PRIMARY KEY, source TEXT NOT NULL, since REAL NOT NULL);
"""


class Loan(NamedTuple):
    """A grant that another site may have made because this site grants it.

    Attributes:
        kind: the kind of the resource.
        id: the resource's id.
        project: the project that may use it.
        borrower: the site that made the grant.
        ended: the reason why the grant has to end; empty while the owner's own grant holds.
        since: the end of the owner's grant, in seconds since 1970.
    """

    kind: str
    id: str
    project: str
    borrower: str
    ended: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class CopyCreation:
    """A resource that the gateway creates at its own site for a request.

    Attributes:
        kind: the kind of the resource.
        id: the resource's id; the name of a key pair.
        source: the site from which the resource is copied.
        service: the service that has it.
        target: the path, and perhaps the query, at which the service shows and deletes the resource.
        lasting: the fields that never change while the resource exists, with their values.
        number: the number of the creation's entry in the ledger; 0 before it has one.
    """

    kind: str
    id: str
    source: str
    service: str
    target: str
    lasting: Mapping[str, Any]
    number: int = 0


class Ledger:
    """The ledger's database. A change is on the disk when its method returns, if the database is durable.

    Args:
        file: the SQLite file, in an existing directory; `:memory:` keeps nothing.
        durable: see `opened`.

    Raises:
        sqlite3.Error: by every method, if the file can't be read or written.
    """

    def __init__(self, file: Path | str = ":memory:", *, durable: bool = True) -> None:
        self._database = opened(self, file, _SCHEMA, durable=durable)
        # An earlier process has not ended them.
        self._database.execute("UPDATE creation SET abandoned = 1 WHERE NOT abandoned")
        self._lent = {(kind, identifier) for kind, identifier in self._database.execute("SELECT kind, id FROM loan")}
        self._abandoned = {each.number: (each.kind, each.id) for each in self.abandoned_creations()}

    def close(self) -> None:
        """Close the database file."""
        self._database.close()

    # Copies

    def bring(self, kind: str, identifier: str, source: str) -> None:
        """Record that this site's resource is a copy that was brought from another site."""
        self._database.execute("INSERT OR REPLACE INTO brought VALUES (?, ?, ?)", (kind, identifier, source))

    def is_brought(self, kind: str, identifier: str) -> bool:
        """Return whether this site's resource is a copy that the gateway has brought."""
        return self._database.execute("SELECT 1 FROM brought WHERE kind = ? AND id = ?", (kind, identifier)).fetchone() is not None

    def forget(self, kind: str, identifier: str) -> None:
        """Remove the entries of a copy that is deleted, and of all grants on it."""
        for table in ("brought", "grants"):
            self._database.execute(f"DELETE FROM {table} WHERE kind = ? AND id = ?", (kind, identifier))

    # Resources that are being created

    def begin_creation(self, creation: CopyCreation) -> CopyCreation:
        """Record that the gateway is about to create a resource; return the creation with its number."""
        values = (creation.kind, creation.id, creation.source, creation.service, creation.target, json.dumps(dict(creation.lasting)))
        statement = "INSERT INTO creation (kind, id, source, service, target, lasting) VALUES (?, ?, ?, ?, ?, ?)"
        return replace(creation, number=self._database.execute(statement, values).lastrowid or 0)

    def end_creation(self, creation: CopyCreation) -> None:
        """Remove the entry of a creation that needs no undoing any more."""
        self._abandoned.pop(creation.number, None)
        self._database.execute("DELETE FROM creation WHERE number = ?", (creation.number,))

    def abandon_creation(self, creation: CopyCreation) -> None:
        """Mark a creation as abandoned, so that `abandoned_creations` returns it."""
        self._database.execute("UPDATE creation SET abandoned = 1 WHERE number = ?", (creation.number,))
        self._abandoned[creation.number] = creation.kind, creation.id

    def resume_creation(self, creation: CopyCreation) -> None:
        """Record that a request goes on with an abandoned creation."""
        self._database.execute("UPDATE creation SET abandoned = 0 WHERE number = ?", (creation.number,))
        self._abandoned.pop(creation.number, None)

    def abandoned(self) -> frozenset[tuple[str, str]]:
        """Return kind and id of all resources whose creation was abandoned, without reading the file."""
        return frozenset(self._abandoned.values())

    def abandoned_creations(self) -> list[CopyCreation]:
        """Return the creations of earlier processes and those whose outcome is unknown, oldest first."""
        rows = self._database.execute(
            "SELECT kind, id, source, service, target, lasting, number FROM creation WHERE abandoned ORDER BY number"
        )
        return [
            CopyCreation(kind, identifier, source, service, target, json.loads(lasting), number)
            for kind, identifier, source, service, target, lasting, number in rows
        ]

    def abandoned_creation(self, kind: str, identifier: str) -> CopyCreation | None:
        """Return the oldest abandoned creation of a resource; `None` if there is none, without reading the file."""
        if (kind, identifier) not in self._abandoned.values():
            return None
        return next((each for each in self.abandoned_creations() if (each.kind, each.id) == (kind, identifier)), None)

    # Ports that are being moved

    def begin_move(self, port: str, source: str, now: float) -> None:
        """Record that this site is about to create a copy of a port, after which the port is deleted at its own site."""
        self._database.execute("INSERT OR REPLACE INTO moving VALUES (?, ?, ?)", (port, source, now))

    def end_move(self, port: str) -> None:
        """Record that a port is at one site again."""
        self._database.execute("DELETE FROM moving WHERE port = ?", (port,))

    def moves(self) -> list[tuple[str, str, float]]:
        """Return the ports that may be at two sites: the id, the other site, and the beginning of the move, in seconds since 1970."""
        return list(self._database.execute("SELECT port, source, since FROM moving ORDER BY since"))

    # Grants made here

    def grant(self, kind: str, identifier: str, project: str, actions: Iterable[str], lenders: Iterable[str]) -> None:
        """Record a grant that the gateway is about to make to a project, and the sites on which it is based; replaces earlier records."""
        rows = [(kind, identifier, project, action, lender) for action in actions for lender in lenders]
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            self._database.execute("DELETE FROM grants WHERE kind = ? AND id = ? AND project = ?", (kind, identifier, project))
            self._database.executemany("INSERT INTO grants VALUES (?, ?, ?, ?, ?)", rows)

    def granted(self, kind: str, identifier: str, project: str) -> tuple[str, ...]:
        """Return the actions that the gateway has granted to a project."""
        rows = self._database.execute(
            "SELECT DISTINCT action FROM grants WHERE kind = ? AND id = ? AND project = ? ORDER BY action", (kind, identifier, project)
        )
        return tuple(action for (action,) in rows)

    def lenders(self, kind: str, identifier: str, project: str) -> set[str]:
        """Return the sites on which a grant is based."""
        rows = self._database.execute("SELECT lender FROM grants WHERE kind = ? AND id = ? AND project = ?", (kind, identifier, project))
        return {lender for (lender,) in rows}

    def revoke(self, kind: str, identifier: str, project: str) -> None:
        """Remove the entry of a grant that was revoked."""
        self._database.execute("DELETE FROM grants WHERE kind = ? AND id = ? AND project = ?", (kind, identifier, project))

    # Grants made elsewhere

    def lend(self, loan: Loan) -> None:
        """Record that another site may grant a use of a resource because this site grants it."""
        self._database.execute("INSERT OR REPLACE INTO loan VALUES (?, ?, ?, ?, ?, ?)", loan)
        self._lent.add((loan.kind, loan.id))

    def is_lent(self, kind: str, identifier: str) -> bool:
        """Return whether another site may have granted a use of a resource, without reading the file."""
        return (kind, identifier) in self._lent

    def lent(self) -> frozenset[tuple[str, str]]:
        """Return kind and id of all resources that are lent, without reading the file."""
        return frozenset(self._lent)

    def loans(self, kind: str | None = None, identifier: str = "") -> list[Loan]:
        """Return all loans, or the loans of one resource."""
        where, values = ("WHERE kind = ? AND id = ?", (kind, identifier)) if kind else ("", ())
        rows = self._database.execute(f"SELECT kind, id, project, borrower, ended, since FROM loan {where}", values)
        return [Loan(*row) for row in rows]

    def end(self, loan: Loan, why: str, now: float) -> None:
        """Record that a loan has to end. Its entry stays until the borrower has revoked the grant."""
        self._database.execute(
            "UPDATE loan SET ended = ?, since = CASE WHEN since = 0 THEN ? ELSE since END"
            " WHERE kind = ? AND id = ? AND project = ? AND borrower = ?",
            (why, now, *loan[:4]),
        )

    def settle(self, loan: Loan) -> None:
        """Remove a loan whose borrower has revoked the grant."""
        self._database.execute("DELETE FROM loan WHERE kind = ? AND id = ? AND project = ? AND borrower = ?", loan[:4])
        if not self.loans(loan.kind, loan.id):
            self._lent.discard((loan.kind, loan.id))

    def forget_site(self, site: str) -> None:
        """Remove the loans of a site that has left or was revoked."""
        for loan in self.loans():
            if loan.borrower == site:
                self.settle(loan)
