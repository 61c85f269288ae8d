"""The limits of what clients may have of a gateway, and what keeps to them: buckets of requests, and turns at a service."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much a client may have of a gateway.

    A stranger is whoever has not shown a token that a site has signed. An address counts as known for `known_s` after it has shown one.

    Attributes:
        connections: of all clients.
        connections_of_address: of one address; IPv6 addresses count by their first 64 bits.
        accepts_s: new connections a second of one address that is not known; so many times two at once.
        head_s: seconds for the first line and the headers of a request.
        idle_s: seconds between two requests of a connection that has shown a token.
        stranger_idle_s: the same of one that has not.
        body_s: seconds for a body that is read whole.
        bytes_of_address: of such bodies under way, of one address.
        bytes: the same of all.
        stranger_body: bytes of the body of a request without a token; Keystone takes no larger one.
        requests_s: of strangers, a second, from one address.
        requests: of strangers at once, from one address.
        strangers_requests_s: of strangers at addresses that are not known, a second.
        strangers_requests: of these at once.
        refusal: requests that a refused sign-in counts for: to check a password costs a service much.
        user_requests_s: of one user, a second.
        user_requests: of one user at once.
        uploads_of_user: images that one user sends or fetches at once.
        turns_of_user: requests that one service answers at once for one user.
        turns_of_strangers: requests without a token that one service answers at once.
        turn_s: seconds to wait for a turn.
        known_s: see above.
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


class Bucket:
    """So many things at once, and then so many a second.

    Args:
        rate: a second.
        most: at once.
        now: monotonic seconds.
    """

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float, most: float, now: float) -> None:
        self._rate = rate
        self._most = most
        self._left = most
        self._at = now

    def left(self, now: float) -> float:
        """Return how many are left; less than nothing is a debt."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left

    def take(self, now: float, count: float = 1) -> bool:
        """Take some if at least one is left; a debt may be made."""
        if self.left(now) < 1:
            return False
        self._left -= count
        return True

    def charge(self, count: float) -> None:
        """Take some, whatever is left."""
        self._left -= count

    def give_back(self, count: float) -> None:
        """Return what was taken for nothing."""
        self._left = min(self._most, self._left + count)


class Busy(Exception):  # noqa: N818 - what is so, for a while
    """No turn came in time, or too many wait for one already."""


_MOST_WAITING = 256


class Turns:
    """Who is answered at once, by user and by service; the others wait in their order.

    Args:
        limits: says how many.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: dict[tuple[str, str], int] = {}
        self._waiting: dict[tuple[str, str], deque[asyncio.Future[None]]] = {}

    async def take(self, service: str, user: str) -> Callable[[], None]:
        """Wait for a turn.

        Args:
            service: which.
            user: whose; empty for strangers.

        Returns:
            A function that ends the turn; to call it again does nothing.

        Raises:
            Busy: none came.
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
            raise Busy
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            async with asyncio.timeout(self._limits.turn_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._pass_on(key)  # it came as the wait ended
            if isinstance(error, TimeoutError):
                raise Busy from error
            raise

    def _pass_on(self, key: tuple[str, str]) -> None:
        """Give a turn that has ended to who has waited longest."""
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
