"""The requests that a WAN answers on its control socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from atoll.cloud.network import Network
from atoll.control.server import ControlServer, Exchange, Handler
from atoll.errors import AtollError
from atoll.wan.fabric import Fabric
from atoll.wan.isolation import within
from atoll.wan.probe import Echo, Probe, open_socket

_BACKLOG = 128
_CLOSE_S = 5.0
_MOST_PROBES = 10_000
_Request = Mapping[str, Any]

T = TypeVar("T")


class WanServer:
    """Answers requests until one of them asks the WAN to end.

    Args:
        fabric: the WAN.
        path: the path of the socket.
        rootless: whether the WAN is in a user namespace of its own.
        tied_to: the process with which the WAN ends; `None` if it ends with no process.

    Attributes:
        ended: set by the request to end.
        tied_to: the process with which the WAN ends; a request may name another one.
    """

    def __init__(self, fabric: Fabric, path: Path, *, rootless: bool, tied_to: int | None) -> None:
        self._fabric, self._rootless = fabric, rootless
        self.tied_to = tied_to
        self._turn = threading.Lock()
        self.ended = threading.Event()
        work: dict[str, Callable[[_Request], Any]] = {
            "show": lambda _request: {"pid": os.getpid(), "rootless": rootless, "tied_to": self.tied_to, **fabric.describe()},
            "tie": self._tie,
            "apply": lambda request: fabric.apply(Network.from_json(request["network"])),
            "set": lambda request: fabric.set(request["link"], request["changes"], one_way=request.get("one_way", False)),
            "cut": lambda request: fabric.cut(request["name"]),
            "heal": lambda request: fabric.heal(request.get("name")),
            "counters": lambda _request: fabric.counters(),
            "namespace": lambda request: asdict(fabric.namespace(request["site"], rootless=self._rootless)),
            "end": lambda _request: self.ended.set(),
        }
        handlers: dict[str, Handler] = {verb: partial(self._in_turn, each) for verb, each in work.items()}
        handlers |= {"listen": self._listen, "probe": self._probe}
        self._server = ControlServer(path, handlers, name="the WAN", invalid="wan.invalid", failed="wan.failed")
        self._loop = asyncio.new_event_loop()

    def start(self) -> None:
        """Listen on the socket, and answer requests in a thread.

        Raises:
            OSError: the directory of the socket cannot be written to.
        """
        threading.Thread(target=self._loop.run_forever, name="control", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()

    def close(self) -> None:
        """Stop listening on the control socket."""

        async def close() -> None:
            self._server.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(_CLOSE_S)

    async def _in_turn(self, work: Callable[[_Request], Any], exchange: Exchange) -> Any:
        """Carry out the work of a request, after that of all earlier requests; only one request is worked on at a time."""

        def one() -> Any:
            with self._turn:
                return work(exchange.request)

        return await _in_thread(one)

    def _tie(self, request: _Request) -> None:
        self.tied_to = int(request["pid"])

    async def _listen(self, exchange: Exchange) -> None:
        def listen(request: _Request) -> list[socket.socket]:
            addresses = [(str(host), int(port)) for host, port in request["addresses"]]
            return within(self._fabric.network(request["site"]), lambda: listeners(addresses))

        exchange.sockets += await self._in_turn(listen, exchange)

    async def _probe(self, exchange: Exchange) -> list[list[Echo]]:
        request = exchange.request
        return await _in_thread(lambda: self._measure(request))  # outside the order of requests, because it takes long and changes nothing

    def _measure(self, request: _Request) -> list[list[Echo]]:
        pairs = [(str(start), str(end)) for start, end in request["pairs"]]
        if not pairs or not 1 <= request["count"] <= _MOST_PROBES:
            raise AtollError("wan.invalid", f"expected a measurement of 1 to {_MOST_PROBES} packets")
        sockets: dict[str, socket.socket] = {}
        try:
            with self._turn:
                for site in sorted({site for pair in pairs for site in pair}):
                    network = self._fabric.network(site)
                    sockets[site] = within(network, partial(open_socket, str(self._fabric.addresses.of(site))))
            found = Probe(sockets, pairs, request["count"], request["interval_s"]).run(request["patience_s"])
        finally:
            for each in sockets.values():
                each.close()
        return [found[pair] for pair in pairs]


async def _in_thread(work: Callable[[], T]) -> T:
    """Run a function in a daemon thread, which, unlike the threads of an executor, does not keep the process from ending.

    Raises:
        AtollError: `wan.invalid`: the request lacks a field, or a field has the wrong type; and as `work`.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            settle = partial(done.set_result, work())
        except (KeyError, TypeError, ValueError) as error:
            settle = partial(done.set_exception, AtollError("wan.invalid", f"the request is not valid: {error!r}"))
        except Exception as error:
            settle = partial(done.set_exception, error)
        loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, daemon=True).start()
    return await done


def listeners(addresses: list[tuple[str, int]]) -> list[socket.socket]:
    """Return listening TCP sockets in the network of the calling thread: on all addresses, or on none.

    Raises:
        AtollError: `port.in_use`, `port.unusable`: an address can't be listened on.
    """
    made: list[socket.socket] = []
    for host, port in addresses:
        try:
            made.append(socket.create_server((host, port), backlog=_BACKLOG))
        except OSError as error:
            for each in made:
                each.close()
            code = "port.in_use" if error.errno == errno.EADDRINUSE else "port.unusable"
            raise AtollError(code, f"the site can't listen on {host}:{port}: {error.strerror}") from error
    return made
