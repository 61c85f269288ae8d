"""The log of one database in Redis: a stream of transactions; each one is certified (checked for conflicts) before it is appended.

The keys `{NAME}:log`, `:meta`, `:slots`, `:snapshot` and `:turn` share a hash tag, so that a Redis Cluster keeps them together. Each
change of the log is one Lua script, which Redis executes atomically; lua/append.lua describes the protocol.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, NamedTuple, TypeVar

import redis

from atoll.stores import server
from atoll.stores.entry import Entry
from atoll.stores.errors import LostTail, OutcomeUnknown, RedisUnreachable, StoreError, WrongLog
from atoll.stores.fit import State, objection
from atoll.stores.metrics import Metrics
from atoll.stores.url import Settings

FORMAT = "1"
"""Version of the log's encoding and protocol. Sites with different versions can't share a log."""

MOST_ENTRIES = 10_000
"""Greatest number of entries that one certification checks; a replica that is further behind catches up first."""

READ_ENTRIES = 500
"""Greatest number of entries that one read returns."""

RETRY_S = 0.05
TURN_TRIPS = 8
"""Round trips for which the log reserves the next append for one site (a *turn*): enough to catch up, replay and send."""

_TRANSIENT = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.exceptions.MasterDownError)
_TRANSIENT_WORDS = ("NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN")


def _passes(error: redis.RedisError) -> bool:
    """Return whether an error is likely to be temporary: a broken connection, a server that is still loading its data, or a failover."""
    if isinstance(error, redis.AuthenticationError):
        return False
    return isinstance(error, _TRANSIENT) or str(error).startswith(_TRANSIENT_WORDS)


T = TypeVar("T")


class Candidate(NamedTuple):
    """A transaction that a site sends to the log for certification."""

    txid: bytes
    writes: bytes
    """Keys that the transaction wrote."""
    relies: bytes
    """Keys that no other transaction may have written after `since`."""
    payload: bytes
    """Encoded changes of the transaction; empty if it has changed nothing."""
    since: int
    """Position in the log after which no other transaction may have written the keys in `relies`."""
    seen: int
    """Number of earlier transactions of the same group whose effects this transaction could read."""


class Certificate(NamedTuple):
    """The log's answer to a group of candidates."""

    status: str
    """Status that the script returned; lua/append.lua lists the possible ones."""
    head: int
    """Position of the log's last entry before the call."""
    accepted: int
    """Number of candidates, from the first, that are now in the log."""
    news: list[Entry]
    """Entries of other sites that the replica lacks; without the entries that this call appended."""


class Attached(NamedTuple):
    """The description of a log that a site receives when it opens the log."""

    slot: int
    """Number that identifies the site in the log, from 0. The ids of rows that the site inserts are congruent to it modulo `stride`."""
    generation: str
    """Random name that changes when the log is made anew."""
    stride: int
    """Greatest number of sites of the log."""


