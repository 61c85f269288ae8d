"""The limits of a gateway's clients, and the mechanisms that enforce them: token buckets, and turns at a service."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a port's clients.

    A stranger is a client that has not shown a token signed by a site, or a certificate. An address is known for `known_s` after one of its
    clients has shown one. IPv6 addresses with the same first 64 bits are treated as one address.

    Attributes:
        connections: open connections of all clients.
        connections_of_address: open connections of one address.
        accepts_s: new connections per second of one unknown address; a burst may have ten times as many.
        head_s: seconds within which the head of a request must arrive.
        idle_s: seconds between two requests on a connection that has shown a token.
        stranger_idle_s: seconds between two requests on any other connection.
        body_s: seconds within which a body that is read whole must arrive.
        bytes_of_address: bytes of request bodies in memory from one address.
        bytes: bytes of request bodies in memory from all clients.
        stranger_body: bytes of the body of a stranger's request; Keystone accepts no larger one.
        requests_s: strangers' requests per second from one address.
        requests: strangers' requests in one burst from one address.
        strangers_requests_s: strangers' requests per second from all unknown addresses.
        strangers_requests: strangers' requests in one burst from all unknown addresses.
        refusal: number of requests as which a refused sign-in is charged, because the check of a password is costly.
        user_requests_s: requests per second of one user.
        user_requests: requests of one user in one burst.
        uploads_of_user: images that one user uploads or downloads at the same time.
        turns_of_user: requests of one user that one service answers at the same time.
        turns_of_strangers: strangers' requests that one service answers at the same time.
        turn_s: seconds to wait for a turn at a service.
        known_s: seconds for which an address remains known.
        traces_s: requests per second of one user that are recorded because they ask for it (`atoll.trace`).
        traces: such requests of one user in one burst.
        strangers_traces_s: strangers' requests per second from one address that are recorded because they ask for it.
        strangers_traces: such requests from one address in one burst.
    """

    connections: int = 2048
    connections_of_address: int = 256
    accepts_s: float = 20.0
    head_s: float = 10.0
    idle_s: float = 600.0
    stranger_idle_s: float = 15.0
    body_s: float = 30.0
    bytes_of_address: int = 16 << 20
    bytes: int = 64 << 20
    stranger_body: int = 128 << 10
    requests_s: float = 20.0
    requests: int = 200
    strangers_requests_s: float = 20.0
    strangers_requests: int = 200
    refusal: int = 10
    user_requests_s: float = 500.0
    user_requests: int = 2000
    uploads_of_user: int = 4
    turns_of_user: int = 12
    turns_of_strangers: int = 4
    turn_s: float = 30.0
    known_s: float = 3600.0
    traces_s: float = 20.0
    traces: int = 1000
    strangers_traces_s: float = 2.0
    strangers_traces: int = 100


CLIENT_LIMITS = Limits()
"""The limits of the public port."""


class Bucket:
    """A token bucket, which bounds a rate and a burst.

    Args:
        rate: tokens per second that flow in.
        capacity: the greatest number of tokens.
        now: the monotonic time in seconds.
    """

    __slots__ = ("_at", "_capacity", "_left", "_rate")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._left = capacity
        self._at = now

    def left(self, now: float) -> float:
        """Return the number of tokens left; a negative number is a debt."""
        self._left = min(self._capacity, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left

    def take(self, now: float, count: float = 1) -> bool:
        """Take `count` tokens and return True if at least one is left; the bucket may go into debt."""
        if self.left(now) < 1:
            return False
        self._left -= count
        return True

    def charge(self, count: float) -> None:
        """Take tokens, however many are left."""
        self._left -= count

    def give_back(self, count: float) -> None:
        """Put tokens back into the bucket."""
        self._left = min(self._capacity, self._left + count)


class BusyError(Exception):
    """No turn at a service became free in time, or too many requests already wait for one."""


_MOST_WAITING = 256
"""Greatest number of requests of a user that wait for a turn at a service."""


class Turns:
    """Limits the number of requests of one user that a service answers at the same time.

    Further requests wait in the order of their arrival.

    Args:
        limits: the number of turns, and how long a request waits for one.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: dict[tuple[str, str], int] = {}
        self._waiting: dict[tuple[str, str], deque[asyncio.Future[None]]] = {}

    async def take(self, service: str, user: str) -> Callable[[], None]:
        """Wait for a turn.

        Args:
            service: the service.
            user: the id of the user; empty for strangers.

        Returns:
            A function that ends the turn; further calls of it do nothing.

        Raises:
            BusyError: no turn became free in time.
        """
        key = service, user
        taken = self._taken.get(key, 0)
        if taken < (self._limits.turns_of_user if user else self._limits.turns_of_strangers):
            self._taken[key] = taken + 1
        else:
            await self._wait(key)
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._pass_on(key)

        return end

    async def _wait(self, key: tuple[str, str]) -> None:
        waiting = self._waiting.setdefault(key, deque())
        if len(waiting) >= _MOST_WAITING:
            raise BusyError
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            async with asyncio.timeout(self._limits.turn_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._pass_on(key)  # the turn became free as the wait ended
            if isinstance(error, TimeoutError):
                raise BusyError from error
            raise

    def _pass_on(self, key: tuple[str, str]) -> None:
        """Give a turn that has ended to the request that has waited longest."""
        waiting = self._waiting.get(key, deque())
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._waiting.pop(key, None)
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]
