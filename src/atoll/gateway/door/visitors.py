"""The clients of a port: what each address and each user has of it, and whether it may have more."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from atoll.gateway.door.limits import Bucket, Limits
from atoll.gateway.request.target import Refused

T = TypeVar("T")

REMEMBERED = 8192
"""Addresses, and users, that have nothing open and are remembered."""

KNOWN_ACCEPTS = 10
"""A known address may open so many times the connections that another may."""


class TooMany(Refused):
    """A client has had enough for now."""

    def __init__(self, why: str) -> None:
        super().__init__(429, f"{why}: try again in a moment")


class Connection(Protocol):
    """A connection, as far as its place may be needed for another."""

    @property
    def busy(self) -> bool:
        """Whether a request of it is being answered."""

    def drop(self) -> None:
        """Close it at once."""


class Address:
    """One address, or one network of 64 bits of IPv6 addresses.

    Attributes:
        count: connections that are open.
        strangers: those that have shown no token, the oldest first.
        bytes: of bodies under way.
        accepts: new connections.
        requests: requests of strangers.
        known_until: monotonic seconds.
    """

    __slots__ = ("accepts", "bytes", "count", "known_until", "requests", "strangers")

    def __init__(self, limits: Limits, now: float) -> None:
        self.count = 0
        self.strangers: dict[Connection, None] = {}
        self.bytes = 0
        self.accepts = Bucket(limits.accepts_s, limits.accepts_s * KNOWN_ACCEPTS, now)
        self.requests = Bucket(limits.requests_s, limits.requests, now)
        self.known_until = float("-inf")


class Visitors:
    """All clients of a port.

    Args:
        limits: what each may have.
        member: whether an address is one of the cloud's own, which are always known.
        now: monotonic seconds.
    """

    def __init__(
        self, limits: Limits, member: Callable[[str], bool] = lambda _host: False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._member = member
        self._now = now
        self._addresses: dict[str, Address] = {}
        self._users: dict[str, Bucket] = {}
        self._transfers: dict[str, int] = {}
        self._strangers = Bucket(limits.strangers_requests_s, limits.strangers_requests, now())
        self._oldest: dict[Connection, Address] = {}
        self._count = 0
        self._bytes = 0

    def admit(self, host: str) -> Address | None:
        """Let a new connection in.

        Args:
            host: the client's address.

        Returns:
            What is known of the address, with one connection more; `None` if it may not have one.
        """
        now = self._now()
        key = _network(host)
        address = self._addresses.get(key)
        if address is None:
            address = self._addresses[key] = Address(self.limits, now)
            self._forget(self._addresses, lambda each: not each.count)
        known = address.known_until > now or self._member(host)
        if not address.accepts.take(now, 1 / KNOWN_ACCEPTS if known else 1) or (not known and address.requests.left(now) < 1):
            return None
        if address.count >= self.limits.connections_of_address and not self._make_room(address.strangers):
            return None
        if self._count >= self.limits.connections and not self._make_room(self._oldest):
            return None
        address.count += 1
        self._count += 1
        return address

    def opened(self, address: Address, connection: Connection) -> None:
        """Note a connection that may have to make room for another."""
        address.strangers[connection] = None
        self._oldest[connection] = address

    def entered(self, address: Address, opening: Connection) -> None:
        """Note that the handshake of a connection is over: another stands for it from now on, or it is closed."""
        address.strangers.pop(opening, None)
        self._oldest.pop(opening, None)

    def recognised(self, address: Address, connection: Connection) -> None:
        """Note that a connection, and so its address, has shown a token or a certificate."""
        address.known_until = self._now() + self.limits.known_s
        address.strangers.pop(connection, None)
        self._oldest.pop(connection, None)

    def closed(self, address: Address, connection: Connection | None = None) -> None:
        """Note that a connection is closed."""
        address.count -= 1
        self._count -= 1
        if connection is not None:
            address.strangers.pop(connection, None)
            self._oldest.pop(connection, None)

    def ask(self, address: Address, user: str) -> None:
        """Count a request.

        Args:
            address: where it is from.
            user: whose token it has; empty if it has none.

        Raises:
            TooMany: the user, or the strangers at the address, have had enough.
        """
        now = self._now()
        if user:
            bucket = self._users.get(user)
            if bucket is None:
                bucket = self._users[user] = Bucket(self.limits.user_requests_s, self.limits.user_requests, now)
                self._forget(self._users, lambda each: each.left(now) >= self.limits.user_requests)
            if not bucket.take(now):
                raise TooMany("too many requests of one user")
            return
        if not address.requests.take(now):
            raise TooMany("too many requests without a token from one address")
        if address.known_until <= now and not self._strangers.take(now):
            raise TooMany("too many requests without a token")

    def refused(self, address: Address) -> None:
        """Charge for a request of a stranger that was refused at some cost."""
        address.requests.charge(self.limits.refusal)
        if address.known_until <= self._now():
            self._strangers.charge(self.limits.refusal)

    def signed_in(self, address: Address, connection: Connection) -> None:
        """Note that a sign-in has succeeded: it costs its address nothing."""
        address.requests.give_back(1)
        if address.known_until <= self._now():
            self._strangers.give_back(1)
        self.recognised(address, connection)

    @contextmanager
    def body(self, address: Address, size: int) -> Iterator[None]:
        """Hold a body while it is read and used.

        Args:
            address: where it is from.
            size: bytes at most.

        Raises:
            TooMany: too much is held.
        """
        if address.bytes + size > self.limits.bytes_of_address or self._bytes + size > self.limits.bytes:
            raise TooMany("too many large requests at once")
        address.bytes += size
        self._bytes += size
        try:
            yield
        finally:
            address.bytes -= size
            self._bytes -= size

    @contextmanager
    def transfer(self, user: str) -> Iterator[None]:
        """Count an image that a user sends or fetches.

        Raises:
            TooMany: the user does so with as many as one may.
        """
        count = self._transfers.get(user, 0)
        if count >= self.limits.uploads_of_user:
            raise TooMany(f"{count} images are on their way to or from this user")
        self._transfers[user] = count + 1
        try:
            yield
        finally:
            self._transfers[user] -= 1
            if not self._transfers[user]:
                del self._transfers[user]

    def _make_room(self, connections: Iterable[Connection]) -> bool:
        """Close the oldest connection that nothing is being answered to; False if there is none.

        The connection is closed a moment later. It makes room for one other until then, not for each of many that arrive at once.
        """
        oldest = next((each for each in connections if not each.busy), None)
        if oldest is None:
            return False
        self._oldest.pop(oldest).strangers.pop(oldest)
        oldest.drop()
        return True

    @staticmethod
    def _forget(held: dict[str, T], idle: Callable[[T], bool]) -> None:
        if len(held) > REMEMBERED:
            for key in [key for key, value in held.items() if idle(value)][: REMEMBERED // 2]:
                del held[key]


def _network(host: str) -> str:
    """Return what an address counts as."""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host
