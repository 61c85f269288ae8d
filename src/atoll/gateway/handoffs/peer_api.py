"""The handlers of the peer port by which another site hands a server to this one.

The source's certificate says which hand-offs are its own; the user's token, which this site's Keystone confirms, is the authority for the
project. So a site can push no server into a project without a token of a user of that project, and no site can ask for a server: only the
site that has it begins a hand-off. A residue must be signed with the key of the source's certificate.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import web

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.references import IMAGE, Reference
from atoll.gateway.bring.service_client import BringFailed, ServiceClient
from atoll.gateway.handoffs.caller import project_of
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.files import HandoffFiles, append
from atoll.gateway.handoffs.incoming import Incoming
from atoll.gateway.handoffs.journal import Arrival, Arriving, Journal
from atoll.gateway.handoffs.memory import ServerMemory
from atoll.gateway.handoffs.outgoing import MEMORY
from atoll.gateway.handoffs.peer_client import MOST_LAUNCHES, PATH
from atoll.gateway.handoffs.room import require_room_to_arrive
from atoll.gateway.handoffs.worker import work
from atoll.gateway.overlays import LaunchImages
from atoll.gateway.peer import PEER, peer_body
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
"""Greatest size of a request's body in bytes: one piece of a residue."""

MOST_WISH = 1 << 18
"""Greatest size of the description of a server in bytes; the greatest user data and metadata that Nova allows have about 160 kB."""

SPARE_BYTES = 100_000_000
"""Bytes that stay free on the file system, for the site's databases."""

RESIDUE_EXTRA = 16 << 20
"""Bytes by which a residue may be larger than nine eighths of the announced disk: its header, and pages that do not compress."""

_STATE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Receiving:
    """The parts that receive servers.

    Attributes:
        incoming: the hand-offs to this site.
        journal: their record.
        files: their files.
        bringer: brings the server's image before the server.
        images: the directory of Nova's cache of images.
        certificate_of: returns a member's certificate (PEM).
        memory: the memory of servers at this site.
        launches: the launch images of this site.
    """

    incoming: Incoming
    journal: Journal
    files: HandoffFiles
    bringer: Bringer
    images: Path
    certificate_of: Callable[[str], str]
    memory: ServerMemory
    launches: LaunchImages


