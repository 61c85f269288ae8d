"""The clients and servers of one site of an emulated network, for experiment files: calls, casts and fanouts at a given rate.

All processes are on one machine, so the times of the sender and of the receiver of a message are of the same clock.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from atoll.bench.bus.transport import open_transport
from atoll.bench.bus.work import Threads
from atoll.bench.load.arrivals import arrivals
from atoll.namespaces import Namespace

_GREETINGS, _GREETING_S = 10, 30.0
"""Number of attempts of a client's first call, and the time limit of each in seconds: links may lose packets."""


class Sent(NamedTuple):
    """One request of a client, with its times in seconds from the start of the load.

    Attributes:
        number: the number of the request among those of its site.
        intended_s: the time at which it should have started.
        started_s: the time at which it started; later if the client still waited for the answer to an earlier request.
        ended_s: the time at which it ended.
        error: the reason why it failed; empty if it succeeded.
    """

    number: int
    intended_s: float
    started_s: float
    ended_s: float
    error: str


class RequestLoad(NamedTuple):
    """The load that the clients of a site produce.

    Attributes:
        operation: "call", "cast" or "fanout".
        begin: the start of the load, by `time.monotonic`.
        seconds: the length of the load.
        rate: requests per second of all clients of the site together.
        arrivals: "poisson" or "constant".
        seed: the seed of random gaps.
    """

    operation: str
    begin: float
    seconds: float
    rate: float
    arrivals: str
    seed: int


class _AtSite:
    """A role of a process that works in the network of a site."""

    def enter(self, network: str) -> None:
        """Move this process into a site's network; must come before its first thread and its first connection.

        Args:
            network: the path of the network namespace.
        """
        Namespace(network).enter()

    def close(self) -> None:
        """Do nothing: the threads end with the process."""


class SiteClients(_AtSite):
    """RPC clients of one site. Each makes one request at a time, and they divide the load evenly."""

    def prepare(self, count: int, payload_bytes: int) -> None:
        """Start the threads of the clients.

        Args:
            count: the number of clients.
            payload_bytes: the size of each message's payload.
        """
        self._threads, self._count, self._payload = Threads(count), count, "x" * payload_bytes

    def open(self, configuration: str, topic: str, timeout_s: float) -> None:
        """Open the transport and give each thread a client; see `open_transport`.

        Args:
            configuration: the path of the transport's configuration.
            topic: the topic of the servers.
            timeout_s: seconds to wait for the answer to a call.
        """
        from oslo_messaging import Target, get_rpc_client

        transport = open_transport(configuration)
        self._clients = [get_rpc_client(transport, Target(topic=topic), timeout=timeout_s) for _ in range(self._count)]

    def greet(self) -> None:
        """Make every client call once, so that all connections are open; repeat the call if it fails.

        Raises:
            Exception: the error of the last attempt of a client.
        """

        def one(number: int) -> None:
            for left in reversed(range(_GREETINGS)):
                try:
                    self._clients[number].prepare(timeout=_GREETING_S, retry=_GREETINGS).call({}, "echo", payload="")
                except Exception:
                    if not left:
                        raise
                    time.sleep(1)
                else:
                    return

        self._threads.run(one)

    def drive(self, load: RequestLoad) -> list[Sent]:
        """Make the clients send the requests of a load, and return all requests."""
        due = list(enumerate(arrivals(load.arrivals, load.rate, load.seconds, load.seed)))

        def one(number: int) -> list[Sent]:
            return [self._send(self._clients[number], load, each, at) for each, at in due[number :: self._count]]

        return sorted(sent for found in self._threads.run(one) for sent in found)

    def _send(self, client: Any, load: RequestLoad, number: int, intended_s: float) -> Sent:
        time.sleep(max(0.0, load.begin + intended_s - time.monotonic()))
        started, error = time.monotonic(), ""
        try:
            if load.operation == "call":
                client.call({}, "echo", payload=self._payload)
            else:
                chosen = client.prepare(fanout=True) if load.operation == "fanout" else client
                chosen.cast({}, "note", number=number, sent=started, payload=self._payload)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"[:300]
        return Sent(number, intended_s, started - load.begin, time.monotonic() - load.begin, error)


class _Notes:
    """The endpoint of a site's servers.

    Attributes:
        received: for each received cast, the times of its sending and of its execution, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.received: list[tuple[float, float]] = []

    def echo(self, _context: Any, payload: str) -> str:
        """Return the payload of a call."""
        return payload

    def note(self, _context: Any, number: int, sent: float, payload: str) -> None:
        """Record the times of a cast."""
        del number, payload
        self.received.append((sent, time.monotonic()))  # an append is atomic in the interpreter


class SiteServers(_AtSite):
    """RPC servers of one site, which share the transport of their process as the workers of a service do."""

    def __init__(self) -> None:
        self._notes = _Notes()
        self._servers: list[Any] = []

    def serve(self, configuration: str, topic: str, names: list[str]) -> None:
        """Open the transport, and listen to a topic.

        Args:
            configuration: the path of the transport's configuration.
            topic: the topic.
            names: the names of the servers.
        """
        from oslo_messaging import Target, get_rpc_server

        transport = open_transport(configuration)
        self._servers = [get_rpc_server(transport, Target(topic=topic, server=name), [self._notes]) for name in names]
        for server in self._servers:
            server.start()

    def count(self) -> int:
        """Return the number of casts that were received so far."""
        return len(self._notes.received)

    def received(self) -> list[tuple[float, float]]:
        """Return the times of the sending and of the execution of each received cast, by `time.monotonic`."""
        return self._notes.received

    def close(self) -> None:
        """Stop as a service does: accept no more messages, and finish the messages that were begun."""
        for server in self._servers:
            server.stop()
            server.wait()
