"""Bytes from site to site, over Zenoh and mutual TLS.

A site has one Zenoh session that listens, and one more for each member, by which it sends to that member. So each link has a life of its
own: one that is broken, or that hangs because the network lost what TCP is still repeating, is replaced without touching the others. These
sessions cost no threads and 0.3 MB each. Nobody forwards anything.

What a listener accepts is restricted by Zenoh's access control to messages to this site: a peer can subscribe to nothing, and so sees
nothing of what others send.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import zenoh

from atoll.bus import linger
from atoll.bus.zenoh_config import Tls, session_config

_LOG = logging.getLogger(__name__)

_LEASE_S = 600.0
"""Zenoh says that a link lives four times in a lease. Whether a member answers is what probes find out, so this may be rare."""
_PROBE_S = 1.5
"""How long a TCP connection may take. The kernel repeats its first packet after 1 s, so an attempt sees a link that is back within 1 s."""
_PAUSE_S = 0.7
_MAX_MESSAGE = 64 * 1024 * 1024
_MAX_WAITING = 64 * 1024 * 1024
"""Bytes that wait: to be handled, and to be sent to one member."""
_THREADS = 16


def _key(name: str) -> str:
    return f"atoll/mesh/{name}"


@dataclass
class Traffic:
    """What went through, payloads only.

    Attributes:
        sent: bytes.
        received: bytes.
        dropped: messages that found a link busy or a queue full.
    """

    sent: int = 0
    received: int = 0
    dropped: int = 0


class Transport:
    """This site's links.

    Args:
        name: of this site.
        tls: its certificate, its key and the authority's certificate.
        on_message: called in the event loop with what came; nothing of it is checked.
        on_link: called in the event loop when a link to a member is there (True), or gone.
        rng: for pauses of different length.
    """

    def __init__(
        self, name: str, tls: Tls, on_message: Callable[[bytes], None], on_link: Callable[[str, bool], None], rng: random.Random
    ) -> None:
        self.traffic = Traffic()
        self._name = name
        self._tls = tls
        self._on_message = on_message
        self._on_link = on_link
        self._rng = rng
        self._links: dict[str, _Link] = {}
        self._waiting = 0
        self._threads = ThreadPoolExecutor(_THREADS, "mesh")
        self._loop: asyncio.AbstractEventLoop
        self._session: zenoh.Session

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            zenoh.ZError: at this address and port nobody can.
        """
        self._loop = asyncio.get_running_loop()
        key = _key(self._name)
        config = _config(self._tls, mode="peer", listen=[f"tls/{host}:{port}"])
        rules = [
            {"id": "in", "messages": ["put"], "flows": ["ingress"], "permission": "allow", "key_exprs": [key]},
            {"id": "out", "messages": ["declare_subscriber"], "flows": ["egress"], "permission": "allow", "key_exprs": [key]},
        ]
        control = {
            "enabled": True,
            "default_permission": "deny",
            "rules": rules,
            "subjects": [{"id": "anybody"}],
            "policies": [{"rules": ["in", "out"], "subjects": ["anybody"]}],
        }
        config.insert_json5("access_control", json.dumps(control))
        self._session = await self.in_thread(zenoh.open, config)
        self._no_linger = linger.watch(self._session)
        callback: Any = zenoh.handlers.Callback(self._came, indirect=False)
        self._subscriber = self._session.declare_subscriber(key, callback)

    async def stop(self) -> None:
        """Close all links."""
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(link.stop() for link in links))
        _undeclare(self._no_linger)
        await self.in_thread(_close, self._session)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def connect(self, name: str, host: str, port: int) -> None:
        """Have a link to a member, now and whenever it breaks; another address takes the place of the one before."""
        link = self._links.get(name)
        if link is None:
            self._links[name] = _Link(self, name, (host, port))
        elif link.address != (host, port):
            link.address = (host, port)
            link.renew()

    def disconnect(self, name: str) -> None:
        """Have no link to it any more."""
        link = self._links.pop(name, None)
        if link is not None:
            link.end()

    def renew(self, name: str) -> None:
        """What is sent does not arrive: make a new link, or try at once if there is none."""
        link = self._links.get(name)
        if link is not None:
            link.renew()

    def linked(self, name: str) -> bool:
        """Whether there is a link to a member."""
        link = self._links.get(name)
        return link is not None and link.up

    def send(self, name: str, data: bytes) -> bool:
        """Send a small message at once, past those that wait; it is dropped if the link is busy.

        Returns:
            False if there is no link.
        """
        link = self._links.get(name)
        return link is not None and link.send(data)

    def queue(self, name: str, data: bytes) -> bool:
        """Send a message of any size, after those that wait.

        Returns:
            False if there is no link, or too much waits: it is dropped.
        """
        link = self._links.get(name)
        return link is not None and link.queue(data)

    def open(self, address: tuple[str, int]) -> zenoh.Session:
        """A session that sends to an address; blocks for as long as it takes to connect, up to three seconds."""
        host, port = address
        session = zenoh.open(_config(self._tls, mode="client", connect=[f"tls/{host}:{port}"]))
        linger.off()
        return session

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what blocks."""
        return await self._loop.run_in_executor(self._threads, function, *arguments)

    def close(self, session: zenoh.Session) -> None:
        """Close a session, whenever that is done."""
        self._loop.run_in_executor(self._threads, _close, session)

    def close_late(self, opening: asyncio.Future[zenoh.Session]) -> None:
        """Close a session that nobody waits for any more, if it was opened."""
        if not opening.cancelled() and opening.exception() is None:
            self.close(opening.result())

    def pause(self) -> float:
        """Seconds between two attempts to connect."""
        return _PAUSE_S * self._rng.uniform(0.7, 1.3)

    def link_changed(self, link: _Link, *, up: bool) -> None:
        """Tell who wants to know."""
        if self._links.get(link.name) is link:
            self._on_link(link.name, up)

    def _came(self, sample: zenoh.Sample) -> None:
        # In Zenoh's only thread: nothing here may wait.
        data = bytes(sample.payload)
        if self._waiting + len(data) > _MAX_WAITING:
            self.traffic.dropped += 1
            return
        self._waiting += len(data)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._take, data)

    def _take(self, data: bytes) -> None:
        self._waiting -= len(data)
        self.traffic.received += len(data)
        self._on_message(data)


class _Link:
    """The way to one member."""

    def __init__(self, transport: Transport, name: str, address: tuple[str, int]) -> None:
        self.name = name
        self.address = address
        self.up = False
        self._transport = transport
        self._broken = asyncio.Event()
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._filled = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"mesh link to {name}")

    def renew(self) -> None:
        self._broken.set()

    def end(self) -> None:
        self._task.cancel()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def send(self, data: bytes) -> bool:
        if not self.up:
            return False
        self._put(self._quick, data)
        return True

    def queue(self, data: bytes) -> bool:
        if not self.up or self._waiting + len(data) > _MAX_WAITING:
            self._transport.traffic.dropped += 1
            return False
        self._waiting += len(data)
        self._queue.append(data)
        self._filled.set()
        return True

    def _put(self, publisher: zenoh.Publisher, data: bytes) -> None:
        self._transport.traffic.sent += len(data)
        try:
            publisher.put(data)
        except zenoh.ZError:
            self._transport.traffic.dropped += 1

    async def _run(self) -> None:
        while True:
            address = self.address
            session = await self._connect(address)
            if session is None:
                # Not `wait_for`, which before Python 3.12 forgets that it was cancelled if what it waits for comes at that moment.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._transport.pause()):
                        await self._broken.wait()
                self._broken.clear()
                continue
            self._broken.clear()  # until now there was nothing to renew
            try:
                if address == self.address:
                    await self._serve(session)
            finally:
                was_up, self.up = self.up, False
                self._queue.clear()
                self._waiting = 0
                # Not awaited: it may take long, and this task may be cancelled.
                self._transport.close(session)
                if was_up:
                    self._transport.link_changed(self, up=False)

    async def _connect(self, address: tuple[str, int]) -> zenoh.Session | None:
        """A session, if the member answers. A thread is taken only if it does."""
        try:
            async with asyncio.timeout(_PROBE_S):
                _, writer = await asyncio.open_connection(*address)
            writer.close()
        except OSError:  # and TimeoutError, which is one
            return None
        opening = asyncio.ensure_future(self._transport.in_thread(self._transport.open, address))
        try:
            session: zenoh.Session = await asyncio.shield(opening)
        except zenoh.ZError as error:
            _LOG.debug("no link to %s at %s:%s: %s", self.name, *address, error)
            return None
        except asyncio.CancelledError:
            opening.add_done_callback(self._transport.close_late)
            raise
        return session

    async def _serve(self, session: zenoh.Session) -> None:
        loop = asyncio.get_running_loop()

        def on_event(event: zenoh.TransportEvent) -> None:
            if event.kind == zenoh.SampleKind.DELETE:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._broken.set)

        events: Any = zenoh.handlers.Callback(on_event, indirect=False)
        listener: Any = session.info.declare_transport_events_listener(events)
        key = _key(self.name)
        quick, slow = zenoh.CongestionControl.DROP, zenoh.CongestionControl.BLOCK
        self._quick = session.declare_publisher(key, congestion_control=quick, priority=zenoh.Priority.REAL_TIME, express=True)
        self._slow = session.declare_publisher(key, congestion_control=slow, priority=zenoh.Priority.DATA)
        drain = asyncio.create_task(self._drain())
        try:
            self.up = True
            self._transport.link_changed(self, up=True)
            await self._broken.wait()
        finally:
            drain.cancel()
            _undeclare(listener)

    async def _drain(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                data = self._queue.popleft()
                self._waiting -= len(data)
                await self._transport.in_thread(self._put, self._slow, data)


def _config(tls: Tls, *, mode: str, listen: list[str] | None = None, connect: list[str] | None = None) -> zenoh.Config:
    config = session_config(mode=mode, listen=listen or [], connect=connect or [], lease_s=_LEASE_S, tls=tls)
    config.insert_json5("transport/link/rx/max_message_size", str(_MAX_MESSAGE))
    config.insert_json5("transport/link/tx/queue/congestion_control/drop/wait_before_drop", "0")
    return config


def _undeclare(listener: Any) -> None:
    with contextlib.suppress(zenoh.ZError):  # it is already, or went with its session
        listener.undeclare()


def _close(session: zenoh.Session) -> None:
    with contextlib.suppress(zenoh.ZError):
        session.close()  # type: ignore[no-untyped-call]