class PeerApi:
    """The peer port's part of hand-offs to this site.

    Args:
        sites: sends requests to this site's services.
        parts: see `Receiving`.
    """

    def __init__(self, sites: Sites, parts: Receiving) -> None:
        self._sites = sites
        self._incoming = parts.incoming
        self._journal = parts.journal
        self._files = parts.files
        self._bringer = parts.bringer
        self._images = parts.images
        self._certificate_of = parts.certificate_of
        self._memory = parts.memory
        self._launches = parts.launches
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._preparing = asyncio.Lock()
        self._keys: dict[str, tuple[str, str]] = {}  # the certificate of each source, and the name of its key

    def attach(self, application: web.Application) -> None:
        """Add the handlers to the application of the peer port."""
        router = application.router
        router.add_post(f"{PATH}/{{id}}", self._handler(self._prepare))
        router.add_get(f"{PATH}/{{id}}", self._handler(self._shown))
        router.add_get(f"{PATH}/{{id}}/states", self._handler(self._states))
        router.add_post(f"{PATH}/{{id}}/begin", self._handler(self._begin))
        router.add_put(f"{PATH}/{{id}}/residue", self._handler(self._residue))
        router.add_post(f"{PATH}/{{id}}/apply", self._handler(self._apply))
        router.add_post(f"{PATH}/{{id}}/commit", self._handler(self._commit))
        router.add_post(f"{PATH}/{{id}}/revoke", self._handler(self._revoke))
        router.add_delete(f"{PATH}/{{id}}", self._handler(self._forget))

    def _handler(self, answer: Callable[[web.Request, str, bytes], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await peer_body(request, MOST_BYTES)
            identifier = request.match_info["id"]
            if not is_uuid(identifier):
                raise web.HTTPBadRequest(text="the hand-off's id is malformed")
            try:
                return web.json_response(await answer(request, identifier, body))
            except HandoffRefused as refused:
                return web.json_response({"handoff": str(refused)}, status=refused.status)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                return web.json_response({"handoff": f"the request is malformed: {error}"}, status=400)
            except OSError as error:
                return web.json_response({"handoff": f"the disk of {self._sites.here} fails: {error.strerror}"}, status=507)
            except Unreachable as error:
                return web.json_response({"handoff": str(error)}, status=503)

        return handle

    async def _prepare(self, request: web.Request, identifier: str, body: bytes) -> Mapping[str, Any]:
        if len(body) > MOST_WISH:
            raise HandoffRefused("the description of the server is too large", 413)
        said, token, site = json.loads(body), request.headers.get("X-Auth-Token", ""), request[PEER]
        arrival = Arrival(identifier, str(said["server"]), str(said["project"]), site, dict(said["wish"]))
        if not is_uuid(arrival.server) or len(arrival.server) != 36:  # without hyphens, it would be another server for Nova
            raise HandoffRefused("the server's id is malformed", 400)
        client = ServiceClient(self._sites, token, request_id(None))
        if await project_of(self._sites, client) != arrival.project:
            raise HandoffRefused("the token is one of another project than the server", 403)
        if self._journal.arrival(identifier) is None:
            require_room_to_arrive(self._journal.open_arrivals(), arrival, self._sites.here)  # before an image is brought for it
        await self._bring_image(client, str(arrival.wish["image"]))
        async with self._preparing:  # so that requests at the same time are counted
            if self._journal.arrival(identifier) is None:
                self._require_room(arrival)
            try:
                await self._incoming.prepare(arrival, token)
            finally:
                if self._journal.arrival(identifier) is None:  # refused: nothing else would ever delete the directory
                    self._files.remove(identifier)
        self._files.note_launches(identifier, (await self._launches.names(client, str(arrival.wish["image"])))[:MOST_LAUNCHES])
        return {"states": self._files.held(identifier), "memory": self._memory.accepts(arrival.wish.get(MEMORY), site)}

    def _require_room(self, arrival: Arrival) -> None:
        require_room_to_arrive(self._journal.open_arrivals(), arrival, self._sites.here)
        needed = 2 * (int(arrival.wish["occupied_bytes"]) + self._most_memory(arrival))
        free = shutil.disk_usage(self._files.directory(arrival.id)).free
        if free < needed + SPARE_BYTES:
            self._files.remove(arrival.id)
            raise HandoffRefused(f"{self._sites.here} has too little space: {free >> 20} MiB are free, {needed >> 20} are needed", 507)

    async def _bring_image(self, client: ServiceClient, image: str) -> None:
        """Have the image of the server at this site, as the user; the creation needs it, and its data need not be sent again.

        Raises:
            HandoffRefused: the user can't have it here.
        """
        if await client.look(self._sites.here, Reference(IMAGE, image)) is not None:
            return
        try:
            brought = await self._bringer.bring([Reference(IMAGE, image)], client.token, client.request_id)
        except BringFailed as error:
            raise HandoffRefused(f"the server's image can't be brought to {self._sites.here}: {error}") from error
        if brought is None:
            raise HandoffRefused(f"no site that can be reached has the server's image {image}")
        brought.keep()

    async def _states(self, request: web.Request, identifier: str, _body: bytes) -> Mapping[str, Any]:
        self._arriving(request, identifier)
        held, names = self._files.held(identifier), self._files.launches(identifier)
        if held or not names:
            return {"states": held}
        return {"states": held} | await work({"do": "launches", "cache": str(self._files.cache), "names": names})

    async def _begin(self, request: web.Request, identifier: str, body: bytes) -> Mapping[str, Any]:
        digest = str(json.loads(body)["digest"])
        async with self._changing(request, identifier) as arrival:
            task = {"states": str(self._files.states(identifier)), "do": "empty"}
            if digest and (names := self._files.launches(identifier)) and _STATE.fullmatch(digest):
                wanted = {"do": "launch", "cache": str(self._files.cache), "names": names, "digest": digest}
                if state := (await work(task | wanted))["state"]:
                    return {"state": state}
            if digest:
                # `_prepare` has read the image with the user's token. Nova names its file in the cache after the image's id.
                file = self._images / hashlib.sha1(str(arrival.wish["image"]).encode(), usedforsecurity=False).hexdigest()
                if not _STATE.fullmatch(digest) or not file.is_file():
                    return {"state": ""}
                task |= {"do": "begin", "disk": str(file), "digest": digest}
            return {"state": (await work(task))["state"]}

    async def _residue(self, request: web.Request, identifier: str, body: bytes) -> Mapping[str, Any]:
        async with self._changing(request, identifier) as arrival:
            offset, place = int(request.query["offset"]), self._files.directory(identifier)
            if offset + len(body) > (int(arrival.wish["disk_bytes"]) + self._most_memory(arrival)) * 9 // 8 + RESIDUE_EXTRA:
                raise HandoffRefused("the residue is larger than the announced disk", 413)
            if shutil.disk_usage(place).free < SPARE_BYTES:
                raise HandoffRefused(f"{self._sites.here} has too little space for the residue", 507)
            return {"size": await asyncio.to_thread(append, self._files.residue(identifier), offset, body)}

    async def _apply(self, request: web.Request, identifier: str, body: bytes) -> Mapping[str, Any]:
        said = json.loads(body)
        base, state = str(said["base"]), str(said["state"])
        if not _STATE.fullmatch(base) or not _STATE.fullmatch(state):
            raise HandoffRefused("the name of a state is malformed", 400)
        async with self._changing(request, identifier) as arrival:
            if state not in self._files.held(identifier):
                made = await self._applied(arrival, base)
                if made != state:
                    raise HandoffRefused("the residue is one of another state")
            self._files.keep_only(identifier, state, base)  # a source whose server returns has the base alone
        return {"state": state}

    async def _applied(self, arrival: Arrival, base: str) -> str:
        key = await self._key_of(arrival)
        overlay, most = str(self._files.residue(arrival.id)), int(arrival.wish["disk_bytes"])
        task = {"do": "apply", "states": str(self._files.states(arrival.id)), "base": base, "overlay": overlay, "key": key, "most": most}
        return str((await work(task | {"most_memory": self._most_memory(arrival)}))["state"])

    async def _key_of(self, arrival: Arrival) -> str:
        """Return the name of the key of the source's certificate; it is kept, because a server may be stopped while this is called."""
        text = self._certificate_of(arrival.site)
        if self._keys.get(arrival.site, ("", ""))[0] != text:
            certificate = self._files.directory(arrival.id) / "certificate.pem"
            certificate.write_text(text, encoding="ascii")
            self._keys[arrival.site] = text, str((await work({"do": "key", "certificate": str(certificate)}))["key"])
        return self._keys[arrival.site][1]

    def _most_memory(self, arrival: Arrival) -> int:
        """Return the greatest size of the memory that may arrive, in bytes; 0 if this site does not resume it."""
        return self._memory.most_bytes(arrival.wish) if self._memory.accepts(arrival.wish.get(MEMORY), arrival.site) else 0

    async def _commit(self, request: web.Request, identifier: str, body: bytes) -> Mapping[str, Any]:
        said, token = json.loads(body), request.headers.get("X-Auth-Token", "")
        return _told(await self._incoming.commit(_asked(request, identifier, said), str(said["disk"]), token))

    async def _revoke(self, request: web.Request, identifier: str, body: bytes) -> Mapping[str, Any]:
        return self._record(await self._incoming.revoke(_asked(request, identifier, json.loads(body or b"{}"))))

    async def _shown(self, request: web.Request, identifier: str, _body: bytes) -> Mapping[str, Any]:
        return self._record(await self._incoming.shown(_asked(request, identifier, request.query)))

    async def _forget(self, request: web.Request, identifier: str, _body: bytes) -> Mapping[str, Any]:
        self._incoming.forget(identifier, request[PEER])
        return {}

    def _record(self, arrival: Arrival | None) -> Mapping[str, Any]:
        if arrival is None:
            raise HandoffRefused(f"{self._sites.here} has no record of the hand-off", 404)
        return _told(arrival)

    @asynccontextmanager
    async def _changing(self, request: web.Request, identifier: str) -> AsyncIterator[Arrival]:
        """Change the files of a hand-off, one request at a time.

        The hand-off may end during the change, for instance because its source ends it. Then the files that the change has made since are
        deleted too.

        Raises:
            HandoffRefused: as for `_arriving`.
        """
        self._arriving(request, identifier)
        lock = self._locks.setdefault(identifier, asyncio.Lock())
        async with lock:
            arrival = self._arriving(request, identifier)
            try:
                yield arrival
            finally:
                now = self._journal.arrival(identifier)
                if now is None or now.state in {Arriving.STARTED, Arriving.REFUSED}:
                    self._files.remove(identifier)

    def _arriving(self, request: web.Request, identifier: str) -> Arrival:
        """Return the hand-off of a request that changes its files.

        Raises:
            HandoffRefused: there is none of this source, or its disk does not change any more.
        """
        found = self._journal.arrival(identifier)
        if found is None or found.site != request[PEER]:
            raise HandoffRefused(f"{self._sites.here} has no record of the hand-off", 404)
        if found.state is not Arriving.PREPARED:
            raise HandoffRefused(f"the hand-off is {found.state}")
        return found


def _asked(request: web.Request, identifier: str, said: Mapping[str, Any]) -> Arrival:
    """Return the hand-off that a request names, without a server if the source has an earlier version of Atoll.

    Raises:
        HandoffRefused: the server's id is malformed.
    """
    server = str(said.get("server", ""))
    if server and (not is_uuid(server) or len(server) != 36):
        raise HandoffRefused("the server's id is malformed", 400)
    return Arrival(identifier, server, str(said.get("project", "")), request[PEER], {})


def _told(arrival: Arrival) -> Mapping[str, Any]:
    return {"state": arrival.state.value, "reason": arrival.reason, "result": dict(arrival.result)}
