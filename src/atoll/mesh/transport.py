"""The transport between sites, over Zenoh and mutual TLS.

A site has one Zenoh session to listen, and one session for each member to send to that member. So links do not affect each other: a link
that is broken, or that hangs because TCP still repeats lost packets, is replaced alone. These sessions cost no threads and 0.3 MB of memory
each. No site forwards messages.

Zenoh's access control restricts a listener to messages to this site: a peer can subscribe to nothing, and so sees no message between
others.
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

from atoll.zenoh_link import linger
from atoll.zenoh_link.config import Tls, session_config

_LOG = logging.getLogger(__name__)

LEASE_S = 600.0
"""Seconds of Zenoh's lease; it sends a keep-alive four times in a lease. Probes detect whether a member answers, so this may be rare."""
_PROBE_S = 1.5
"""Seconds that a TCP connection may take. The kernel repeats its first packet after 1 s, so an attempt succeeds within 1 s after the link
works again."""
_PAUSE_S = 0.7
_MAX_MESSAGE = 64 * 1024 * 1024
_MAX_WAITING = 64 * 1024 * 1024
"""Greatest number of received bytes that wait to be handled, and of bytes that wait to be sent to each member."""
_THREADS = 16


def _key(name: str) -> str:
    return f"atoll/mesh/{name}"


@dataclass
class Traffic:
    """Counters of messages and payload bytes.

    Attributes:
        sent: bytes sent.
        received: bytes received.
        dropped: number of messages that were dropped because a link was busy or a queue full.
    """

    sent: int = 0
    received: int = 0
    dropped: int = 0


class Transport:
    """The links of this site.

    Args:
        name: this site's name.
        tls: this site's certificate, its key and the authority's certificate.
        on_message: called in the event loop with each received message, unchecked.
        on_link: called in the event loop when a link to a member is up (True) or down.
        rng: source of the random lengths of pauses.
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
        """Start listening for messages.

        Raises:
            zenoh.ZError: the address and port can't be bound.
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
        """Close the listener and all links."""
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(link.stop() for link in links))
        self._no_linger.stop()
        await self.in_thread(_close, self._session)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def connect(self, name: str, host: str, port: int) -> None:
        """Connect to a member at an address, and reconnect until `disconnect`; an earlier address is replaced."""
        link = self._links.get(name)
        if link is None:
            self._links[name] = _Link(self, name, (host, port))
        elif link.address != (host, port):
            link.address = (host, port)
            link.renew()

    def disconnect(self, name: str) -> None:
        """Close the link to a member."""
        link = self._links.pop(name, None)
        if link is not None:
            link.end()

    def renew(self, name: str) -> None:
        """Replace a link over which no answers come, or try to connect now if there is none."""
        link = self._links.get(name)
        if link is not None:
            link.renew()

    def linked(self, name: str) -> bool:
        """Return whether the link to a member is up."""
        link = self._links.get(name)
        return link is not None and link.up

    def send(self, name: str, data: bytes) -> bool:
        """Send a small message immediately, ahead of the queue; it is dropped if the link is busy.

        Returns:
            False if there is no link.
        """
        link = self._links.get(name)
        return link is not None and link.send(data)

    def queue(self, name: str, data: bytes) -> bool:
        """Send a message of any size, after those in the queue.

        Returns:
            False if there is no link, or the queue is full: the message is dropped.
        """
        link = self._links.get(name)
        return link is not None and link.queue(data)

    def open(self, address: tuple[str, int]) -> zenoh.Session:
        """Return a session that sends to an address; blocks until it is connected, up to three seconds."""
        host, port = address
        session = zenoh.open(_config(self._tls, mode="client", connect=[f"tls/{host}:{port}"]))
        linger.off()
        return session

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a blocking function in a thread, and return its result."""
        return await self._loop.run_in_executor(self._threads, function, *arguments)

    def close(self, session: zenoh.Session) -> None:
        """Close a session in a thread, without waiting for it."""
        self._loop.run_in_executor(self._threads, _close, session)

    def close_late(self, opening: asyncio.Future[zenoh.Session]) -> None:
        """Close a session that is no longer needed, if it was opened."""
        if not opening.cancelled() and opening.exception() is None:
            self.close(opening.result())

    def pause(self) -> float:
        """Return the seconds until the next attempt to connect."""
        return _PAUSE_S * self._rng.uniform(0.7, 1.3)

    def link_changed(self, link: _Link, *, up: bool) -> None:
        """Report a link that has come up or gone down."""
        if self._links.get(link.name) is link:
            self._on_link(link.name, up)

    def _came(self, sample: zenoh.Sample) -> None:
        # In Zenoh's only thread, which must not wait.
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


MakeTransport = Callable[[str, Tls, Callable[[bytes], None], Callable[[str, bool], None], random.Random], Transport]
"""Constructs a transport; its arguments are those of `Transport`."""


class _Link:
    """The link to one member."""

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
                # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._transport.pause()):
                        await self._broken.wait()
                self._broken.clear()
                continue
            self._broken.clear()  # a wish to renew that came before this link is void
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
        """Return a session, if the member answers. A thread is used only if the member answers."""
        try:
            async with asyncio.timeout(_PROBE_S):
                _, writer = await asyncio.open_connection(*address)
            writer.close()
        except OSError:  # and TimeoutError, which is a subclass
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
    config = session_config(mode=mode, listen=listen or [], connect=connect or [], lease_s=LEASE_S, tls=tls)
    config.insert_json5("transport/link/rx/max_message_size", str(_MAX_MESSAGE))
    config.insert_json5("transport/link/tx/queue/congestion_control/drop/wait_before_drop", "0")
    return config


def _undeclare(listener: Any) -> None:
    with contextlib.suppress(zenoh.ZError):  # already undeclared, or the session was closed
        listener.undeclare()


def _close(session: Any) -> None:
    with contextlib.suppress(zenoh.ZError):
        session.close()
