"""The edge discovery API: answers `POST /simple-edge-discovery/v2/retrieve-closest-edge-cloud-zone`.

The standard knows two kinds of tokens. A *three-legged* one identifies the device itself: the body must not name a device. A *two-legged*
one belongs to an application's server: the body must name one. Keystone's tokens identify no device. So a token with the role that the
operator names is treated as two-legged. Any other token is treated as three-legged; its device is the one at the other end of the
connection.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from aiohttp import web

from atoll.gateway.edge.access_networks import AccessNetworks
from atoll.gateway.edge.caller import confirm, token_of
from atoll.gateway.edge.device import MOST_BYTES, Identifier, parse
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.zones import Rank, Zones
from atoll.gateway.options import Options
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Reply, Unreachable, json_reply
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites
from atoll.identifiers import edge_zone

ROOT = "/simple-edge-discovery/"
"""First segment of the API's paths."""

PATH = f"{ROOT}v2/retrieve-closest-edge-cloud-zone"
"""The path of the only operation."""

CORRELATOR = "x-correlator"
"""Header by which client and server name a request in their logs; every answer has it."""

ZONE_URL = "X-Atoll-Zone-Url"
"""Set in an answer: the URL of Keystone behind the gateway of the zone's site. The standard has no field for it."""

OVERLAY = "X-Atoll-Overlay"
"""Set by a client: the id of the image of an overlay from which it is about to start a server. The standard has no field for it."""

Holding = Callable[[str, str, str, str], Awaitable[int]]
"""A function that ranks a site by the parts of an overlay that it has, given the site, the user's token, the id of the request, and the
overlay."""

_CORRELATOR = re.compile(r"[a-zA-Z0-9\-_:;./<>{}]{0,256}")


@dataclass(frozen=True)
class Door:
    """The parts of the public port's server that a request needs.

    Attributes:
        admit: checks the head of the request and counts it against the limits of its client, given the token; empty for none.
        body: reads the body, given the greatest number of bytes.
    """

    admit: Callable[[str], Awaitable[None]]
    body: Callable[[int], Awaitable[bytes]]


def concerns(raw_path: str) -> bool:
    """Return whether the target of a request belongs to this API."""
    return raw_path.startswith(ROOT)


class EdgeDiscovery:
    """The edge discovery API of one site's gateway.

    Args:
        options: the gateway's settings.
        sites: sends requests to this site's Keystone.
        zones: chooses the site.
        holding: ranks sites by the parts of an overlay that they have.
    """

    def __init__(self, options: Options, sites: Sites, zones: Zones, holding: Holding | None = None) -> None:
        self._options = options
        self._sites = sites
        self._zones = zones
        self._holding = holding
        self._role = str(options.discovery.get("role", ""))
        self._networks = AccessNetworks(options.discovery.get("serves", {}))

    async def answer(self, request: web.BaseRequest, door: Door) -> Reply:
        """Answer a request, valid or not.

        Args:
            request: the request.
            door: see `Door`.
        """
        said = request.headers.getall(CORRELATOR, [])
        # A correlator that is not well-formed is not repeated in the answer.
        valid = len(said) < 2 and all(map(_CORRELATOR.fullmatch, said))
        correlator = said[0] if said and valid else str(uuid.uuid4())
        try:
            reply = await self._answer(request, door, valid=valid)
        except Problem as problem:
            reply = problem.reply(self._options.site)
        except Refused as refused:
            reply = Problem(refused.status, refused.message).reply(self._options.site)
        except web.RequestPayloadError as error:
            reply = invalid(f"the body of the request is malformed: {error}").reply(self._options.site)
        except Unreachable as error:
            reply = Problem(503, str(error)).reply(self._options.site)
        reply.headers[CORRELATOR] = correlator
        return reply

    async def _answer(self, request: web.BaseRequest, door: Door, *, valid: bool) -> Reply:
        try:
            headers = heads.of_client(request.headers)
            token = token_of(headers)
        except (Problem, Refused):
            await door.admit("")
            raise
        await door.admit(token)
        _check_head(request)
        if not valid:
            raise invalid(f"the {CORRELATOR} header is not well-formed: expected at most 256 letters, digits and -_:;./<>{{}}")
        request_id = heads.request_id(headers.get(heads.REQUEST_ID))
        caller = await confirm(self._sites, token, request_id)
        if request.content_type != "application/json":
            raise Problem(415, "the body of the request is not declared as JSON: expected Content-Type: application/json")
        device = parse(await door.body(MOST_BYTES))
        if self._role and self._role in caller.roles:
            site, used = self._of_device(device)
        else:
            site, used = self._of_connection(request.remote, device), None
        return await self._zone(site, used, self._rank(request, token, request_id))

    def _rank(self, request: web.BaseRequest, token: str, request_id: str) -> Rank | None:
        """Return the function that ranks sites by their parts of the overlay that a request names; `None` if it names none."""
        overlay = request.headers.get(OVERLAY, "")
        if not overlay or self._holding is None:
            return None
        if not is_uuid(overlay):
            raise invalid(f"the {OVERLAY} header is not the id of an image: expected a UUID")
        holding = self._holding
        return lambda site: holding(site, token, request_id, overlay)

    def _of_device(self, device: Sequence[Identifier]) -> tuple[str, Identifier]:
        """Return the site of a device that the body names, and the identifier by which it was found."""
        if not device:
            raise Problem(422, "the token does not identify a device: expected `device` in the body", "MISSING_IDENTIFIER")
        known = [identifier for identifier in device if identifier.addresses]
        if not known:
            raise Problem(422, "devices are known by ipv4Address and ipv6Address only", "UNSUPPORTED_IDENTIFIER")
        for identifier in known:
            for address in identifier.addresses:
                if (site := self._networks.site_of(address)) is not None:
                    return site, identifier
        raise Problem(404, "no site serves the network of this device", "IDENTIFIER_NOT_FOUND")

    def _of_connection(self, remote: str | None, device: Sequence[Identifier]) -> str:
        """Return the site of the device at the other end of the connection: that of its access network, or else this one."""
        if device:
            raise Problem(
                422,
                "this token asks about the device that sends the request only: expected a body without `device`",
                "UNNECESSARY_IDENTIFIER",
            )
        site = self._networks.site_of(ip_address(remote)) if remote else None
        return site or self._options.site

    async def _zone(self, site: str, used: Identifier | None, rank: Rank | None) -> Reply:
        zone = await self._zones.nearest(site, rank)
        if zone is None:
            raise Problem(422, "no site near this device takes another server now", "SERVICE_NOT_APPLICABLE")
        cloud = self._options.cloud
        body: dict[str, Any] = {"edgeCloudZoneId": edge_zone(cloud, zone), "edgeCloudZoneName": zone, "edgeCloudProvider": cloud}
        if used is not None:
            body["device"] = {used.name: used.value}
        reply = json_reply(200, body, self._options.site)
        if (url := self._zones.url(zone)) is not None:
            reply.headers[ZONE_URL] = url
        return reply


def _check_head(request: web.BaseRequest) -> None:
    """Check the path and the method of a request.

    Raises:
        Problem: the API has no such operation.
    """
    path, mark, _query = request.raw_path.partition("?")
    if path != PATH:
        raise Problem(404, f"there is no such operation: expected POST {PATH}")
    if request.method != "POST":
        raise Problem(405, f"unknown method for this path: expected POST {PATH}")
    if mark:
        raise invalid("the operation has no query parameters")
