"""Chooses the site of a new instance for a device: the one that the request names, or the best one near the device."""

from __future__ import annotations

from atoll.gateway.edge.applications import Application
from atoll.gateway.edge.discovery import Holding
from atoll.gateway.edge.flavors import smallest_for
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.location import Locator
from atoll.gateway.edge.problem import Problem
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.edge.zones import FREE_MB, Zones
from atoll.gateway.sites import Sites
from atoll.overlay_images import BASE


class Placement:
    """The choice of sites by one gateway.

    Args:
        sites: the sites of the cloud.
        zones: chooses sites by distance and free memory.
        locator: finds the site of a device.
        services: the services of the cloud.
        holding: ranks sites by what they hold of an overlay.
    """

    def __init__(self, sites: Sites, zones: Zones, locator: Locator, services: UserServices, holding: Holding | None = None) -> None:
        self._sites = sites
        self._zones = zones
        self._locator = locator
        self._services = services
        self._holding = holding

    def everywhere(self) -> list[str]:
        """Return the sites of the cloud, this one first."""
        return self._sites.everywhere()

    async def able(self, question: Question, application: Application, start: str, most: int) -> list[str]:
        """Return reachable sites that have room for an instance, the best for a device at a site first.

        Args:
            question: the request of the caller.
            application: the application.
            start: the device's site.
            most: the greatest number of sites.

        Raises:
            Problem: no flavor fits the application.
            Unreachable: a site that the request needs does not answer.
        """
        flavor = await smallest_for(self._services, question, application.needs)
        if flavor is None:
            raise Problem(403, "no flavor has the application's resources")
        rank = None
        if (holding := self._holding) is not None and BASE in application.image:

            async def rank(site: str) -> int:
                return await holding(site, question.token, question.request_id, application.id)

        return await self._zones.best(start, most, need_mb=max(FREE_MB, flavor.memory_mb), rank=rank)

    async def has_room(self, site: str, memory_mb: int) -> bool:
        """Return whether a site has memory left for a server with so many megabytes; `True` if the site can't be asked."""
        return await self._zones.has_room(site, max(FREE_MB, memory_mb))

    def start(self, question: Question) -> str:
        """Return the site of the device that sends a request.

        Raises:
            Problem: the token stands for an application's server, not for a device.
        """
        try:
            return self._locator.locate(question, ()).site
        except Problem:
            raise Problem(400, "the token does not stand for a device: expected the name of a site in appLocation") from None
