"""The gateway's ledger: copies that it brought, grants that it made on another site's word, and grants that other sites made on its word.

Everything that the gateway grants with its own authority is written here first. So it can be taken back when the owner's right ends, and
nothing else is ever taken back. A thing that is not in the ledger is native: it was made at this site by its owner.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

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
CREATE TABLE IF NOT EXISTS moving (port TEXT PRIMARY KEY, source TEXT NOT NULL, since REAL NOT NULL);
"""


class Loan(NamedTuple):
    """A grant that another site may have made on this site's word.

    Attributes:
        kind: the kind of the resource.
        id: its id.
        project: the project that may use it.
        borrower: the site that made the grant.
        ended: why it has to end; empty while the owner's own grant holds.
        since: when it ended, in seconds since 1970.
    """

    kind: str
    id: str
    project: str
    borrower: str
    ended: str = ""
    since: float = 0.0


class Ledger:
    """The file. What a method wrote is on the disk when it returns, if it is durable.

    Args:
        file: the SQLite file; its directory exists. `:memory:` keeps nothing.
        durable: see `opened`.

    Raises:
        sqlite3.Error: by every method, if the file can't be read or written.
    """

    def __init__(self, file: Path | str = ":memory:", *, durable: bool = True) -> None:
        self._database = opened(self, file, _SCHEMA, durable=durable)
        self._lent = {(kind, identifier) for kind, identifier in self._database.execute("SELECT kind, id FROM loan")}

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # Copies

    def bring(self, kind: str, identifier: str, source: str) -> None:
        """Note that this site's copy was brought from another site."""
        self._database.execute("INSERT OR REPLACE INTO brought VALUES (?, ?, ?)", (kind, identifier, source))

    def is_brought(self, kind: str, identifier: str) -> bool:
        """Return whether the gateway made this site's copy."""
        return self._database.execute("SELECT 1 FROM brought WHERE kind = ? AND id = ?", (kind, identifier)).fetchone() is not None

    def forget(self, kind: str, identifier: str) -> None:
        """Forget a copy that is deleted, and all that was granted on it."""
        for table in ("brought", "grants"):
            self._database.execute(f"DELETE FROM {table} WHERE kind = ? AND id = ?", (kind, identifier))  # noqa: S608 - names of our own

    # Ports on their way

    def begin_move(self, port: str, source: str, now: float) -> None:
        """Note that this site is about to make a copy of a port, to be deleted at its site afterwards."""
        self._database.execute("INSERT OR REPLACE INTO moving VALUES (?, ?, ?)", (port, source, now))

    def end_move(self, port: str) -> None:
        """Note that a port is at one site again."""
        self._database.execute("DELETE FROM moving WHERE port = ?", (port,))

    def moves(self) -> list[tuple[str, str, float]]:
        """Return the ports that may be at two sites: the id, the other site, and when the move began, in seconds since 1970."""
        return list(self._database.execute("SELECT port, source, since FROM moving ORDER BY since"))

    # Grants made here

    def grant(self, kind: str, identifier: str, project: str, actions: Iterable[str], lenders: Iterable[str]) -> None:
        """Note what the gateway is about to grant to a project, and on which sites' word. Earlier lenders are replaced."""
        rows = [(kind, identifier, project, action, lender) for action in actions for lender in lenders]
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            self._database.execute("DELETE FROM grants WHERE kind = ? AND id = ? AND project = ?", (kind, identifier, project))
            self._database.executemany("INSERT INTO grants VALUES (?, ?, ?, ?, ?)", rows)

    def granted(self, kind: str, identifier: str, project: str) -> tuple[str, ...]:
        """The actions that the gateway granted to a project."""
        rows = self._database.execute(
            "SELECT DISTINCT action FROM grants WHERE kind = ? AND id = ? AND project = ? ORDER BY action", (kind, identifier, project)
        )
        return tuple(action for (action,) in rows)

    def lenders(self, kind: str, identifier: str, project: str) -> set[str]:
        """The sites on whose word it was granted."""
        rows = self._database.execute("SELECT lender FROM grants WHERE kind = ? AND id = ? AND project = ?", (kind, identifier, project))
        return {lender for (lender,) in rows}

    def revoke(self, kind: str, identifier: str, project: str) -> None:
        """Forget a grant that was taken back."""
        self._database.execute("DELETE FROM grants WHERE kind = ? AND id = ? AND project = ?", (kind, identifier, project))

    # Grants made elsewhere

    def lend(self, loan: Loan) -> None:
        """Note that another site may grant something on this site's word."""
        self._database.execute("INSERT OR REPLACE INTO loan VALUES (?, ?, ?, ?, ?, ?)", loan)
        self._lent.add((loan.kind, loan.id))

    def is_lent(self, kind: str, identifier: str) -> bool:
        """Whether another site may have granted a use of it. Reads no file."""
        return (kind, identifier) in self._lent

    def lent(self) -> frozenset[tuple[str, str]]:
        """Kind and id of all that is lent. Reads no file."""
        return frozenset(self._lent)

    def loans(self, kind: str | None = None, identifier: str = "") -> list[Loan]:
        """All loans, or those of one thing."""
        where, values = ("WHERE kind = ? AND id = ?", (kind, identifier)) if kind else ("", ())
        rows = self._database.execute(f"SELECT kind, id, project, borrower, ended, since FROM loan {where}", values)  # noqa: S608
        return [Loan(*row) for row in rows]

    def end(self, loan: Loan, why: str, now: float) -> None:
        """Note that a loan has to end. An ended loan stays until its borrower has taken the grant back."""
        self._database.execute(
            "UPDATE loan SET ended = ?, since = CASE WHEN since = 0 THEN ? ELSE since END"
            " WHERE kind = ? AND id = ? AND project = ? AND borrower = ?",
            (why, now, *loan[:4]),
        )

    def settle(self, loan: Loan) -> None:
        """Forget a loan that its borrower has taken back."""
        self._database.execute("DELETE FROM loan WHERE kind = ? AND id = ? AND project = ? AND borrower = ?", loan[:4])
        if not self.loans(loan.kind, loan.id):
            self._lent.discard((loan.kind, loan.id))

    def forget_site(self, site: str) -> None:
        """Forget the loans of a site that has left or was revoked."""
        for loan in self.loans():
            if loan.borrower == site:
                self.settle(loan)
