"""CAMARA Simple Edge Discovery: answers `POST /simple-edge-discovery/v2/retrieve-closest-edge-cloud-zone`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from atoll.gateway.edge.device import MOST_BYTES, parse
from atoll.gateway.edge.front import Body, EdgeOperation, Question
from atoll.gateway.edge.location import Location, Locator
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.zones import Rank, Zones
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, json_reply
from atoll.gateway.request.paths import is_uuid
from atoll.identifiers import edge_zone

ROOT = "/simple-edge-discovery/"
"""First segment of the API's paths."""

PATH = f"{ROOT}v2/retrieve-closest-edge-cloud-zone"
"""The path of the only operation."""

ZONE_URL = "X-Atoll-Zone-Url"
"""Set in an answer: the URL of Keystone behind the gateway of the zone's site. The standard has no field for it."""

OVERLAY = "X-Atoll-Overlay"
"""Set by a client: the id of the image of an overlay from which it is about to start a server. The standard has no field for it."""

Holding = Callable[[str, str, str, str], Awaitable[int]]
"""A function that ranks a site by the parts of an overlay that it has, given the site, the user's token, the id of the request, and the
overlay."""


class EdgeDiscovery:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        zones: chooses the site.
        locator: finds the site of a device.
        holding: ranks sites by what they hold of an overlay.
    """

    def __init__(self, options: Options, zones: Zones, locator: Locator, holding: Holding | None = None) -> None:
        self._options = options
        self._zones = zones
        self._locator = locator
        self._holding = holding
        self.operations = (EdgeOperation("POST", re.compile(re.escape(PATH)), self._closest, f"POST {PATH}", Body.REQUIRED, MOST_BYTES),)

    async def _closest(self, question: Question) -> Reply:
        location = self._locator.locate(question, parse(question.body))
        return await self._zone(location, self._rank(question))

    def _rank(self, question: Question) -> Rank | None:
        """Return the function that ranks sites by their parts of the overlay that a request names; `None` if it names none."""
        overlay = question.headers.get(OVERLAY, "")
        if not overlay or self._holding is None:
            return None
        if not is_uuid(overlay):
            raise invalid(f"the {OVERLAY} header is not the id of an image: expected a UUID")
        holding = self._holding
        return lambda site: holding(site, question.token, question.request_id, overlay)

    async def _zone(self, location: Location, rank: Rank | None) -> Reply:
        zone = await self._zones.nearest(location.site, rank)
        if zone is None:
            raise Problem(422, "no site near this device takes another server now", "SERVICE_NOT_APPLICABLE")
        cloud = self._options.cloud
        body = {"edgeCloudZoneId": edge_zone(cloud, zone), "edgeCloudZoneName": zone, "edgeCloudProvider": cloud}
        reply = json_reply(200, body | location.device, self._options.site)
        if (url := self._zones.url(zone)) is not None:
            reply.headers[ZONE_URL] = url
        return reply
