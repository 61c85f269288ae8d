"""Open and closed loops of HTTP requests, from one thread with asyncio and aiohttp.

Latencies are measured from the intended start of a request. If the generator or the server is late, the latencies of requests that should
have started meanwhile include their waiting. Otherwise a stall would appear in only one sample (coordinated omission). In a closed loop, a
request should start when the user's think time is over.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from atoll.bench.load.arrivals import arrivals


@dataclass(frozen=True)
class Call:
    """A request that is sent repeatedly.

    Attributes:
        name: the name of the operation, for the samples.
        method: the HTTP method.
        url: the whole URL.
        headers: the headers.
        body: the body, sent as JSON; `None` means none.
    """

    name: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Source:
    """The users of one site.

    Attributes:
        site: the name of the site.
        calls: the requests, sent repeatedly in this order.
        open_socket: makes a socket in the site's network; `None` means this process's own network.
    """

    site: str
    calls: Sequence[Call]
    open_socket: Callable[[], socket.socket] | None = None


class Timed(NamedTuple):
    """One request with its times, in seconds from the start of the load.

    Attributes:
        operation: the name of the call.
        site: the name of the site.
        intended_s: the intended start of the request.
        started_s: the actual start of the request.
        ended_s: the time at which the answer was complete.
        ok: whether the answer was a success.
        error: the HTTP status or the failure; empty if the request succeeded.
    """

    operation: str
    site: str
    intended_s: float
    started_s: float
    ended_s: float
    ok: bool
    error: str


@dataclass(frozen=True)
class OpenLoop:
    """A load of requests at a given rate at each site, whatever the duration of answers.

    Attributes:
        rate: requests per second at each site.
        seconds: the length of the load in seconds.
        kind: the kind of arrivals, "poisson" or "constant".
    """

    rate: float
    seconds: float
    kind: str = "poisson"


@dataclass(frozen=True)
class ClosedLoop:
    """A load of users at each site; each waits for the answer, and then for a think time, before the next request.

    Attributes:
        users: the number of users at each site.
        seconds: the length of the load in seconds.
        think_s: mean of the think times in seconds, which are exponentially distributed.
    """

    users: int
    seconds: float
    think_s: float = 0.0


TIMEOUT_S = 120.0
"""Seconds to wait for an answer, after which the request is recorded as failed."""


def generate(sources: Sequence[Source], loop: OpenLoop | ClosedLoop, seed: int = 0, timeout_s: float = TIMEOUT_S) -> list[Timed]:
    """Send requests from all sources at the same time, and return all samples in the order in which they ended.

    Args:
        sources: the users, by site.
        loop: the kind of the load.
        seed: the seed of random gaps and think times.
        timeout_s: seconds to wait for an answer.
    """
    return asyncio.run(_generate(sources, loop, seed, timeout_s))


async def _generate(sources: Sequence[Source], loop: OpenLoop | ClosedLoop, seed: int, timeout_s: float) -> list[Timed]:
    samples: list[Timed] = []
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_session(source, timeout_s)) for source in sources]
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, (source, session) in enumerate(zip(sources, sessions, strict=True)):
                sender = _Sender(source, session, begun, samples)
                if isinstance(loop, OpenLoop):
                    group.create_task(_open(sender, loop, seed + number))
                else:
                    for user in range(loop.users):
                        group.create_task(_closed(sender, loop, random.Random(f"{seed} {number} {user}")))
    return samples


def _session(source: Source, timeout_s: float) -> aiohttp.ClientSession:
    open_socket = source.open_socket
    factory = None if open_socket is None else lambda _address: open_socket()
    # Without a limit of connections, because the wait for a connection would appear as a slow answer.
    connector = aiohttp.TCPConnector(limit=0, socket_factory=factory, keepalive_timeout=60.0)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False, auto_decompress=False)


class _Sender:
    """Sends the requests of one source and keeps their samples."""

    def __init__(self, source: Source, session: aiohttp.ClientSession, begun: float, samples: list[Timed]) -> None:
        self._source, self._session, self._samples = source, session, samples
        self._number = 0
        self.begun = begun

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self.begun

    async def wait_until(self, at: float) -> None:
        """Sleep until a time. The last millisecond is spent in short sleeps, because a timer of asyncio fires up to a millisecond late."""
        while (left := at - self.now()) > 0:
            await asyncio.sleep(left - 0.001 if left > 0.002 else 0)

    async def send(self, intended: float) -> None:
        """Send the next request, wait for the whole answer, and keep the sample."""
        call = self._source.calls[self._number % len(self._source.calls)]
        self._number += 1
        started, error = self.now(), ""
        try:
            async with self._session.request(call.method, call.url, headers=call.headers, json=call.body) as answer:
                await answer.read()
                error = "" if answer.status < 400 else f"HTTP {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as raised:
            error = f"{type(raised).__name__}: {raised}"
        self._samples.append(Timed(call.name, self._source.site, intended, started, self.now(), not error, error))


async def _open(sender: _Sender, loop: OpenLoop, seed: int) -> None:
    async with asyncio.TaskGroup() as group:
        for intended in arrivals(loop.kind, loop.rate, loop.seconds, seed):
            await sender.wait_until(intended)
            group.create_task(sender.send(intended))


async def _closed(sender: _Sender, loop: ClosedLoop, chance: random.Random) -> None:
    def think() -> float:
        return chance.expovariate(1 / loop.think_s) if loop.think_s else 0.0

    intended = think()
    while intended < loop.seconds:
        await sender.wait_until(intended)
        await sender.send(intended)
        intended = sender.now() + think()
