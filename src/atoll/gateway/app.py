"""The gateway's composition root: constructs its parts and connects them."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine
from typing import Any

import orjson
from aiohttp import web

from atoll.control.server import ControlServer, Exchange, Handler
from atoll.errors import AtollError
from atoll.files import make_directory
from atoll.gateway import scope as scopes
from atoll.gateway.bring import Bringer, Keeper
from atoll.gateway.bring.trust import MemberTrust
from atoll.gateway.console import Consoles
from atoll.gateway.copies.change import ChangeContext
from atoll.gateway.copies.clashes import NameClashes
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.create import CreateAt
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.perform import Performer
from atoll.gateway.copies.replicas import ReplicatedResources
from atoll.gateway.door.extensions import Extensions
from atoll.gateway.door.server import JOIN, GatewayServer
from atoll.gateway.edge import Zones, edge_apis
from atoll.gateway.gateway import Collaborators, Gateway
from atoll.gateway.handoffs import Handoffs
from atoll.gateway.identity.authority import Authority
from atoll.gateway.identity.freshness import Freshness, IdentityState
from atoll.gateway.lists.server_cache import ServerCache
from atoll.gateway.lists.unreachable_servers import UnreachableServers
from atoll.gateway.local import LocalServices
from atoll.gateway.options import CONTROL_SOCKET, Options
from atoll.gateway.overlays import LaunchImages, OverlayBases
from atoll.gateway.request.body import whole
from atoll.gateway.request.requester import Requesters
from atoll.gateway.shared_database import SharedDatabase
from atoll.gateway.sites import Sites
from atoll.identifiers import gateway_user
from atoll.identity.rules import rules as identity_rules
from atoll.identity.shared import LOOK_S as SHARED_LOOK_S
from atoll.identity.shared import IdentityTables, SharedIdentity
from atoll.identity.synchroniser import LOOK_S, IdentitySettings, IdentitySynchroniser
from atoll.identity.tables import PREFIX, encode
from atoll.identity.token_keys import TokenKeys
from atoll.identity.trust import TrustPolicy
from atoll.mesh import agreed_time
from atoll.mesh.certificates import authority
from atoll.mesh.entry import PRESENT
from atoll.mesh.node import Mesh, MeshOptions
from atoll.mesh.record import Change
from atoll.mesh.transport import MakeTransport, Transport

LOG = logging.getLogger(__name__)

_MOST_JOIN_BYTES = 64 * 1024
"""Greatest size, in bytes, of a request to join the cloud."""

_FORMER = frozenset({"left", "revoked"})
"""States of sites that are no longer members."""


class GatewayApp:
    """The gateway of one site with its servers, its mesh node and its background tasks.

    Args:
        options: the gateway's settings.
        make_transport: constructs the mesh node's links to other sites.

    Attributes:
        mesh: the site's mesh node.
    """

    def __init__(self, options: Options, make_transport: MakeTransport = Transport) -> None:
        make_directory(options.data)
        self._options = options
        # A site that the cloud was created with has the authority's key; a site that joined has only the authority's certificate.
        founder = options.authority is not None and (options.authority / "ca.key").exists()
        policy = TrustPolicy.of(options.site, options.trust, options.homed)
        self._keys = TokenKeys(options.token_keys, options.data)
        self.mesh = Mesh(_mesh_options(options, self._keys.own(), certifies=founder), make_transport=make_transport)
        document = self.mesh.document
        authority = Authority(document, policy)
        trust = MemberTrust(authority.limited, authority.speaks_for)
        local = (*options.local_users, *options.local_endpoints)
        look_s = SHARED_LOOK_S if options.site in options.groups else LOOK_S
        settings = IdentitySettings(options.identity_database, options.sockets, local, policy, founder=founder, look_s=look_s)
        owner = options.groups.get(options.site, "")
        self._database = SharedDatabase(options) if owner else None
        self._identity: IdentityTables
        if owner and owner != options.site:
            self._identity = SharedIdentity(options.identity_database, options.sockets)
        else:
            self._identity = IdentitySynchroniser(settings, document)
        state = IdentityState(document, self._identity)
        self._sites = Sites(options, self.mesh, state.digest)
        self._freshness = Freshness(self._sites, document, self._identity, state)
        self._conflicts = Conflicts(options.data / "conflicts.db", durable=options.durable)
        self._bringer = Bringer(self._sites, options.data, self._conflicts, trust, durable=options.durable)
        self._performer = Performer(self._sites, self._bringer.images, authority.limited, authority.speaks_for)
        pending = options.data / "pending.db"
        self._pending = Pending(pending, self._sites, time.time, self._performer, self._conflicts, durable=options.durable)
        self._keeper = Keeper(self._sites, document, self._bringer.images)
        self._clashes = NameClashes(self._sites, self._conflicts, options.data / "names.db", durable=options.durable)
        self._servers = ServerCache(options.data / "seen.db")
        self._consoles = Consoles(self._sites, options.host)
        self._zones = Zones(options, self._sites, self.mesh)
        self._gateway = Gateway(self._sites, self.mesh, self._collaborators(trust))
        self._launches = LaunchImages(self._sites, options.launch_images)
        self._bases = OverlayBases(self._sites, self._bringer, self._launches, trust)
        edge = self._edge = edge_apis(options, self._sites, self._zones, self._gateway.answer, self._launches.holding)
        self._handoffs = Handoffs(options, self._sites, self._bringer, self._gateway.local, self.mesh)
        self._handoffs.publish = edge.mobility.events.publish
        edge.device.move = self._handoffs.move
        extensions = Extensions(self._consoles, edge, self._bases, self._handoffs, self._freshness, self._extend_peer_port)
        self._server = GatewayServer(options, self._gateway, self.mesh, extensions)
        self._control = ControlServer(
            options.sockets / CONTROL_SOCKET, self._handlers(), name="the gateway", invalid="gateway.failed", failed="gateway.failed"
        )
        self._tasks: list[asyncio.Task[None]] = []

    def _collaborators(self, trust: MemberTrust) -> Collaborators:
        # Administrators whom other sites do not trust see no servers of all projects there, nor the last known ones of a cut-off site.
        trusted = self._options.trust.get(self._options.site, "full") == "full"

        def replicas(create_at: CreateAt, local: LocalServices) -> ReplicatedResources:
            context = ChangeContext(self._conflicts, local.answer, trust.speaks_for)
            return ReplicatedResources(self._sites, self.mesh.document, self._pending, create_at, context)

        return Collaborators(
            bringer=self._bringer,
            clashes=self._clashes,
            unreachable=UnreachableServers(self._servers, Requesters(self._sites), self._sites, all_projects=trusted),
            replicas=replicas,
            on_reply=self._keeper.note,
            database=self._database,
        )

    async def start(self, public: socket.socket, peer: socket.socket) -> None:
        """Start the mesh node, the background tasks and the servers.

        Args:
            public: the listening socket for clients.
            peer: the listening socket for the gateways of other sites.
        """
        self.mesh.on_members(self._on_members)
        self._sites.on_write(self._bringer.loans.on_write)
        self._sites.on_write(self._clashes.on_write)
        await self._sites.start()
        await self.mesh.start()
        bringer = self._bringer
        for part in (
            self._identity,
            self._pending,
            self._keeper,
            bringer.loans,
            bringer.moves,
            bringer.abandoned,
            self._clashes,
            self._handoffs,
        ):
            self._begin(part.run())
        if self._database is not None:
            self._begin(self._database.run())
        await self._server.start(public, peer)
        await self._control.start()

    async def stop(self) -> None:
        """Stop the servers once the requests under way have ended, then everything else."""
        self._control.close()
        await self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bases.stop()
        await self._handoffs.stop()
        await self._edge.stop()
        await self._bringer.stop()
        await self._sites.stop()
        await self.mesh.stop()
        self._bringer.close()
        self._clashes.close()
        self._conflicts.close()
        self._servers.close()
        self._edge.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_log_failure)
        self._tasks.append(task)

    def _on_members(self, _changed: frozenset[str]) -> None:
        members = self.mesh.members()
        trusted = {
            name: each.token_key
            for name, each in members.items()
            if name != self._options.site and each.token_key and each.state not in _FORMER
        }
        if self._keys.follow(trusted):
            self._identity.forget_tokens()
        for name, each in members.items():
            if each.state in _FORMER:
                self._pending.forget(name)
                self._bringer.loans.forget(name)
                self._clashes.forget(name)
                self._servers.forget_site(name)
                self._consoles.sessions.cut(name)
        self._pending.wake()
        self._keeper.wake()
        self._bringer.loans.wake()
        self._clashes.wake()

    # The handlers of the peer port

    def _extend_peer_port(self, application: web.Application) -> None:
        application.router.add_post(JOIN, self._join)
        self._bringer.attach(application)
        self._performer.attach(application)
        self._clashes.attach(application)
        self._freshness.attach(application)
        self._zones.attach(application)
        self._launches.attach(application)
        self._handoffs.attach(application)
        self._edge.attach(application)

    async def _join(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await whole(request, _MOST_JOIN_BYTES)
            return web.Response(body=orjson.dumps(self.mesh.redeem(orjson.loads(body))), content_type="application/json")
        except orjson.JSONDecodeError:
            error = AtollError("join.refused", "the body of the request is not JSON")
        except AtollError as refused:
            error = refused
        LOG.warning("%s may not join: %s", request.remote, error.message)
        return web.json_response({"message": error.message}, status=error.kind.status)

    # The handlers of the control socket

    def _handlers(self) -> dict[str, Handler]:
        return {
            "members": self._show_members,
            "conflicts": self._show_conflicts,
            "pending": self._show_pending,
            "scope": self._explain,
            "invite": self._invite,
            "revoke": self._revoke,
            "leave": self._leave,
            "reload": self._reload,
        }

    async def _show_members(self, _exchange: Exchange) -> Any:
        return self.mesh.status()

    async def _show_conflicts(self, _exchange: Exchange) -> Any:
        return {"conflicts": self._identity.conflicts(), "differing": self._conflicts.list()}

    async def _show_pending(self, _exchange: Exchange) -> Any:
        return {"pending": self._pending.list() + self._bringer.loans.list(), **self._bringer.status()}

    async def _explain(self, exchange: Exchange) -> Any:
        here = self._options.site
        return scopes.explain(exchange.request["text"], here, self._sites.everywhere(), self._sites.reachable(), self.mesh.rtt_ms)

    async def _invite(self, exchange: Exchange) -> Any:
        return {"token": self.mesh.invite(exchange.request["name"], exchange.request["lifetime_s"])}

    async def _revoke(self, exchange: Exchange) -> Any:
        site = str(exchange.request["revoked"])
        await self.mesh.revoke(site)
        # The mesh no longer accepts the site's certificate; this deletes the account that the site has in every Keystone.
        self.mesh.document.write([Change(f"{PREFIX}user", encode([gateway_user(site)]), {PRESENT: False})])
        return {"revoked": site}

    async def _reload(self, _exchange: Exchange) -> Any:
        return {"changed": self.mesh.reload()}

    async def _leave(self, _exchange: Exchange) -> Any:
        await self.mesh.leave()
        return {"left": self._options.site}


def _mesh_options(options: Options, token_key: str, *, certifies: bool) -> MeshOptions:
    sign = authority(options.authority, options.cloud).sign_request if certifies and options.authority else None
    return MeshOptions(
        cloud=options.cloud,
        site=options.site,
        host=options.host,
        public_port=options.public_port,
        peer_port=options.peer_port,
        mesh_port=options.mesh_port,
        tls=options.tls,
        data=options.data / "mesh",
        members_file=options.members_file,
        token_key=token_key,
        time_file=options.sockets / agreed_time.FILE,
        distrusted=frozenset(site for site, level in options.trust.items() if level != "full"),
        sign=sign,
        durable=options.durable,
        rules=identity_rules(),
    )


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.error("a background task of the gateway has failed", exc_info=error)
