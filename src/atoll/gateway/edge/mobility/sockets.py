"""The WebSockets over which clients receive the notifications of their subscriptions.

The gateway checks the token with which a client has opened a WebSocket again before it sends notifications, and every minute. It reads the
server and its registration with this token, so a notification contains nothing that Nova would not show to the client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from atoll.gateway.edge.caller import confirm
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.instances import AppInstance, instance_of
from atoll.gateway.edge.mobility.events import Events, MobilityEvent
from atoll.gateway.edge.mobility.registrations import Registration, registration_of
from atoll.gateway.edge.mobility.subscriptions import Subscription
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.paths import segment
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

CHECK_S = 60.0
"""Seconds between two checks of the token of an open WebSocket."""

HEARTBEAT_S = 30.0
"""Seconds between two pings; a client that does not answer in half of this time is disconnected."""

SEND_S = 10.0
"""Seconds within which a client must accept a notification."""

MOST_BYTES = 1024
"""Greatest number of bytes of a client's message; clients need not send any message."""


class Sockets:
    """The open WebSockets of one gateway.

    Args:
        sites: sends requests to this site's Keystone.
        services: the services of the cloud.
        events: the events that wait for clients, and the subscriptions at this gateway.
        base: the URL of the API's root.
        clock: Unix time.
    """

    def __init__(self, sites: Sites, services: UserServices, events: Events, base: str, clock: Callable[[], float] = time.time) -> None:
        self._sites = sites
        self._services = services
        self._subscriptions = events.subscriptions
        self._events = events
        self._base = base
        self._clock = clock
        self._open: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}
        self._stopping = False

    async def serve(self, request: web.BaseRequest, question: Question, identifier: str) -> web.StreamResponse:
        """Open the WebSocket of a subscription, close an earlier one of this subscription, and send notifications until the new one closes.

        Raises:
            Problem: the handshake is malformed.
        """
        while (held := self._open.get(identifier)) is not None:
            held[0].set()
            self._events.arrival(identifier).set()
            await held[1].wait()
        ended, closed = self._open[identifier] = asyncio.Event(), asyncio.Event()
        socket = web.WebSocketResponse(compress=False, max_msg_size=MOST_BYTES, heartbeat=HEARTBEAT_S, timeout=2.0)
        try:
            if self._stopping:
                raise Unreachable(self._sites.here, "its gateway is stopping")
            try:
                await socket.prepare(request)
            except (OSError, web.HTTPException) as error:
                raise invalid("the WebSocket can't be opened: its handshake is malformed") from error
            reading = asyncio.ensure_future(_read(socket, ended, self._events.arrival(identifier)))
            try:
                await self._send(socket, question, identifier, ended)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            del self._open[identifier]
            closed.set()
            if self._subscriptions.get(identifier, question.caller.project) is None:
                self._events.forget(identifier)
        return socket

    async def end(self, identifier: str) -> None:
        """Close the WebSocket of a subscription that was deleted."""
        if (held := self._open.get(identifier)) is not None:
            held[0].set()
            self._events.arrival(identifier).set()
            await held[1].wait()

    async def stop(self) -> None:
        """Close all WebSockets, and refuse new ones."""
        self._stopping = True
        await asyncio.gather(*map(self.end, tuple(self._open)))

    async def _send(self, socket: web.WebSocketResponse, question: Question, identifier: str, ended: asyncio.Event) -> None:
        """Send notifications until the client leaves, the gateway stops, the token is no longer valid, or the subscription ends."""
        with suppress(ConnectionError, TimeoutError, RuntimeError):  # the client has gone
            code, why = await self._notify(socket, question, identifier, ended)
            async with asyncio.timeout(SEND_S):
                await socket.close(code=code, message=why.encode())

    async def _notify(self, socket: web.WebSocketResponse, question: Question, identifier: str, ended: asyncio.Event) -> tuple[int, str]:
        """Send notifications, and return the close code and the reason of the end."""
        first, queue, arrival = True, self._events.queue(identifier), self._events.arrival(identifier)
        while not ended.is_set():
            arrival.clear()  # before anything is read, so that no change is missed
            subscription = self._subscriptions.get(identifier, question.caller.project)
            if subscription is None:
                return 1000, "the subscription was deleted"
            if subscription.ended(self._clock()):
                await self._write(socket, {"ExpiryNotification": self._expiry(subscription)})
                self._subscriptions.delete(identifier)
                self._events.forget(identifier)
                return 1000, "the subscription has expired"
            if not await self._valid(question):
                return 1008, "the token is not valid any more"
            if first and subscription.test:
                await self._write(socket, {"TestNotification": {"notificationType": "TestNotification", "_links": self._links(identifier)}})
            first = False
            if queue:
                at_s, event = queue[0]
                if (found := await self._notification(question, subscription, event, at_s)) is not None:
                    await self._write(socket, {"MobilityProcedureNotification": found})
                if queue and queue[0] == (at_s, event):  # unless newer events have pushed it out meanwhile
                    queue.popleft()
                continue
            wait_s = CHECK_S if subscription.deadline is None else min(CHECK_S, subscription.deadline.seconds - self._clock())
            with suppress(TimeoutError):
                await asyncio.wait_for(arrival.wait(), max(wait_s, 0.0))
        return 1001, "the gateway is stopping, or another client has opened this WebSocket"

    async def _write(self, socket: web.WebSocketResponse, body: Any) -> None:
        async with asyncio.timeout(SEND_S):
            await socket.send_json(body)

    async def _valid(self, question: Question) -> bool:
        """Return whether the client's token is still valid and of the same project; True if Keystone does not answer now."""
        try:
            return (await confirm(self._sites, question.token, question.request_id)).project == question.caller.project
        except Unreachable:
            return True
        except (Problem, Refused):
            return False

    async def _notification(
        self, question: Question, subscription: Subscription, event: MobilityEvent, at_s: float
    ) -> dict[str, Any] | None:
        """Return the notification of an event; `None` if the client may not see the instance, or no device matches the subscription."""
        try:
            server = await self._services.show(question, "compute", f"/v2.1/servers/{segment(event.server)}", "server")
        except (Problem, Unreachable, Refused):
            return None
        instance = instance_of(server, question.caller.project) if server is not None else None
        registration = registration_of(event.server, server["metadata"], self._clock()) if server is not None and instance else None
        devices = _devices(registration, subscription)
        if instance is None or not devices:
            return None
        target: dict[str, Any] = {"appInstanceId": instance.id}
        if links := addresses(instance):
            target["commInterface"] = {"ipAddresses": [each for link in links for each in link["ipAddresses"]]}
        seconds, part = divmod(at_s, 1.0)
        return {
            "notificationType": "MobilityProcedureNotification",
            "timeStamp": {"seconds": int(seconds), "nanoSeconds": int(part * 10**9)},
            "associateId": devices,
            "mobilityStatus": event.status,
            "targetAppInfo": target,
            "_links": self._links(subscription.id),
        }

    def _expiry(self, subscription: Subscription) -> dict[str, Any]:
        deadline = subscription.deadline.model_dump(by_alias=True) if subscription.deadline else {}
        return {"notificationType": "ExpiryNotification", "_links": self._links(subscription.id), "expiryDeadline": deadline}

    def _links(self, identifier: str) -> dict[str, Any]:
        return {"subscription": {"href": f"{self._base}subscriptions/{segment(identifier)}"}}


def addresses(instance: AppInstance) -> list[dict[str, Any]]:
    """Return the communication interfaces of an instance: the addresses and the port of each interface that clients can reach."""
    return [
        {"ipAddresses": [{"host": host, "port": point["port"]} for host in (*instance.ipv4, *instance.ipv6)]}
        for _interface, point in instance.access_points()
    ]


async def _read(socket: web.WebSocketResponse, ended: asyncio.Event, arrival: asyncio.Event) -> None:
    """Read from a WebSocket, which also answers the client's pings, until the client closes it or sends a message."""
    try:
        while (await socket.receive()).type in {WSMsgType.PING, WSMsgType.PONG}:
            pass
    finally:
        ended.set()
        arrival.set()


def _devices(registration: Registration | None, subscription: Subscription) -> list[str]:
    """Return the devices of a registration that match a subscription."""
    wanted = subscription.criteria.associate_id
    devices = registration.devices if registration is not None else ()
    return [device.associate_id for device in devices if not wanted or device.associate_id in wanted]
