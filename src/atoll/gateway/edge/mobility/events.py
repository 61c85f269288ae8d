"""Changes of hand-offs as events, which are sent to the gateways of all sites, and queued for the subscriptions of the server's project.

Events are hints, and may be lost: a site that can't be reached does not get them, and a gateway that stops loses its queues. A client that
needs the true state asks Nova for the server. A member site could invent events, but they are delivered only to subscribers to whom Nova
shows the server.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import IntEnum

from aiohttp import web

from atoll.gateway.edge.mobility.subscriptions import Subscription, Subscriptions
from atoll.gateway.peer import peer_body
from atoll.gateway.request.call import Unreachable, to_gateway
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

PATH = "/atoll/mobility-events"
"""Path at the peer port to which other gateways send events."""

MOST_QUEUED = 32
"""Greatest number of events that wait for a client of a subscription; the oldest are dropped."""

MOST_BYTES = 1024
"""Greatest number of bytes of an event."""

MOST_UNDER_WAY = 64
"""Greatest number of events that are being sent to other sites at the same time; further events stay at this site."""

MOST_OF_PROJECT = 16
"""Greatest number of those that concern one project: a user can ask for a hand-off that needs confirmation as often as the user likes."""

AT_ONCE = 8
"""Number of sites to which one event is sent at the same time."""

_TOLD_S = 5.0


class Status(IntEnum):
    """The status of a hand-off, by the standard's numbers."""

    TRIGGERED = 1
    COMPLETED = 2
    FAILED = 3


@dataclass(frozen=True)
class MobilityEvent:
    """A change of a hand-off.

    Attributes:
        server: the id of the server.
        project: the project that owns it.
        status: the status.
    """

    server: str
    project: str
    status: int


class Events:
    """The events that one gateway sends to others and receives from them.

    Args:
        sites: sends events to other gateways.
        subscriptions: the subscriptions at this gateway.
        clock: Unix time.

    Attributes:
        subscriptions: the subscriptions at this gateway.
    """

    def __init__(self, sites: Sites, subscriptions: Subscriptions, clock: Callable[[], float] = time.time) -> None:
        self._sites = sites
        self.subscriptions = subscriptions
        self._clock = clock
        self._queues: dict[str, deque[tuple[float, MobilityEvent]]] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._telling: dict[asyncio.Task[None], str] = {}  # the project of each

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' events to the application of the peer port."""
        application.router.add_post(PATH, self._told)

    def publish(self, event: MobilityEvent) -> None:
        """Queue an event of this site, and begin to send it to other sites; a failure has no effect on the hand-off."""
        try:
            self._offer(event)
        except sqlite3.Error:
            LOG.exception("the subscriptions can't be read: nobody at this site is told of a hand-off of server %s", event.server)
        own = sum(each == event.project for each in self._telling.values())
        if len(self._telling) >= MOST_UNDER_WAY or own >= MOST_OF_PROJECT:
            LOG.info("a hand-off of server %s is told to no other site: too many are being told already", event.server)
            return
        task = asyncio.get_running_loop().create_task(self._tell(event))
        self._telling[task] = event.project
        task.add_done_callback(lambda done: self._telling.pop(done, None))

    def queue(self, subscription: str) -> deque[tuple[float, MobilityEvent]]:
        """Return the events that wait for the client of a subscription, each with its Unix time."""
        return self._queues.setdefault(subscription, deque(maxlen=MOST_QUEUED))

    def arrival(self, subscription: str) -> asyncio.Event:
        """Return the condition that is set when an event has arrived for a subscription."""
        return self._changed.setdefault(subscription, asyncio.Event())

    def forget(self, subscription: str) -> None:
        """Drop the events of a subscription that was deleted."""
        self._queues.pop(subscription, None)
        self._changed.pop(subscription, None)

    async def stop(self) -> None:
        """Stop sending events to other sites."""
        tasks = list(self._telling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _offer(self, event: MobilityEvent) -> None:
        now_s = self._clock()
        for subscription in self.subscriptions.of(event.project):
            if _concerns(subscription, event) and not subscription.ended(now_s):
                self.queue(subscription.id).append((now_s, event))
                self.arrival(subscription.id).set()

    async def _tell(self, event: MobilityEvent) -> None:
        body, places = json.dumps(asdict(event)).encode(), asyncio.Semaphore(AT_ONCE)

        async def tell(site: str) -> None:
            async with places:
                try:
                    await self._sites.send(site, to_gateway("POST", PATH, body=body), _TOLD_S)
                except (Unreachable, Refused) as error:
                    LOG.info("%s is not told of a hand-off of server %s: %s", site, event.server, error)

        await asyncio.gather(*map(tell, self._sites.reachable()))

    async def _told(self, request: web.Request) -> web.StreamResponse:
        try:
            event = MobilityEvent(**json.loads(await peer_body(request, MOST_BYTES)))
            valid = all(isinstance(each, str) and each.isprintable() for each in (event.server, event.project))
            valid = valid and type(event.status) is int and event.status in tuple(Status)
        except (ValueError, TypeError, RecursionError):
            return web.Response(status=400)
        if not valid or not is_uuid(event.server):
            return web.Response(status=400)
        self._offer(event)
        return web.Response(status=204)


def _concerns(subscription: Subscription, event: MobilityEvent) -> bool:
    """Return whether an event matches a subscription by status and instance; the devices are compared later, with the registration."""
    criteria = subscription.criteria
    return event.status in criteria.mobility_status and criteria.app_instance_id in {None, event.server}
