"""Chooses the site that is nearest to a device and has room for another server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.options import Options
from atoll.gateway.request.call import Call, Unreachable, to_gateway
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites
from atoll.mesh.node import Mesh

PATH = "/atoll/edge-zone"
"""Path at the peer port by which another gateway asks whether this site has room for another server."""

REMEMBERED_S = 5.0
"""Seconds for which a site's answer, whether it has room for another server, is cached."""

ANSWER_S = 5.0
"""Seconds to wait for a site's answer whether it has room for another server."""

AT_ONCE = 4
"""Number of sites that are asked at the same time, the nearest first, if the device's own site has no room."""

MAX_SITES_ASKED = 16
"""Greatest number of sites, the nearest ones, that are asked for one request. If none has room for a server, the device has no edge
site."""

NEAR_MS = 5.0
"""Greatest round trip, in milliseconds, between the device's site and another site that is considered as near as the device's own."""

MOST_COMPARED = 4
"""Greatest number of sites that are ranked for one request."""

Rank = Callable[[str], Awaitable[int]]
"""A function that ranks a site; lower ranks come first."""

FREE_MB = 64
"""Megabytes of memory that a site's hosts must have left for another server: those of the smallest useful flavor."""


class Zones:
    """The sites of the cloud as edge cloud zones.

    Args:
        options: the gateway's settings.
        sites: sends requests to this site's Nova, and to other gateways.
        mesh: the members of the cloud, and the round trips between them.
        clock: monotonic seconds.
    """

    def __init__(self, options: Options, sites: Sites, mesh: Mesh, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._sites = sites
        self._mesh = mesh
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}
        self._asking: dict[str, asyncio.Task[bool]] = {}

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_get(PATH, self._answer)

    async def nearest(self, site: str, rank: Rank | None = None) -> str | None:
        """Return the site nearest to a given one, or that one itself, that is reachable and has room for a server; `None` if there is none.

        Args:
            site: the given site.
            rank: ranks the sites that are about as near as the nearest one; of these, the first by rank and then by distance is returned.
        """
        if rank is not None and (preferred := await self._preferred(site, rank)) is not None:
            return preferred
        order = self._near(site)[:MAX_SITES_ASKED]
        first, size = 0, 1
        while asked := order[first : first + size]:
            takes = await asyncio.gather(*map(self._takes, asked))
            if found := [name for name, free in zip(asked, takes, strict=True) if free]:
                return found[0]
            first, size = first + size, AT_ONCE
        return None

    async def _preferred(self, site: str, rank: Rank) -> str | None:
        """Return the first site by rank of those that are about as near as the nearest one and have room for another server."""
        near = [name for name in self._near(site)[:MOST_COMPARED] if self._distance_ms(name, site) <= NEAR_MS]
        takes, ranks = await asyncio.gather(asyncio.gather(*map(self._takes, near)), asyncio.gather(*map(rank, near)))
        found = [(place, number) for number, (place, free) in enumerate(zip(ranks, takes, strict=True)) if free]
        return near[min(found)[1]] if found else None

    def _distance_ms(self, name: str, start: str) -> float:
        rtt_ms = 0.0 if name == start else self._mesh.rtt_ms(name, start)
        return float("inf") if rtt_ms is None else rtt_ms

    def url(self, site: str) -> str | None:
        """Return the URL of Keystone behind a site's gateway; `None` if the site is not a member now."""
        if site == self._sites.here:
            return f"http://{self._options.host}:{self._options.public_port}/identity/v3"
        member = self._mesh.members().get(site)
        return f"http://{member.host}:{member.public_port}/identity/v3" if member is not None else None

    def _near(self, start: str) -> list[str]:
        """Return this site and those that it can reach, in the order of their round trips to a site; unknown round trips come last."""

        def distance(name: str) -> tuple[bool, bool, float, str]:
            rtt_ms = self._mesh.rtt_ms(name, start)
            return name != start, rtt_ms is None, rtt_ms or 0.0, name

        return sorted({self._sites.here, *self._mesh.reachable()}, key=distance)

    async def _takes(self, site: str) -> bool:
        known = self._known.get(site)
        if known is not None and self._clock() - known[0] < REMEMBERED_S:
            return known[1]
        # Requests at the same time share one question: otherwise clients could multiply theirs by the number of sites.
        if (asking := self._asking.get(site)) is None:
            asking = self._asking[site] = asyncio.create_task(self._find_out(site))
            asking.add_done_callback(lambda _task: self._asking.pop(site, None))
        return await asyncio.shield(asking)

    async def _find_out(self, site: str) -> bool:
        """Ask a site whether it has room for another server, and cache the answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                takes = await (self._has_room() if site == self._sites.here else self._ask(site))
        except (Unreachable, Refused, TimeoutError, ValueError, KeyError, TypeError):
            takes = False
        self._known[site] = self._clock(), takes
        return takes

    async def _ask(self, site: str) -> bool:
        reply = await self._sites.send(site, to_gateway("GET", PATH), ANSWER_S)
        return reply.status == 200 and reply.json()["takes"] is True

    async def _has_room(self) -> bool:
        """Return whether this site runs Nova, and its enabled hosts have memory left for another server (`FREE_MB`)."""
        if "compute" not in self._options.services:
            return False
        headers = CIMultiDict({"X-Auth-Token": await self._sites.own_token("compute")})
        call = Call("GET", "compute", "/v2.1/os-hypervisors/statistics", "", headers, None, request_id(None))
        reply = await self._sites.send(self._sites.here, call)
        return reply.ok and int(reply.json()["hypervisor_statistics"]["free_ram_mb"]) >= FREE_MB

    async def _answer(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"takes": await self._takes(self._sites.here)})
