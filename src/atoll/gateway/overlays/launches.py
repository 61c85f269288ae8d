"""Launch images of other sites: each gateway offers those of its cache to users who may read the overlay and the base.

The holder decides with the user's token: its own Glance must show the user the overlay and the base. From Glance's hashes of both, it
computes the name that the launch image has in its cache, as nova-compute does for a server. A user without such a right gets the same
answer as for an image that is not in the cache, before the cache is read.

The data of another site are not trusted: nova-compute compares the disk with the digest in the overlay's signed header.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.bring.references import IMAGE, Reference
from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.overlays import launch_files
from atoll.gateway.overlays.bases import claims_of, data_hash, wanted_base
from atoll.gateway.overlays.launch_files import LaunchFile
from atoll.gateway.request.call import Unreachable, to_gateway
from atoll.gateway.request.headers import REQUEST_ID
from atoll.gateway.request.headers import request_id as valid_request_id
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites, StreamedReply
from atoll.identifiers import cached_base, cached_launch
from atoll.overlay_images import KEY

LOG = logging.getLogger(__name__)

PATH = "/atoll/launch-images/{overlay}"
"""Path at the peer port by which another gateway asks for a launch image; `/data` behind it asks for its disk."""

OFFER_S = 3.0
"""Seconds to wait for a site's answer whether it has a launch image; after that, a base is brought instead."""

WRITE_S = 30.0
"""Seconds within which the other site must accept a record."""

STREAMS = 2
"""Greatest number of disks that are sent at the same time."""

QUESTIONS = 8
"""Greatest number of requests about this site's parts of an overlay that are answered at the same time: each causes requests to its
Glance."""

MOST_KEYS = 8
"""Greatest number of keys that a request names."""

HOLDING = "/atoll/holdings/{overlay}"
"""Path at the peer port by which another gateway asks which parts of an overlay this site has."""

LAUNCH, BASE, NOTHING = range(3)
"""Ranks of a site by its part of an overlay, for a user who may read it: the launch image, the base, or neither."""

_KEY = re.compile(r"ed25519:[0-9a-f]{64}|p256:0[23][0-9a-f]{64}")


@dataclass(frozen=True)
class Offer:
    """A launch image that a site offers to a user.

    Attributes:
        site: the site.
        key: the name of the key that has signed the overlay.
        size: bytes of the disk without holes, before compression.
    """

    site: str
    key: str
    size: int


@dataclass(frozen=True)
class _Readable:
    """The data of an overlay and its bases that a user can read at this site.

    Attributes:
        data: the algorithm and the hash of the overlay's data; empty if the user can't read them.
        bases: the names in the cache of the images that may be its base.
        keys: the names of keys in a property of the overlay.
    """

    data: str
    bases: tuple[str, ...]
    keys: tuple[str, ...]

    def names(self, key: str) -> list[str]:
        """Return the cache names of the launch images that result from the bases and this overlay, if the given key has signed it."""
        return [cached_launch(base, self.data, key) for base in self.bases]


def valid_keys(keys: Any) -> bool:
    """Return whether a value is a list of some names of keys."""
    return isinstance(keys, list) and 0 < len(keys) <= MOST_KEYS and all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys)


