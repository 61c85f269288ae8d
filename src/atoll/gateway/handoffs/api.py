"""The API of clients by which a user hands off a server: `POST /cloudlet/v1/servers/SERVER/handoff` and `GET` of the same path.

`POST` with `{"site": SITE}` begins a hand-off, or continues one that was interrupted, and answers at once with its state. `GET` shows the
state of the hand-off whose id the query `id` has, or of the one that is under way. A gateway that does not have the server passes the
request on to the gateway that has it. A token is kept in memory for as long as the hand-off runs, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import struct
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.edge import Consent, Door, MobilityEvent, Question, Status, after_move, consent
from atoll.gateway.faults import fault
from atoll.gateway.handoffs.caller import project_of
from atoll.gateway.handoffs.copying import Copying
from atoll.gateway.handoffs.expiry import Expiry
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.files import HandoffFiles
from atoll.gateway.handoffs.incoming import LATE_S, Incoming
from atoll.gateway.handoffs.journal import ENDED, Departure, Journal, Leaving
from atoll.gateway.handoffs.memory import ServerMemory
from atoll.gateway.handoffs.outgoing import MEMORY, Outgoing, Parts
from atoll.gateway.handoffs.peer_api import MOST_BYTES, PeerApi, Receiving
from atoll.gateway.handoffs.peer_client import PeerClient
from atoll.gateway.handoffs.room import require_room_to_leave
from atoll.gateway.handoffs.servers import ServersHere, disk_of
from atoll.gateway.handoffs.settling import Settling
from atoll.gateway.options import Options
from atoll.gateway.overlays import LaunchImages
from atoll.gateway.peer import peer_body
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Reply, Unreachable, json_reply, to_gateway
from atoll.gateway.request.paths import is_uuid, segment
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

if TYPE_CHECKING:
    from atoll.gateway.local import LocalServices
    from atoll.mesh.node import Mesh

LOG = logging.getLogger(__name__)

REQUESTS = "/atoll/handoff-requests"
"""Path at the peer port by which another gateway passes on a client's request."""

LOOK_EVERY_S = 5.0
"""Seconds between two attempts to continue hand-offs that nobody carries out."""

_PATH = re.compile(r"/cloudlet/v1/servers/([0-9a-f-]{36})/handoff")
_PASSED_S = 120.0
_QCOW2 = struct.Struct(">4sIQIIQ")


def concerns(raw_path: str) -> bool:
    """Return whether the target of a request belongs to this API."""
    return raw_path.startswith("/cloudlet/v1/servers/")


