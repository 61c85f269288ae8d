"""The durable record of hand-offs: at the source, of servers that leave; at the destination, of servers that arrive.

Each change is on the disk when its method returns. The states and their order are the argument that a server runs at one site at most; see
`outgoing` and `incoming`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from atoll.gateway.private_database import opened


class Leaving(StrEnum):
    """The states of a hand-off at the source, in their usual order."""

    COPYING = "copying"
    """The server runs here, and its disk is copied ahead."""
    FENCING = "fencing"
    """The server is being locked and stopped. From here on it must not run here until `RETURNING`."""
    FENCED = "fenced"
    """The server is stopped here, and the destination may not start it yet."""
    COMMITTING = "committing"
    """The destination may start the server. Only its answer leads on."""
    STARTED = "started"
    """The destination has started the server: it is deleted here."""
    RETURNING = "returning"
    """The destination will never start the server: it is started again here."""
    DONE = "done"
    """The server is at the destination alone."""
    FAILED = "failed"
    """The server is here alone."""


class Arriving(StrEnum):
    """The states of a hand-off at the destination."""

    PREPARED = "prepared"
    """The disk arrives. The server may not start here."""
    COMMITTED = "committed"
    """The server may start here."""
    STARTED = "started"
    """The server has started here."""
    REFUSED = "refused"
    """The server will never start here by this hand-off: it was revoked, or it can't start."""


ENDED = frozenset((Leaving.DONE, Leaving.FAILED))
"""The states of the source in which nothing is left to do."""


@dataclass(frozen=True)
class Departure:
    """A hand-off, as the source records it.

    Attributes:
        id: the id of the hand-off.
        server: the id of the server.
        project: the project that owns the server.
        site: the destination.
        state: the state.
        active: whether the server ran when the hand-off began.
        wish: the server that the destination is to create.
        disk: the digest of the stopped server's disk; empty before `COMMITTING`.
        reason: the reason of a failure, or of a wait; empty if there is none.
        result: facts for the user, such as the new addresses.
        ended_s: the Unix time at which this site recorded the end; 0 before.
    """

    id: str
    server: str
    project: str
    site: str
    state: Leaving = Leaving.COPYING
    active: bool = True
    wish: Mapping[str, Any] = field(default_factory=dict)
    disk: str = ""
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    ended_s: float = 0.0


@dataclass(frozen=True)
class Arrival:
    """A hand-off, as the destination records it.

    Attributes:
        id: the id of the hand-off.
        server: the id of the server.
        project: the project that owns the server.
        site: the source.
        wish: the server that is to be created, as the source describes it.
        state: the state.
        reason: why the server will not start here; empty otherwise.
        result: facts for the user, such as the new addresses.
    """

    id: str
    server: str
    project: str
    site: str
    wish: Mapping[str, Any]
    state: Arriving = Arriving.PREPARED
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


_SCHEMA = """
CREATE TABLE IF NOT EXISTS departure (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS arrival (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS arrival_state ON arrival (json_extract(record, '$.state'));
CREATE INDEX IF NOT EXISTS departure_server ON departure (json_extract(record, '$.server'));
CREATE INDEX IF NOT EXISTS departure_project ON departure (json_extract(record, '$.project'));
CREATE INDEX IF NOT EXISTS departure_ended ON departure (json_extract(record, '$.ended_s'));
"""

_DELETE_OLD = """
DELETE FROM departure WHERE number IN (
    SELECT number FROM departure WHERE json_extract(record, '$.server') = ? AND json_extract(record, '$.state') IN (?, ?)
    ORDER BY number DESC LIMIT -1 OFFSET ?)
"""
"""The statement that deletes the ended hand-offs of a server except the newest."""

_DELETE_OLD_OF_PROJECT = _DELETE_OLD.replace("$.server", "$.project")
"""The statement that deletes the ended hand-offs of a project except the newest."""

_DATE = """
UPDATE departure SET record = json_set(record, '$.ended_s', ?)
WHERE json_extract(record, '$.state') IN (?, ?) AND coalesce(json_extract(record, '$.ended_s'), 0) = 0
"""
"""The statement that dates the ended hand-offs of earlier versions, which did not record the time."""

_EXPIRE = "DELETE FROM departure WHERE json_extract(record, '$.ended_s') > 0 AND json_extract(record, '$.ended_s') < ?"

_DELETE_REFUSED = """
DELETE FROM arrival WHERE number IN (
    SELECT number FROM arrival WHERE json_extract(record, '$.state') = ? AND json_extract(record, '$.site') = ?
    ORDER BY number DESC LIMIT -1 OFFSET ?)
"""
"""The statement that deletes all refused hand-offs of a source except the newest."""

MOST_REFUSED = 64
"""Greatest number of refused hand-offs of one source that are kept. Without this limit, a malicious source, which never asks to remove a
record, could fill the journal. The answer about a hand-off without a record is the same as about a refused one."""

MOST_ENDED = 4
"""Greatest number of ended hand-offs of one server that are kept: a user can have a server refused as often as the user likes."""

MOST_ENDED_OF_PROJECT = 1024
"""Greatest number of ended hand-offs of one project that are kept: a user can hand off a new server again and again."""

KEPT_S = 7 * 86_400.0
"""Seconds for which an ended hand-off is kept. For this long, this site names the new site of a server to gateways that remember the
server here. A gateway remembers the site of a server for a day (`resolve.locate.REMEMBERED_S`); the rest is for clocks that differ."""