class LaunchImages:
    """The launch images of this site's cache, and the offers of other sites.

    Args:
        sites: sends requests to the sites.
        cache: the directory of this site's cache, which need not exist.
    """

    def __init__(self, sites: Sites, cache: Path) -> None:
        self._sites = sites
        self._cache = cache
        self._streams = asyncio.Semaphore(STREAMS)
        self._asking = asyncio.Semaphore(QUESTIONS)

    def attach(self, application: web.Application) -> None:
        """Add the handlers of other gateways' requests to the application of the peer port."""
        application.router.add_get(PATH, self._offer)
        application.router.add_get(f"{PATH}/data", self._send)
        application.router.add_get(HOLDING, self._tell)

    async def holding(self, site: str, token: str, request_id: str, overlay: str) -> int:
        """Return a site's part of an overlay: `LAUNCH`, `BASE`, or `NOTHING`, which is also the answer for a user without a right to it.

        Args:
            site: this site or another one.
            token: the user's token.
            request_id: the id of the user's request.
            overlay: the id of the overlay's image.
        """
        if not is_uuid(overlay):
            return NOTHING
        client = ServiceClient(self._sites, token, request_id)
        try:
            async with self._asking:
                if site == self._sites.here:
                    return await self._holding(client, overlay)
                call = to_gateway("GET", f"/atoll/holdings/{overlay}", headers={"X-Auth-Token": token})
                reply = await self._sites.send(site, call.with_(request_id=request_id), OFFER_S)
            said = reply.json()["holding"] if reply.status == 200 else NOTHING
        except (Unreachable, Refused, ValueError, KeyError, TypeError) as error:
            LOG.info("%s: %s can't be asked what it holds of an overlay: %s", request_id, site, error)
            said = NOTHING
        return LAUNCH if said == LAUNCH else BASE if said == BASE else NOTHING

    async def names(self, client: ServiceClient, overlay: str) -> list[str]:
        """Return the cache names of the launch images of an overlay that a user may have at this site; the cache need not have them.

        Args:
            client: sends requests with the user's token.
            overlay: the id of the overlay's image; for any other image, nothing is returned.

        Raises:
            Unreachable: Glance does not answer.
        """
        readable = await self._readable(client, overlay)
        return [name for key in readable.keys for name in readable.names(key)]

    async def _holding(self, client: ServiceClient, overlay: str) -> int:
        readable = await self._readable(client, overlay)
        for name in (name for key in readable.keys for name in readable.names(key)):
            with launch_files.held(self._cache, name) as file:
                if file is not None:
                    return LAUNCH
        return BASE if readable.bases else NOTHING

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        client = self._client(request)
        holding = await self.holding(self._sites.here, client.token, client.request_id, request.match_info["overlay"])
        return web.json_response({"holding": holding if client.token else NOTHING})

    async def offers(self, client: ServiceClient, overlay: str, keys: Sequence[str]) -> list[Offer]:
        """Return the offers of the other sites that can be reached.

        Args:
            client: sends requests with the user's token.
            overlay: the id of the overlay's image.
            keys: the names of the keys that the user trusts.
        """
        found = await asyncio.gather(*(self._ask(client, site, overlay, keys) for site in self._sites.reachable()))
        return [offer for offer in found if offer is not None]

    async def open(self, client: ServiceClient, overlay: str, offer: Offer) -> StreamedReply:
        """Return a site's answer with the disk of a launch image, to be streamed.

        Raises:
            Unreachable: the site does not answer, or has lost the image.
        """
        answer = await self._sites.open(offer.site, _question(client, overlay, [offer.key], "/data"))
        if answer.status != 200:
            answer.close()
            raise Unreachable(offer.site, f"it does not send the launch image (HTTP {answer.status})")
        return answer

    async def _ask(self, client: ServiceClient, site: str, overlay: str, keys: Sequence[str]) -> Offer | None:
        try:
            reply = await self._sites.send(site, _question(client, overlay, keys), OFFER_S)
            said = reply.json() if reply.status == 200 else None
            if said is None or said["key"] not in keys or not isinstance(said["size"], int) or said["size"] < 0:
                return None
            return Offer(site, said["key"], said["size"])
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            LOG.info("%s: %s can't be asked for a launch image: %s", client.request_id, site, error)
            return None

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        for key, name in await self._names(request):
            with launch_files.held(self._cache, name) as file:
                if file is not None:
                    return web.json_response({"key": key, "size": file.occupied})
        raise web.HTTPNotFound

    async def _send(self, request: web.Request) -> web.StreamResponse:
        names = await self._names(request)
        if self._streams.locked():
            raise web.HTTPServiceUnavailable
        async with self._streams:
            for _key, name in names:
                with launch_files.held(self._cache, name) as file:
                    if file is not None:
                        return await _sent(request, file)
        raise web.HTTPNotFound

    async def _names(self, request: web.Request) -> list[tuple[str, str]]:
        """Return pairs of a key of the request, and the cache name of a launch image that it has signed and the user may have.

        Raises:
            web.HTTPNotFound: the user may read no such overlay or base at this site, or the request is malformed.
            web.HTTPServiceUnavailable: Glance does not answer.
        """
        overlay, keys = request.match_info["overlay"], request.query.get("keys", "").split(",")
        client = self._client(request)
        if not client.token or not is_uuid(overlay) or not valid_keys(keys):
            raise web.HTTPNotFound
        try:
            readable = await self._readable(client, overlay)
        except (Unreachable, Refused) as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return [(key, name) for key in keys for name in readable.names(key)]

    def _client(self, request: web.Request) -> ServiceClient:
        token = request.headers.get("X-Auth-Token", "")
        return ServiceClient(self._sites, token, valid_request_id(request.headers.get(REQUEST_ID)))

    async def _readable(self, client: ServiceClient, overlay: str) -> _Readable:
        """Return the data of an overlay and of its bases that the user can read at this site.

        Raises:
            Unreachable: Glance does not answer.
        """
        here = self._sites.here
        shown = await client.look(here, Reference(IMAGE, overlay))
        wanted = wanted_base(shown, "") if shown is not None else None
        if wanted is None or not (data := data_hash(shown)):
            return _Readable("", (), ())
        claims = await claims_of(client, here, wanted)
        bases = tuple(cached_base(claim.hash, wanted.digest, claim.machine) for claim in claims if claim.hash)
        keys = [key.strip() for key in str(shown.get(KEY, "")).split(",")]
        return _Readable(data, bases, tuple(keys) if valid_keys(keys) else ())


def _question(client: ServiceClient, overlay: str, keys: Sequence[str], more: str = "") -> Any:
    headers = CIMultiDict({"X-Auth-Token": client.token})
    call = to_gateway("GET", f"/atoll/launch-images/{overlay}{more}", query=urlencode({"keys": ",".join(keys)}), headers=headers)
    return call.with_(request_id=client.request_id)


async def _sent(request: web.Request, file: LaunchFile) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(request)
    try:
        async for record in _records(file):
            async with asyncio.timeout(WRITE_S):
                await response.write(record)
    except BaseException:
        if request.transport is not None:
            request.transport.abort()  # the other site must see that the disk is incomplete
        raise
    return response


async def _records(file: LaunchFile) -> AsyncIterator[bytes]:
    ranges = file.ranges()
    while (found := await asyncio.to_thread(next, ranges, None)) is not None:
        yield await asyncio.to_thread(file.record, *found)
    yield file.last_record()