class Handoffs:
    """The hand-offs of a site, in both directions.

    Args:
        options: the gateway's settings.
        sites: sends requests to the sites.
        bringer: brings images.
        local: this site's services.
        mesh: the members and their certificates.

    Attributes:
        publish: notifies applications of the beginning and the end of hand-offs; the gateway's application sets this function.
    """

    def __init__(self, options: Options, sites: Sites, bringer: Bringer, local: LocalServices, mesh: Mesh) -> None:
        self._sites = sites
        self._instances = options.data.parent / "instances"
        self.publish: Callable[[MobilityEvent], None] = lambda _event: None
        self.journal = Journal(options.data / "handoffs.db", self._publish_end)
        files = HandoffFiles(options.launch_images.parent, self._instances / "_base")
        self._servers = ServersHere(sites, local)
        peers = PeerClient(sites)
        limited = frozenset(site for site, level in options.trust.items() if level == "local-admin")
        socket = options.sockets / "libvirt" / "libvirt-sock"
        self._memory = ServerMemory(self._instances, options.launch_images.parent, socket, limited)
        self._copying = Copying(files, peers, self._instances, options.tls / "key.pem", self._memory)
        here = _HereServers(self._servers, self._memory)
        self._outgoing = Outgoing(Parts(self.journal, here, peers, self._copying))
        self._incoming = Incoming(self.journal, self._servers, files)

        def certificate(site: str) -> str:
            return str(mesh.members()[site].certificate)

        launches = LaunchImages(sites, files.cache)
        images = self._instances / "_base"
        receiving = Receiving(self._incoming, self.journal, files, bringer, images, certificate, self._memory, launches)
        self._peer_api = PeerApi(sites, receiving)
        local.moved = self.moved
        self._runs: dict[str, asyncio.Task[Departure]] = {}
        self._settling, self._arriving = Settling(), Settling()
        self._expiry = Expiry(self.journal, files, self._incoming, self._begin_to_expire, self._busy)

    def attach(self, application: web.Application) -> None:
        """Add the handlers to the application of the peer port."""
        application.router.add_route("*", f"{REQUESTS}/{{server}}", self._passed_on)
        self._peer_api.attach(application)

    def moved(self, server: str) -> str | None:
        """Return the site to which a server was handed off from here; `None` if it was not."""
        found = self.journal.latest(server)
        return found.site if found is not None and found.state is Leaving.DONE else None

    async def run(self) -> None:
        """Continue hand-offs that nobody carries out, as after a restart, until cancelled."""
        began = asyncio.get_running_loop().time()
        while True:
            try:
                self._settle()
                if asyncio.get_running_loop().time() - began > LATE_S:
                    self._settle_arrivals()
                self._expiry.once()
            except Exception:  # the loop must continue, because nothing else continues these hand-offs
                LOG.exception("the unfinished hand-offs can't be checked")
            await asyncio.sleep(LOOK_EVERY_S)

    def _settle(self) -> None:
        """Begin to continue the unfinished hand-offs from this site that no task carries out."""
        found = {each.id: each for each in self.journal.open_departures()}
        self._settling.keep(found.keys())
        for identifier, departure in found.items():
            if departure.state is not Leaving.COPYING and not self._busy(identifier):
                self._settling.begin(identifier, partial(self._outgoing.settle, identifier))

    def _settle_arrivals(self) -> None:
        """Begin to continue the unfinished hand-offs to this site that no request waits for."""
        self._arriving.keep({each.id for each in self.journal.open_arrivals()})
        for arrival in self._incoming.unsettled():
            self._arriving.begin(arrival.id, partial(self._incoming.settle, arrival))

    def _begin_to_expire(self, identifier: str) -> None:
        self._settling.begin(identifier, partial(self._outgoing.expire, identifier))

    def _busy(self, identifier: str) -> bool:
        return identifier in self._runs or self._settling.busy(identifier)

    async def stop(self) -> None:
        """Stop the hand-offs; the next process of the gateway continues them."""
        tasks = list(self._runs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in (self._settling, self._arriving, self._incoming):
            await each.stop()
        self.journal.close()

    # Clients

    async def answer(self, request: web.BaseRequest, door: Door) -> Reply:
        """Answer a request, also a wrong one.

        Args:
            request: the request.
            door: see `Door`.
        """
        try:
            try:
                headers = heads.of_client(request.headers)
            except Refused:
                await door.admit("")
                raise
            token = headers.get("X-Auth-Token", "")
            await door.admit(token)
            server = _server(request)
            client = ServiceClient(self._sites, token, heads.request_id(headers.get(heads.REQUEST_ID)))
            body = await door.body(4096) if request.method == "POST" else _wanted(request)
            return await self._answer(client, request.method, server, body, passed=False)
        except (Refused, HandoffRefused) as refused:
            return fault("image", refused.status, str(getattr(refused, "message", "") or refused), self._sites.here)
        except web.RequestPayloadError as error:
            return fault("image", 400, f"the body of the request is malformed: {error}", self._sites.here)
        except Unreachable as error:
            return fault("image", 503, str(error), self._sites.here)

    async def move(self, question: Question, server: str, site: str) -> Reply:
        """Answer a request for a hand-off that another API of this gateway makes for its caller; see `DeviceApplications.move`.

        Raises:
            Unreachable: a site that is needed does not answer.
        """
        client = ServiceClient(self._sites, question.token, question.request_id)
        method, body = ("POST", json.dumps({"site": site}).encode()) if site else ("GET", b"")
        try:
            return await self._answer(client, method, server, body, passed=False)
        except HandoffRefused as refused:
            return fault("image", refused.status, str(refused), self._sites.here)

    async def _passed_on(self, request: web.Request) -> web.StreamResponse:
        """Answer a client's request that another gateway passes on with the client's token."""
        server, token = request.match_info["server"], request.headers.get("X-Auth-Token", "")
        client = ServiceClient(self._sites, token, heads.request_id(request.headers.get(heads.REQUEST_ID)))
        sent = await peer_body(request, MOST_BYTES)
        try:
            body = sent if request.method == "POST" else _wanted(request)
            reply = await self._answer(client, request.method, server, body, passed=True)
        except HandoffRefused as refused:
            reply = fault("image", refused.status, str(refused), self._sites.here)
        except Unreachable as error:
            reply = fault("image", 503, str(error), self._sites.here)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _answer(self, client: ServiceClient, method: str, server: str, body: bytes, *, passed: bool) -> Reply:
        """Answer a request at the site that has the server, or that has handed it off.

        Args:
            client: has the user's token.
            method: POST or GET.
            server: the server's id.
            body: the body of a POST, or the id of the hand-off that a GET wants to see; empty for the one that is under way.
            passed: whether another gateway has passed the request on.

        Raises:
            HandoffRefused: the request is refused.
            Unreachable: a site that is needed does not answer.
        """
        project = await project_of(self._sites, client)
        if method == "GET":
            found = self.journal.shown(body.decode(), server, project) if body else self._open(server, project)
            if found is not None:
                return self._shown(found)
        else:
            site = _site(body)
            self._check_site(site)
            if (known := self._open(server, project)) is not None:
                return self._joined(client, known, site)
            if await self._servers.owned(server, project, client.token):
                return await self._begun(client, server, project, site)
        if passed:
            raise HandoffRefused(f"{self._sites.here} has no server {server} of your project, and has handed off none", 404)
        return await self._elsewhere(client, method, server, body)

    def _open(self, server: str, project: str) -> Departure | None:
        """Return the hand-off of a project's server that is under way; `None` if there is none."""
        known = self.journal.latest(server)
        return known if known is not None and known.project == project and known.state not in ENDED else None

    def _check_site(self, site: str) -> None:
        if site not in self._sites.everywhere():
            raise HandoffRefused(f"there is no site {site} in this cloud", 404)
        if site != self._sites.here and site not in self._sites.reachable():
            raise Unreachable(site, f"it can't be reached from {self._sites.here}", sent=False)

    def _joined(self, client: ServiceClient, known: Departure, site: str) -> Reply:
        if known.site != site:
            raise HandoffRefused(f"the server is being handed off to {known.site} already")
        if known.state is Leaving.COPYING and not self._busy(known.id):
            self._run(self.journal.move(known, Leaving.COPYING, reason=""), client.token)
        return self._shown(self.journal.departure(known.id))

    async def _begun(self, client: ServiceClient, server: str, project: str, site: str) -> Reply:
        if site == self._sites.here:
            return self._reply(200, {"server": server, "site": site, "state": Leaving.DONE.value, "reason": "", "result": {}})
        wish = await self._servers.describe(server, project, client.token)
        wish |= _sizes(disk_of(self._instances, server), self._instances / "_base")
        if wish["active"] and (ability := self._memory.ability()):
            wish[MEMORY] = ability
        if (again := self.journal.latest(server)) is not None and again.state not in ENDED:  # a request at the same time
            return self._joined(client, again, site)
        require_room_to_leave(self.journal.open_departures(), project, self._sites.here)
        wish["metadata"] = wish.get("metadata") or {}
        self._ask_application(server, project, wish)
        wish["metadata"] = after_move(wish["metadata"])
        departure = Departure(str(uuid.uuid4()), server, project, site, active=bool(wish["active"]), wish=wish)
        self.journal.depart(departure)
        LOG.info("%s: hand-off %s of server %s to %s begins", client.request_id, departure.id, server, site)
        self._run(departure, client.token)
        return self._shown(departure)

    def _ask_application(self, server: str, project: str, wish: Mapping[str, Any]) -> None:
        """Check that the application in a server allows the hand-off, and notify the application unless it forbids hand-offs.

        Raises:
            HandoffRefused: the application forbids hand-offs, or has not confirmed this one yet.
        """
        given = consent(wish["metadata"], time.time())
        if given is Consent.REFUSED:
            raise HandoffRefused("the application has registered at level 1, APP_MOBILITY_NOT_ALLOWED: the server stays here")
        self.publish(MobilityEvent(server, project, Status.TRIGGERED))
        if given is Consent.AWAITED:
            raise HandoffRefused("the application has been asked, and must confirm the hand-off of its devices first: try again then")

    def _publish_end(self, departure: Departure) -> None:
        status = Status.COMPLETED if departure.state is Leaving.DONE else Status.FAILED
        self.publish(MobilityEvent(departure.server, departure.project, status))

    def _run(self, departure: Departure, token: str) -> None:
        task = self._runs[departure.id] = asyncio.get_running_loop().create_task(self._outgoing.carry_out(departure.id, token))
        task.add_done_callback(lambda done: self._ended(departure, done))

    def _ended(self, departure: Departure, task: asyncio.Task[Departure]) -> None:
        self._runs.pop(departure.id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.warning("hand-off %s of server %s was interrupted: %s", departure.id, departure.server, error)

    async def _elsewhere(self, client: ServiceClient, method: str, server: str, body: bytes) -> Reply:
        """Pass a request on to the gateway that has the server.

        Raises:
            HandoffRefused: no site that can be reached has it.
        """
        failed: Reply | None = None
        for each in self._sites.reachable():
            query, sent = (f"id={segment(body.decode())}" if body else "", None) if method == "GET" else ("", body)
            call = to_gateway(method, f"{REQUESTS}/{segment(server)}", query=query, headers={"X-Auth-Token": client.token}, body=sent)
            try:
                reply = await self._sites.send(each, call.with_(request_id=client.request_id), _PASSED_S)
            except Unreachable as error:
                LOG.info("%s: %s can't be asked for server %s: %s", client.request_id, each, server, error)
                continue
            if reply.status not in {401, 404} and reply.status < 500:
                return reply
            failed = failed if reply.status == 404 else reply  # another site may have the server all the same
        if failed is not None:
            return failed
        raise HandoffRefused(f"no site that can be reached has a server {server} of your project", 404)

    def _shown(self, departure: Departure) -> Reply:
        body = {
            "id": departure.id,
            "server": departure.server,
            "from": self._sites.here,
            "site": departure.site,
            "state": departure.state.value,
            "reason": departure.reason,
            "result": dict(departure.result),
            "running": self._busy(departure.id),
            "progress": self._copying.progress.get(departure.id, {}),
        }
        return self._reply(200 if departure.state in ENDED else 202, body)

    def _reply(self, status: int, body: Mapping[str, Any]) -> Reply:
        return json_reply(status, body, self._sites.here)


class _HereServers:
    """The source's view of this site's servers."""

    def __init__(self, servers: ServersHere, memory: ServerMemory) -> None:
        self._servers = servers
        self._memory = memory
        self.delete = servers.delete_departed
        self.exists = servers.exists

    async def fence(self, departure: Departure) -> None:
        """Lock and stop a server, and have its memory kept if it is to be sent."""
        self._memory.ask(departure)
        await self._servers.fence(departure)

    async def restart(self, departure: Departure) -> None:
        """Unlock a server, and start it if it ran before, from its memory if that was kept."""
        self._memory.ask_no_more(departure)
        await self._servers.restart(departure)


def _server(request: web.BaseRequest) -> str:
    """Return the server that a client's request names.

    Raises:
        Refused: there is no such operation.
    """
    path = _PATH.fullmatch(request.raw_path.partition("?")[0])
    if path is None or not is_uuid(path[1]) or request.method not in {"GET", "POST"}:
        raise Refused(404, "there is no such operation: expected POST or GET /cloudlet/v1/servers/SERVER/handoff")
    return path[1]


def _wanted(request: web.BaseRequest) -> bytes:
    """Return the id of the hand-off that a request wants to see; empty if it names none.

    Raises:
        HandoffRefused: the id is malformed.
    """
    wanted = request.query.get("id", "")
    if wanted and not is_uuid(wanted):
        raise HandoffRefused("the id of the hand-off is malformed: expected a UUID", 400)
    return wanted.encode()


def _site(body: bytes) -> str:
    """Return the site that a request names.

    Raises:
        HandoffRefused: the body is malformed.
    """
    try:
        said = json.loads(body)
        site = said["site"] if said.keys() == {"site"} else ""
    except (ValueError, KeyError, AttributeError, RecursionError):
        site = ""
    if not isinstance(site, str) or not site:
        raise HandoffRefused('the body of the request is malformed: expected {"site": SITE}', 400)
    return site


def _sizes(disk: Path, images: Path) -> dict[str, int]:
    """Return the size of a server's disk, and the bytes that it occupies at most, with the image below it.

    Raises:
        HandoffRefused: the disk is not at this machine, or not in qcow2.
    """
    try:
        with disk.open("rb") as file:
            magic, _version, place, length, _bits, size = _QCOW2.unpack(file.read(_QCOW2.size))
            file.seek(place)
            backing = images / Path(file.read(min(length, 1023)).decode(errors="replace")).name if place else None
        occupied = disk.stat().st_blocks * 512 + (backing.stat().st_blocks * 512 if backing is not None else 0)
    except (OSError, struct.error, ValueError, OverflowError):  # the guest's QEMU can write any header
        raise HandoffRefused(
            "the server's disk is not at the machine of the site's gateway: expected a server of a full site", 501
        ) from None
    if magic != b"QFI\xfb":
        raise HandoffRefused("the server's disk is not in the format qcow2", 501)
    return {"disk_bytes": size, "occupied_bytes": occupied}