@functools.cache
def _lua(name: str) -> str:
    return (resources.files("atoll.stores") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


class Log:
    """One process's client of the log of one database."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.name = settings.log
        self._metrics = metrics
        self._who = uuid.uuid4().bytes
        self._client = server.connect(settings)
        log, meta, slots, snapshot, turn = (f"{{{settings.log}}}:{part}" for part in ("log", "meta", "slots", "snapshot", "turn"))
        self._log, self._meta, self._slots, self._snapshot, self._turn = log, meta, slots, snapshot, turn
        self._digests: dict[str, str] = {}
        self._turn_ms = 1000

    def __repr__(self) -> str:
        return f"log {self.name} at {self.settings.server}"

    def attach(self, *, create: bool) -> Attached:
        """Check the server and the log, create a missing log if `create` is true, and reserve the site's number (`Attached.slot`).

        Raises:
            Refusal: the server or the log is not usable; nothing was changed.
            RedisUnreachable: Redis does not answer.
        """
        self._ask(lambda: server.check(self._client, self.settings))
        settings = self.settings
        arguments = (settings.cloud, FORMAT, uuid.uuid4().hex, settings.stride, settings.site, int(create))
        status, *rest = self._ask(lambda: self._run("attach", (self._log, self._meta, self._slots), arguments))
        match status:
            case b"OK":
                return Attached(rest[0], rest[1].decode(), rest[2])
            case b"ABSENT":
                raise LostTail(f"{self}: this log is missing, but {settings.replica} is a replica of it: Redis has lost the log: reseed it")
            case b"ALIEN":
                raise WrongLog(f"{self}: the key {self._log} or {self._meta} is not a log: choose another name or Redis database")
            case b"CLOUD":
                raise WrongLog(f"{self}: it belongs to cloud {rest[0].decode()!r}, not {settings.cloud!r}: choose another name or database")
            case b"FORMAT":
                raise WrongLog(f"{self}: its format is {rest[0].decode()}, and this version reads {FORMAT}: run the version that made it")
            case _:
                raise WrongLog(f"{self}: all {rest[0].decode()} slots are taken: a log with more sites is created with a larger stride")

    def append(self, generation: str, base: tuple[int, bytes], group: Sequence[Candidate], *, strict: bool) -> Certificate:
        """Send a group of transactions in one round trip, and return the log's certificate. If no answer arrives, send the group again.

        The log recognises transactions by their ids, and appends none twice.

        Args:
            generation: the replica's generation.
            base: the replica's position and the id of its last transaction.
            group: the transactions in order.
            strict: whether the log must refuse a transaction that has read the effects of another transaction in its group, unless it has
                also read all entries that the log has before the group.

        Raises:
            OutcomeUnknown: Redis did not answer within `Settings.timeout` seconds. The log may or may not contain the group.
        """
        arguments: list[Any] = [generation, *base, self._who, self._turn_ms, int(strict), MOST_ENTRIES]
        for candidate in group:
            arguments += candidate
        began = time.monotonic()
        while True:
            try:
                return self._append_once(arguments)
            except redis.RedisError as error:
                if not _passes(error):
                    raise OutcomeUnknown(f"{self}: Redis refuses: {error}; whether the transaction is in the log is unknown") from error
                if time.monotonic() - began > self.settings.timeout:
                    message = f"{self}: no answer for {self.settings.timeout:g} s; whether the transaction is in the log is unknown"
                    raise OutcomeUnknown(message) from error
                time.sleep(RETRY_S)

    def _append_once(self, arguments: Sequence[Any]) -> Certificate:
        began = time.monotonic()
        status, head, accepted, news = self._run("append", (self._log, self._meta, self._turn), arguments, self.settings.wait)
        seconds = time.monotonic() - began
        self._metrics.round_trip_ms = seconds * 1000
        self._turn_ms = max(50, int(seconds * 1000 * TURN_TRIPS))
        return Certificate(status.decode(), head, accepted, [Entry(*entry) for entry in news])

    def _run(
        self,
        name: str,
        keys: Sequence[str],
        arguments: Sequence[Any],
        wait: int = 0,
        matters: Callable[[Any], object] = lambda _answer: True,
    ) -> Any:
        """Run a script, and in the same round trip wait until `wait` Redis replicas have confirmed its changes.

        Args:
            name: the name of the script.
            keys: its keys.
            arguments: its arguments.
            wait: the number of Redis replicas.
            matters: returns whether an answer needs the confirmation.

        Raises:
            redis.RedisError: Redis does not answer, or too few of its replicas have confirmed.
        """
        digest = self._digests.get(name) or self._load(name)
        try:
            return self._run_digest(digest, keys, arguments, wait, matters)
        except redis.exceptions.NoScriptError:  # the server was restarted, or another server has replaced it
            return self._run_digest(self._load(name), keys, arguments, wait, matters)

    def _load(self, name: str) -> str:
        digest: str = self._client.script_load(_lua(name))
        return self._digests.setdefault(name, digest)

    def _run_digest(self, digest: str, keys: Sequence[str], arguments: Sequence[Any], wait: int, matters: Callable[[Any], object]) -> Any:
        if not wait:
            return self._client.evalsha(digest, len(keys), *keys, *arguments)
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.evalsha(digest, len(keys), *keys, *arguments)
        pipeline.execute_command("WAIT", wait, 1000)
        answer, confirmed = pipeline.execute()
        if confirmed < wait and matters(answer):
            raise redis.TimeoutError(f"{confirmed} of {wait} Redis replicas have confirmed")
        return answer

    def _ask(self, question: Callable[[], T]) -> T:
        """Send a command that may safely be repeated, and return its answer.

        Raises:
            RedisUnreachable: Redis does not answer.
            StoreError: Redis refuses the command, and a repetition would not help.
        """
        try:
            return question()
        except redis.AuthenticationError as error:
            raise WrongLog(f"{self}: the server refuses the user name or password of the URL: {error}") from error
        except redis.RedisError as error:
            if _passes(error):
                raise RedisUnreachable(f"{self}: can't be reached: {error}") from error
            raise StoreError(f"{self}: Redis refuses: {error}") from error

    def has_news(self, after: int, block_ms: int) -> bool:
        """Wait at most `block_ms` milliseconds for an entry after a position; return whether the log has one.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        return bool(self._ask(lambda: self._client.xread({self._log: f"{after}-0"}, count=1, block=block_ms)))

    def entries(self, generation: str, position: tuple[int, bytes]) -> list[Entry]:
        """Return the next entries after a replica's position, at most `READ_ENTRIES`.

        With `Settings.wait`, entries that too few Redis replicas have confirmed are not returned. Otherwise a replica could apply entries
        of a master that another server has replaced already.

        Args:
            generation: the replica's generation.
            position: the replica's position and the id of its last transaction.

        Raises:
            Refusal: the log does not contain the replica's entries.
            RedisUnreachable: Redis does not answer, or too few of its replicas have confirmed the entries.
        """
        wait = self.settings.wait
        arguments = (generation, *position, READ_ENTRIES, int(wait > 0))
        status, head, news = self._ask(lambda: self._run("news", (self._log, self._meta), arguments, wait, lambda answer: answer[2]))
        if refusal := objection(status.decode(), self, self.settings.replica, position[0], head):
            raise refusal
        return [Entry(*entry) for entry in news]

    def state(self, position: int) -> State:
        """Return the state of the log relative to a position.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        generation, head, first, txid = self._ask(lambda: self._run("state", (self._log, self._meta), (position,)))
        return State(generation.decode(), head, first, txid)

    def snapshot(self) -> bytes | None:
        """Return the newest snapshot, the content of a SQLite file; `None` if the log has no snapshot.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        found: Any = self._ask(lambda: self._client.get(self._snapshot))
        return bytes(found) if found else None

    def compact(self, generation: str, position: tuple[int, bytes], first: int, snapshot: bytes) -> int:
        """Store a snapshot, and delete older entries.

        Args:
            generation: the replica's generation.
            position: the snapshot's position and the id of its last transaction.
            first: the first entry to keep.
            snapshot: a SQLite file.

        Returns:
            The number of deleted entries; -1 if the snapshot does not belong to this log, so that nothing was changed.
        """
        keys = (self._log, self._meta, self._snapshot)
        return int(self._ask(lambda: self._run("compact", keys, (generation, *position, first, snapshot))))

    def heal(self, generation: str, head: tuple[int, bytes], lost: Sequence[Entry]) -> bool:
        """Append entries that the log has lost, if its last entry is still at `head`; return whether they were appended."""
        arguments = [generation, *head, *(part for entry in lost for part in (entry.txid, entry.keys, entry.payload))]
        return bool(self._ask(lambda: self._run("heal", (self._log, self._meta), arguments)))

    def replace(self, generation: str, stride: int, head: int, snapshot: bytes, entries: Sequence[Entry]) -> bool:
        """Make the log anew, if its last entry is still at `head`; return whether it was made anew.

        Args:
            generation: the new log's generation.
            stride: the new log's stride.
            head: the position that the log's last entry must have now; 0 if the log must have no entry.
            snapshot: a SQLite file.
            entries: the newest entries; the position of the last entry is that of the snapshot.
        """
        arguments = [self.settings.cloud, FORMAT, generation, stride, head or "", snapshot, entries[0].n]
        arguments += [part for entry in entries for part in (entry.txid, entry.keys, entry.payload)]
        keys = (self._log, self._meta, self._snapshot, self._turn)
        return bool(self._ask(lambda: self._run("replace", keys, arguments)))

    def close(self) -> None:
        """Close the connections to Redis."""
        self._client.close()
