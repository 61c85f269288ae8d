"""The directory of the bus: for each topic that this node sends to, the servers that listen now.

A server declares a Zenoh liveliness token for each topic. Zenoh removes the token when the server's process dies or, after the lease, when
its link breaks. A sender watches only the tokens of the topics that it uses.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Collection
from typing import Any

import zenoh

from atoll.bus.frames import Instance
from atoll.bus.keys import Keys, TopicKey, read_listener

LOG = logging.getLogger(__name__)

_FIRST_LOOK_S = 2.0
"""Seconds to wait, at the first use of a topic, for the answers of routers, which may be far away."""

_SMOOTHING = 0.2
"""The weight of the newest round-trip time in the mean (RFC 6298 takes 1/8)."""


_MEASURE_EVERY_S = 5.0


class Topic:
    """The servers of one topic.

    Attributes:
        key: kind, exchange and name of the topic.
    """

    def __init__(self, key: TopicKey = ("rpc", "", "")) -> None:
        self.key = key
        self._names: dict[Instance, str] = {}
        self._round_trip_s: dict[Instance, float] = {}
        self._measured_at: dict[Instance, float] = {}
        self._changed = threading.Condition()
        # A turn counter for each name: with one for all, messages that alternate between two names would always reach the same servers.
        self._turns: dict[str | None, itertools.count[int]] = {}
        self._subscription: Any = None
        self._looking = False
        self._went_meanwhile: set[Instance] = set()

    def watch(self, session: zenoh.Session, pattern: str) -> None:
        """Follow the presence tokens that match `pattern`; return when the tokens that exist now are known."""
        self._looking = True
        self._subscription = session.liveliness().declare_subscriber(
            pattern, zenoh.handlers.Callback(self._on_token, indirect=False), history=True
        )
        for reply in session.liveliness().get(pattern, timeout=_FIRST_LOOK_S):
            if reply.ok is not None:
                self._on_found(reply.ok)
        with self._changed:
            self._looking = False
            self._went_meanwhile.clear()

    def _on_token(self, sample: zenoh.Sample) -> None:
        found = _read(sample)
        if found is None:
            return
        name, instance = found
        if sample.kind == zenoh.SampleKind.PUT:
            self.add(name, instance)
        else:
            self.remove(instance)

    def _on_found(self, sample: zenoh.Sample) -> None:
        """Add a server from the first query's replies, unless it has left since: its reply may arrive after the notice of its departure."""
        found = _read(sample)
        with self._changed:
            if found is not None and found[1] not in self._went_meanwhile:
                self.add(*found)

    def add(self, name: str, instance: Instance) -> None:
        """Add a server to those that listen."""
        with self._changed:
            # Replace the dictionary instead of changing it: readers take no lock.
            self._names = {**self._names, instance: name}
            self._went_meanwhile.discard(instance)
            self._changed.notify_all()

    def remove(self, instance: Instance) -> None:
        """Remove a server from those that listen."""
        with self._changed:
            self._names = {known: name for known, name in self._names.items() if known != instance}
            self._round_trip_s.pop(instance, None)
            self._measured_at.pop(instance, None)
            if self._looking:
                self._went_meanwhile.add(instance)
            self._changed.notify_all()

    def __contains__(self, instance: Instance) -> bool:
        return instance in self._names

    def name_of(self, instance: Instance) -> str | None:
        """Return the name of a server that listens; `None` if it does not listen."""
        return self._names.get(instance)

    def named(self, name: str | None) -> list[Instance]:
        """Return the servers with this name; `None` selects all."""
        return [instance for instance, known in self._names.items() if name is None or known == name]

    def names(self) -> set[str]:
        """Return the names of all listeners."""
        return set(self._names.values())

    def choose(self, name: str | None, avoid: Collection[Instance], *, nearest: bool) -> Instance | None:
        """Return the server for the next message, or `None` if nobody listens.

        Args:
            name: the only name to consider; `None` for any.
            avoid: the servers that refused the message.
            nearest: choose the server with the shortest round trip, unmeasured ones first; otherwise the servers take turns.
        """
        candidates = [instance for instance in self.named(name) if instance not in avoid]
        if not candidates:
            return None
        if nearest:
            return min(candidates, key=lambda instance: self._round_trip_s.get(instance, 0.0))
        if len(candidates) == 1:
            return candidates[0]
        turns = self._turns.setdefault(name, itertools.count())
        return candidates[next(turns) % len(candidates)]

    def measured(self, instance: Instance, seconds: float) -> None:
        """Record the seconds that an answer of `instance` took."""
        self._measured_at[instance] = time.monotonic()
        known = self._round_trip_s.get(instance)
        self._round_trip_s[instance] = seconds if known is None else known + _SMOOTHING * (seconds - known)

    def wants_measurement(self, instance: Instance) -> bool:
        """Return whether the last measurement of a server is older than `_MEASURE_EVERY_S`."""
        measured_at = self._measured_at.get(instance)
        return measured_at is None or time.monotonic() - measured_at > _MEASURE_EVERY_S

    def wait_for_change(self, seconds: float | None) -> None:
        """Wait until a server appears or disappears, at most `seconds` seconds."""
        with self._changed:
            self._changed.wait(seconds)


def _read(sample: zenoh.Sample) -> tuple[str, Instance] | None:
    try:
        return read_listener(str(sample.key_expr))
    except ValueError:
        LOG.warning("dropped a presence token that is not one of a listener: %s", sample.key_expr)
        return None


class Directory:
    """The topics that this node sends to."""

    def __init__(self, session: zenoh.Session, keys: Keys) -> None:
        self._session = session
        self._keys = keys
        self._topics: dict[str, Topic] = {}
        self._lock = threading.Lock()

    def topic(self, kind: str, exchange: str, topic: str) -> Topic:
        """Return the servers of a topic, which is watched from its first use on."""
        pattern = self._keys.listeners(kind, exchange, topic)
        found = self._topics.get(pattern)
        if found is not None:
            return found
        with self._lock:
            if pattern not in self._topics:
                new = Topic((kind, exchange, topic))
                new.watch(self._session, pattern)
                self._topics[pattern] = new
            return self._topics[pattern]

    def known(self, kind: str, exchange: str, topic: str) -> Topic | None:
        """Return the servers of a topic if this node has used it, else `None`."""
        return self._topics.get(self._keys.listeners(kind, exchange, topic))