class Journal:
    """The database of hand-offs.

    Args:
        file: the SQLite file, in an existing directory; `:memory:` keeps nothing.
        on_end: called with each hand-off from this site that has ended, after its end is recorded.
        clock: Unix time.

    Raises:
        sqlite3.Error: by every method, if the file can't be read or written.
    """

    def __init__(
        self,
        file: Path | str = ":memory:",
        on_end: Callable[[Departure], None] = lambda _departure: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._on_end = on_end
        self._clock = clock
        self._database = opened(self, file, _SCHEMA, durable=True)
        self._database.execute(_DATE, (clock(), *ENDED))
        self._expire()

    def close(self) -> None:
        """Close the database file."""
        self._database.close()

    # At the source

    def depart(self, departure: Departure) -> None:
        """Record a hand-off at the source, anew or changed; of one that has ended, without the description of the server."""
        if departure.state in ENDED:
            departure = replace(departure, wish={}, ended_s=departure.ended_s or self._clock())
        statement = "INSERT INTO departure (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record"
        self._database.execute(statement, (departure.id, json.dumps(asdict(departure))))
        if departure.state in ENDED:
            self._database.execute(_DELETE_OLD, (departure.server, *ENDED, MOST_ENDED))
            self._database.execute(_DELETE_OLD_OF_PROJECT, (departure.project, *ENDED, MOST_ENDED_OF_PROJECT))
            self._expire()
            self._on_end(departure)

    def move(self, departure: Departure, state: Leaving, **changes: Any) -> Departure:
        """Record that a hand-off has reached a state, and return it."""
        changed = replace(departure, state=state, **changes)
        self.depart(changed)
        return changed

    def _expire(self) -> None:
        self._database.execute(_EXPIRE, (self._clock() - KEPT_S,))

    def departures(self) -> list[Departure]:
        """Return all hand-offs of servers that leave or have left, the oldest first."""
        return self._departures("SELECT record FROM departure ORDER BY number")

    def open_departures(self) -> list[Departure]:
        """Return the hand-offs of servers that leave and have not ended, the oldest first."""
        statement = "SELECT record FROM departure WHERE json_extract(record, '$.state') NOT IN (?, ?) ORDER BY number"
        return self._departures(statement, *ENDED)

    def departure(self, identifier: str) -> Departure:
        """Return the hand-off with an id that exists."""
        return self._departures("SELECT record FROM departure WHERE id = ?", identifier)[0]

    def shown(self, identifier: str, server: str, project: str) -> Departure | None:
        """Return the hand-off with an id if it is that of a server of a project."""
        found = self._departures("SELECT record FROM departure WHERE id = ?", identifier)
        return found[0] if found and (found[0].server, found[0].project) == (server, project) else None

    def latest(self, server: str) -> Departure | None:
        """Return the newest hand-off of a server; `None` if there was none."""
        statement = "SELECT record FROM departure WHERE json_extract(record, '$.server') = ? ORDER BY number DESC LIMIT 1"
        found = self._departures(statement, server)
        return found[0] if found else None

    def _departures(self, statement: str, *values: str) -> list[Departure]:
        records = [json.loads(row[0]) for row in self._database.execute(statement, values)]
        return [Departure(**record | {"state": Leaving(record["state"])}) for record in records]

    # At the destination

    def arrive(self, arrival: Arrival) -> None:
        """Write the record of a new or changed hand-off at the destination, without the description of the server if it has ended."""
        if arrival.state in {Arriving.STARTED, Arriving.REFUSED}:
            arrival = replace(arrival, wish={})
        statement = "INSERT INTO arrival (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record"
        self._database.execute(statement, (arrival.id, json.dumps(asdict(arrival))))
        if arrival.state is Arriving.REFUSED:
            self._database.execute(_DELETE_REFUSED, (Arriving.REFUSED, arrival.site, MOST_REFUSED))

    def settle(self, arrival: Arrival, state: Arriving, **changes: Any) -> Arrival:
        """Record that a hand-off has reached a state, and return it."""
        changed = replace(arrival, state=state, **changes)
        self.arrive(changed)
        return changed

    def arrivals(self) -> list[Arrival]:
        """Return all hand-offs of servers that arrive or have arrived, the oldest first."""
        return self._arrivals("SELECT record FROM arrival ORDER BY number")

    def open_arrivals(self) -> list[Arrival]:
        """Return the hand-offs to this site that have not ended, the oldest first."""
        statement = "SELECT record FROM arrival WHERE json_extract(record, '$.state') IN (?, ?) ORDER BY number"
        return self._arrivals(statement, Arriving.PREPARED, Arriving.COMMITTED)

    def arrival(self, identifier: str) -> Arrival | None:
        """Return the hand-off with an id; `None` if this site has no record of it."""
        found = self._arrivals("SELECT record FROM arrival WHERE id = ?", identifier)
        return found[0] if found else None

    def _arrivals(self, statement: str, *values: str) -> list[Arrival]:
        records = [json.loads(row[0]) for row in self._database.execute(statement, values)]
        return [Arrival(**record | {"state": Arriving(record["state"])}) for record in records]

    def forget(self, identifier: str) -> None:
        """Remove the record of an arrival of which the source needs no answer any more."""
        self._database.execute("DELETE FROM arrival WHERE id = ?", (identifier,))
