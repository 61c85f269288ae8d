"""CAMARA Optimal Edge Discovery: the sites that suit an application, the best first.

    GET /optimal-edge-discovery/v0.1/regions
    POST /optimal-edge-discovery/v0.1/retrieve-optimal-edge-cloud-zones

The standard's *application profile* is registered beforehand, and says what an application needs. Flavors and images are such profiles:
they exist at every site, and OpenStack decides who sees them. So a profile's id is that of a flavor, or that of an image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from atoll.gateway.edge.applications import application_of
from atoll.gateway.edge.device import MOST_BYTES, device_of, fields_of, uuid_of
from atoll.gateway.edge.discovery import ZONE_URL, Holding
from atoll.gateway.edge.flavors import Needs, flavor_of, smallest_for
from atoll.gateway.edge.front import Body, EdgeOperation, Question
from atoll.gateway.edge.location import Location, Locator
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.edge.zones import FREE_MB, Rank, Zones
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, json_reply
from atoll.gateway.request.paths import segment
from atoll.identifiers import edge_zone
from atoll.overlay_images import BASE

ROOT = "/optimal-edge-discovery/v0.1/"
"""First segments of the API's paths."""

REGIONS = f"{ROOT}regions"
"""The path of the list of regions."""

ZONES = f"{ROOT}retrieve-optimal-edge-cloud-zones"
"""The path of the search for zones."""

MOST_ZONES = 4
"""Greatest number of zones in an answer."""

_PROFILE, _REGION = "applicationProfileId", "edgeCloudRegion"


@dataclass(frozen=True)
class Profile:
    """The needs of an application at a site.

    Attributes:
        need_mb: the memory in megabytes.
        overlay: the id of the image of an overlay, if the application starts from one; empty otherwise.
    """

    need_mb: int = FREE_MB
    overlay: str = ""


class OptimalDiscovery:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        zones: chooses the sites.
        locator: finds the site of a device.
        services: the services of the cloud.
        holding: ranks sites by what they hold of an overlay.
    """

    def __init__(self, options: Options, zones: Zones, locator: Locator, services: UserServices, holding: Holding | None = None) -> None:
        self._options = options
        self._zones = zones
        self._locator = locator
        self._services = services
        self._holding = holding
        self.operations = (
            EdgeOperation("GET", re.compile(re.escape(REGIONS)), self._regions, f"GET {REGIONS}"),
            EdgeOperation("POST", re.compile(re.escape(ZONES)), self._search, f"POST {ZONES}", Body.OPTIONAL, MOST_BYTES),
        )

    async def _regions(self, _question: Question) -> Reply:
        return json_reply(200, [self._options.region], self._options.site)

    async def _search(self, question: Question) -> Reply:
        fields = fields_of(question.body, _PROFILE, "device", _REGION)
        if question.body and _PROFILE not in fields:
            raise invalid(f"the body has no {_PROFILE}: expected the id of a flavor or of an image, or no body")
        profile_id = uuid_of(fields, _PROFILE)
        location = self._locator.locate(question, device_of(fields))
        self._check_region(fields.get(_REGION))
        profile = await self._profile(question, profile_id) if profile_id else Profile()
        zones = await self._zones.best(location.site, MOST_ZONES, need_mb=profile.need_mb, rank=self._rank(question, profile))
        return self._answer(zones, location, {_PROFILE: profile_id} if profile_id else {})

    def _check_region(self, region: Any) -> None:
        if region is None:
            return
        if not isinstance(region, str):
            raise invalid(f"{_REGION} is no string")
        if region != self._options.region:
            raise Problem(404, f"the cloud has no such region: expected {self._options.region}")

    async def _profile(self, question: Question, identifier: str) -> Profile:
        """Return the profile with an id: the flavor, or else the image, that the caller sees under it.

        Raises:
            Problem: there is none, or no flavor fits the image.
        """
        shown = await self._services.show(question, "compute", f"/v2.1/flavors/{segment(identifier)}", "flavor")
        if shown is not None and (flavor := flavor_of(shown)) is not None:
            return Profile(max(FREE_MB, flavor.memory_mb))
        image = await self._services.show(question, "image", f"/v2/images/{segment(identifier)}")
        if image is None:
            raise Problem(404, "there is no such application profile: expected the id of a flavor or of an image")
        return Profile(await self._need_mb(question, _needs_of(image)), identifier if BASE in image else "")

    async def _need_mb(self, question: Question, needs: Needs) -> int:
        """Return the memory of the smallest flavor that fits: sizes that no flavor has would tell how much memory a site has left."""
        if needs == Needs():
            return FREE_MB
        flavor = await smallest_for(self._services, question, needs)
        if flavor is None:
            raise Problem(422, "no flavor has as much memory and disk as the image needs", "SERVICE_NOT_APPLICABLE")
        return max(FREE_MB, flavor.memory_mb)

    def _rank(self, question: Question, profile: Profile) -> Rank | None:
        holding = self._holding
        if not profile.overlay or holding is None:
            return None
        return lambda site: holding(site, question.token, question.request_id, profile.overlay)

    def _answer(self, zones: list[str], location: Location, more: dict[str, Any]) -> Reply:
        if not zones:
            raise Problem(422, "no site near this device takes such a server now", "SERVICE_NOT_APPLICABLE")
        cloud = self._options.cloud
        found = [
            {
                "edgeCloudZoneId": edge_zone(cloud, zone),
                "edgeCloudZoneName": zone,
                "edgeCloudProvider": cloud,
                "edgeCloudRegion": self._options.region,
                "status": "active",
            }
            for zone in zones
        ]
        reply = json_reply(200, {"edgeCloudZones": found} | more | location.device, self._options.site)
        if (url := self._zones.url(zones[0])) is not None:
            reply.headers[ZONE_URL] = url
        return reply


def _needs_of(image: dict[str, Any]) -> Needs:
    """Return the least resources of a server from an image, by its manifest or by Glance's fields."""
    application = application_of(image)
    return application.needs if application is not None else Needs().and_image(image)
