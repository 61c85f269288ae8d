"""Chooses the site that is nearest to a device and has room for another server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.options import Options
from atoll.gateway.request.call import Call, Unreachable, to_gateway
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites
from atoll.mesh.node import Mesh

PATH = "/atoll/edge-zone"
"""Path at the peer port by which another gateway asks how much memory this site has left for another server."""

REMEMBERED_S = 5.0
"""Seconds for which a site's answer, how much memory it has left, is cached."""

ANSWER_S = 5.0
"""Seconds to wait for a site's answer how much memory it has left."""

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
        self._known: dict[str, tuple[float, int]] = {}
        self._asking: dict[str, asyncio.Task[int]] = {}

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_get(PATH, self._answer)

    async def nearest(self, site: str, rank: Rank | None = None) -> str | None:
        """Return the site nearest to a given one, or that one itself, that is reachable and has room for a server; `None` if there is none.

        Args:
            site: the given site.
            rank: see `best`.
        """
        found = await self.best(site, 1, rank=rank)
        return found[0] if found else None

    async def best(self, site: str, most: int, *, need_mb: int = FREE_MB, rank: Rank | None = None) -> list[str]:
        """Return reachable sites that take another server, the nearest to a given site first.

        Args:
            site: the given site; it comes first itself if it takes a server.
            most: the greatest number of sites to return.
            need_mb: the memory of the server in megabytes.
            rank: ranks the sites that are about as near as the nearest one; these come in the order of their ranks, and then by distance.
        """
        order = self._near(site)[:MAX_SITES_ASKED]
        if rank is not None:
            order = await self._ranked(site, order, rank)
        found: list[str] = []
        first, size = 0, most
        while len(found) < most and (asked := order[first : first + size]):
            free = await asyncio.gather(*map(self._free_mb, asked))
            found += [name for name, free_mb in zip(asked, free, strict=True) if free_mb >= need_mb]
            first, size = first + size, AT_ONCE
        return found[:most]

    async def has_room(self, site: str, need_mb: int) -> bool:
        """Return whether a site has so many megabytes of memory left for a server; `True` if it can't be reached."""
        here = site == self._sites.here
        return not (here or site in self._mesh.reachable()) or await self._free_mb(site) >= need_mb

    def by_distance(self, start: str, sites: Iterable[str]) -> list[str]:
        """Return sites in the order of their round trips to a site, which comes first itself; unknown round trips come last."""

        def distance(name: str) -> tuple[bool, bool, float, str]:
            rtt_ms = self._mesh.rtt_ms(name, start)
            return name != start, rtt_ms is None, rtt_ms or 0.0, name

        return sorted(sites, key=distance)

    async def _ranked(self, site: str, order: list[str], rank: Rank) -> list[str]:
        """Return sites with those that are about as near as the nearest one in the order of their ranks."""
        near = [name for name in order[:MOST_COMPARED] if self._distance_ms(name, site) <= NEAR_MS]
        ranks = dict(zip(near, await asyncio.gather(*map(rank, near)), strict=True))
        return sorted(near, key=ranks.__getitem__) + [name for name in order if name not in ranks]

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
        """Return this site and those that it can reach, in the order of their round trips to a site."""
        return self.by_distance(start, {self._sites.here, *self._mesh.reachable()})

    async def _free_mb(self, site: str) -> int:
        """Return the megabytes of memory that a site has left for another server, as cached; 0 if it takes none."""
        known = self._known.get(site)
        if known is not None and self._clock() - known[0] < REMEMBERED_S:
            return known[1]
        # Requests at the same time share one question: otherwise clients could multiply theirs by the number of sites.
        if (asking := self._asking.get(site)) is None:
            asking = self._asking[site] = asyncio.create_task(self._find_out(site))
            asking.add_done_callback(lambda _task: self._asking.pop(site, None))
        return await asyncio.shield(asking)

    async def _find_out(self, site: str) -> int:
        """Ask a site how much memory it has left for another server, and remember the answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                free_mb = await (self._own_free_mb() if site == self._sites.here else self._ask(site))
        except (Unreachable, Refused, TimeoutError, ValueError, KeyError, TypeError):
            free_mb = 0
        self._known[site] = self._clock(), free_mb
        return free_mb

    async def _ask(self, site: str) -> int:
        reply = await self._sites.send(site, to_gateway("GET", PATH), ANSWER_S)
        told = reply.json() if reply.status == 200 else {"takes": False}
        # A gateway of an earlier version does not tell how much memory is left.
        return int(told.get("free_mb", FREE_MB)) if told["takes"] is True else 0

    async def _own_free_mb(self) -> int:
        """Return the megabytes of memory that this site's enabled hosts have left; 0 if that is less than `FREE_MB`, or without Nova."""
        if "compute" not in self._options.services:
            return 0
        headers = CIMultiDict({"X-Auth-Token": await self._sites.own_token("compute")})
        call = Call("GET", "compute", "/v2.1/os-hypervisors/statistics", "", headers, None, request_id(None))
        reply = await self._sites.send(self._sites.here, call)
        free_mb = int(reply.json()["hypervisor_statistics"]["free_ram_mb"]) if reply.ok else 0
        return free_mb if free_mb >= FREE_MB else 0

    async def _answer(self, _request: web.Request) -> web.StreamResponse:
        free_mb = await self._free_mb(self._sites.here)
        return web.json_response({"takes": free_mb > 0, "free_mb": free_mb})
