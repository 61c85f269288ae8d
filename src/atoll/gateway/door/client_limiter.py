"""Limits the clients of a port: connections, requests and bytes of each address and each user.

A client is a stranger until it has shown a token that a site has signed, or a certificate. An address is known for `Limits.known_s` after
one of its clients has shown one.
"""

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
"""Number of addresses, and of users, that are remembered without an open connection."""

KNOWN_ACCEPTS = 10
"""Factor by which a known address may open connections faster than an unknown one."""


class TooMany(Refused):
    """A client has reached a limit (HTTP 429)."""

    def __init__(self, why: str) -> None:
        super().__init__(429, f"{why}: try again in a moment")


class Connection(Protocol):
    """A connection that may be closed to make room for another."""

    @property
    def busy(self) -> bool:
        """True if one of its requests is being answered."""

    def drop(self) -> None:
        """Close the connection immediately."""


class Address:
    """One address, or one network of 64 bits of IPv6 addresses.

    Attributes:
        count: the number of open connections.
        strangers: the open connections of strangers, the oldest first.
        bytes: bytes of request bodies in memory.
        accepts: the allowance of new connections.
        requests: the allowance of strangers' requests.
        traces: the allowance of strangers' requests that ask to be recorded.
        known_until: the monotonic time in seconds until which the address is known.
    """

    __slots__ = ("accepts", "bytes", "count", "known_until", "requests", "strangers", "traces")

    def __init__(self, limits: Limits, now: float) -> None:
        self.count = 0
        self.strangers: dict[Connection, None] = {}
        self.bytes = 0
        self.accepts = Bucket(limits.accepts_s, limits.accepts_s * KNOWN_ACCEPTS, now)
        self.requests = Bucket(limits.requests_s, limits.requests, now)
        self.traces = Bucket(limits.strangers_traces_s, limits.strangers_traces, now)
        self.known_until = float("-inf")


class ClientLimiter:
    """The limits of a port, and how much of them its clients use.

    Args:
        limits: the limits.
        member: returns whether an address belongs to a site of the cloud; such addresses are always known.
        now: returns monotonic seconds.
    """

    def __init__(
        self, limits: Limits, member: Callable[[str], bool] = lambda _host: False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._member = member
        self._now = now
        self._addresses: dict[str, Address] = {}
        self._users: dict[str, Bucket] = {}
        self._tracing: dict[str, Bucket] = {}
        self._transfers: dict[str, int] = {}
        self._strangers = Bucket(limits.strangers_requests_s, limits.strangers_requests, now())
        self._oldest: dict[Connection, Address] = {}
        self._count = 0
        self._bytes = 0

    def admit(self, host: str) -> Address | None:
        """Count a new connection.

        Args:
            host: the client's address.

        Returns:
            The client's `Address`; `None` if it may not open another connection.
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
        """Record a connection of a stranger, which may have to make room for another."""
        address.strangers[connection] = None
        self._oldest[connection] = address

    def entered(self, address: Address, opening: Connection) -> None:
        """Forget a connection whose TLS handshake is over; if it succeeded, `opened` records the open connection."""
        address.strangers.pop(opening, None)
        self._oldest.pop(opening, None)

    def recognised(self, address: Address, connection: Connection) -> None:
        """Record that a connection has shown a token or a certificate, so that its address is known."""
        address.known_until = self._now() + self.limits.known_s
        address.strangers.pop(connection, None)
        self._oldest.pop(connection, None)

    def closed(self, address: Address, connection: Connection | None = None) -> None:
        """Forget a connection that was closed."""
        address.count -= 1
        self._count -= 1
        if connection is not None:
            address.strangers.pop(connection, None)
            self._oldest.pop(connection, None)

    def ask(self, address: Address, user: str) -> None:
        """Count a request against the limits of its user or address.

        Args:
            address: the client's address.
            user: the user of the request's token; empty for a stranger.

        Raises:
            TooMany: the user, or the strangers at the address, have reached a limit.
        """
        now = self._now()
        if user:
            bucket = self._users.get(user)
            if bucket is None:
                bucket = self._users[user] = Bucket(self.limits.user_requests_s, self.limits.user_requests, now)
                self._forget(self._users, lambda each: each.left(now) >= self.limits.user_requests)
            if not bucket.take(now):
                raise TooMany("too many requests of this user")
            return
        if not address.requests.take(now):
            raise TooMany("too many requests without a valid token from this address")
        if address.known_until <= now and not self._strangers.take(now):
            raise TooMany("too many requests without a valid token")

    def may_trace(self, address: Address, user: str) -> bool:
        """Count a request that asks to be recorded, and return whether the allowance of its user or address has room for it.

        Args:
            address: the client's address.
            user: the user of the request's token; empty for a stranger.
        """
        now = self._now()
        if not user:
            return address.traces.take(now)
        bucket = self._tracing.get(user)
        if bucket is None:
            bucket = self._tracing[user] = Bucket(self.limits.traces_s, self.limits.traces, now)
            self._forget(self._tracing, lambda each: each.left(now) >= self.limits.traces)
        return bucket.take(now)

    def refused(self, address: Address) -> None:
        """Charge an address for a stranger's request whose refusal was costly."""
        address.requests.charge(self.limits.refusal)
        if address.known_until <= self._now():
            self._strangers.charge(self.limits.refusal)

    def signed_in(self, address: Address, connection: Connection) -> None:
        """Record a successful sign-in, and refund the request to its address."""
        address.requests.give_back(1)
        if address.known_until <= self._now():
            self._strangers.give_back(1)
        self.recognised(address, connection)

    @contextmanager
    def body(self, address: Address, size: int) -> Iterator[None]:
        """Count the bytes of a request body while the context lasts.

        Args:
            address: the client's address.
            size: greatest size of the body in bytes.

        Raises:
            TooMany: the address, or the port, has reached its limit.
        """
        if address.bytes + size > self.limits.bytes_of_address or self._bytes + size > self.limits.bytes:
            raise TooMany("too many bytes in request bodies at once")
        address.bytes += size
        self._bytes += size
        try:
            yield
        finally:
            address.bytes -= size
            self._bytes -= size

    @contextmanager
    def transfer(self, user: str) -> Iterator[None]:
        """Count an image that a user uploads or downloads while the context lasts.

        Raises:
            TooMany: the user has reached the limit.
        """
        count = self._transfers.get(user, 0)
        if count >= self.limits.uploads_of_user:
            raise TooMany(f"this user already transfers {count} images, which is the limit")
        self._transfers[user] = count + 1
        try:
            yield
        finally:
            self._transfers[user] -= 1
            if not self._transfers[user]:
                del self._transfers[user]

    def _make_room(self, connections: Iterable[Connection]) -> bool:
        """Close the oldest of the given connections that has no request under way; return False if all have one.

        The connection is closed a moment later, and makes room for exactly one new connection.
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
    """Return the address to which limits apply: an IPv4 address, or the first 64 bits of an IPv6 address."""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host
