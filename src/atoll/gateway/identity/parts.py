"""What a gateway is made of, and how the parts are put together."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from aiohttp import web

from atoll.errors import AtollError
from atoll.files import make_directory
from atoll.gateway import scope as scopes
from atoll.gateway.bring import Bringer, Keeper
from atoll.gateway.console import Consoles
from atoll.gateway.control import SOCKET, Control
from atoll.gateway.copies.clashes import Clashes
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.perform import Performer
from atoll.gateway.copies.replicas import Replicas
from atoll.gateway.door.server import Server
from atoll.gateway.gateway import Gateway
from atoll.gateway.identity.authority import Authority
from atoll.gateway.identity.freshness import Freshness
from atoll.gateway.identity.keystone_data import Identity
from atoll.gateway.identity.token_keys import TokenKeys
from atoll.gateway.lists.away import Away
from atoll.gateway.lists.seen import Seen
from atoll.gateway.options import Options
from atoll.gateway.request.body import whole
from atoll.gateway.request.call import Call
from atoll.gateway.request.requester import Requesters
from atoll.gateway.sites import Sites
from atoll.identifiers import gateway_user
from atoll.mesh import agreed_time
from atoll.mesh.certificates import authority
from atoll.mesh.identity.homes import Policy
from atoll.mesh.identity.tables import PREFIX, encode
from atoll.mesh.node import Mesh, MeshOptions
from atoll.mesh.record import PRESENT, Change

LOG = logging.getLogger(__name__)

_MOST_JOIN_BYTES = 64 * 1024
_NO_TOKENS = frozenset({"left", "revoked"})


class Parts:
    """The gateway of one site, whole.

    Args:
        options: what it is told.
    """

    def __init__(self, options: Options) -> None:
        make_directory(options.data)
        self._options = options
        # Who was made with the cloud has the key of its authority; who joined has only its certificate.
        founder = options.authority is not None and (options.authority / "ca.key").exists()
        self._keys = TokenKeys(options.token_keys, options.data)
        self._mesh = Mesh(_mesh_options(options, self._keys.own(), certifies=founder))
        self._sites = Sites(options, self._mesh)
        self._conflicts = Conflicts(options.data / "conflicts.db", durable=options.durable)
        limited = {site for site, level in options.trust.items() if level != "full"} - {options.site}
        self._bringer = Bringer(self._sites, options.data, self._conflicts, limited, durable=options.durable)
        speaks_for = Authority(self._mesh.document, Policy.of(options.site, options.trust, options.homed)).speaks_for
        self._performer = Performer(self._sites, self._bringer.images, limited, speaks_for)
        pending = options.data / "pending.db"
        self._pending = Pending(pending, self._sites, time.time, self._performer, self._conflicts, durable=options.durable)
        self._identity = Identity(options, self._mesh, founder=founder)
        self._keeper = Keeper(self._sites, self._mesh.document, self._bringer.images)
        self._sites.on_write = self._on_write
        self._gateway = Gateway(self._sites, self._mesh)
        creations = self._gateway.creations.at
        self._gateway.replicas = Replicas(self._sites, self._mesh.document, self._pending, creations, self._conflicts)
        self._gateway.replicas.changes.local = self._gateway.local
        self._gateway.replicas.changes.may_block = self._bringer.policies.may_block = speaks_for
        self._clashes = Clashes(self._sites, self._conflicts, options.data / "names.db", durable=options.durable)
        self._gateway.clashes = self._clashes
        self._gateway.bringer = self._bringer
        self._gateway.on_reply = self._keeper.note
        self._seen = Seen(options.data / "seen.db")
        # Where the administrators of this site are none to the others, they see no more while those are away.
        trusted = options.trust.get(options.site, "full") == "full"
        self._gateway.away = Away(self._seen, Requesters(self._sites), self._sites, all_projects=trusted)
        self._consoles = Consoles(self._sites, options.host)
        self._freshness = Freshness(self._sites, self._mesh.document, self._identity)
        self._sites.seen = self._freshness.digest
        self._server = Server(options, self._gateway, self._mesh, self._consoles, join=self._join, extend=self._extend)
        self._server.freshness = self._freshness
        self._control = Control(options.sockets / SOCKET, self._handlers())
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, public: socket.socket, peer: socket.socket) -> None:
        """Serve.

        Args:
            public: listens for clients.
            peer: listens for the gateways of other sites.
        """
        self._mesh.on_members(self._on_members)
        await self._sites.start()
        await self._mesh.start()
        self._begin(self._identity.run())
        self._begin(self._pending.run())
        self._begin(self._keeper.run())
        self._begin(self._bringer.loans.run())
        self._begin(self._bringer.moves.run())
        self._begin(self._clashes.run())
        await self._server.start(public, peer)
        await self._control.start()

    async def stop(self) -> None:
        """Serve no more; what is under way may end."""
        await self._control.stop()
        await self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bringer.stop()
        await self._sites.stop()
        await self._mesh.stop()
        self._bringer.close()
        self._clashes.close()
        self._conflicts.close()
        self._seen.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_tell_failure)
        self._tasks.append(task)

    def _on_members(self, _changed: frozenset[str]) -> None:
        members = self._mesh.members()
        trusted = {
            name: each.token_key
            for name, each in members.items()
            if name != self._options.site and each.token_key and each.state not in _NO_TOKENS
        }
        if self._keys.follow(trusted):
            self._identity.forget_tokens()
        for name, each in members.items():
            if each.state in _NO_TOKENS:
                self._pending.forget(name)
                self._bringer.loans.forget(name)
                self._clashes.forget(name)
                self._seen.forget_site(name)
                self._consoles.sessions.cut(name)
        self._pending.wake()
        self._keeper.wake()
        self._bringer.loans.wake()
        self._clashes.wake()

    def _on_write(self, call: Call) -> None:
        self._bringer.loans.on_write(call)
        self._clashes.on_write(call)

    # What is asked from outside

    def _extend(self, application: web.Application) -> None:
        self._bringer.attach(application)
        self._performer.attach(application)
        self._clashes.attach(application)
        self._freshness.attach(application)

    async def _join(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await whole(request, _MOST_JOIN_BYTES)
            return web.Response(body=orjson.dumps(self._mesh.redeem(orjson.loads(body))), content_type="application/json")
        except orjson.JSONDecodeError:
            error = AtollError("join.refused", "the request is no JSON")
        except AtollError as refused:
            error = refused
        LOG.warning("%s may not join: %s", request.remote, error.message)
        return web.json_response({"message": error.message}, status=error.kind.status)

    def _handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Any]]:
        return {
            ("GET", "/members"): self._show_members,
            ("GET", "/conflicts"): self._show_conflicts,
            ("GET", "/pending"): self._show_pending,
            ("GET", "/scope"): self._explain,
            ("POST", "/invite"): self._invite,
            ("POST", "/revoke"): self._revoke,
            ("POST", "/leave"): self._leave,
            ("POST", "/reload"): self._reload,
        }

    async def _show_members(self, _request: web.Request) -> Any:
        return self._mesh.status()

    async def _show_conflicts(self, _request: web.Request) -> Any:
        return {"conflicts": self._identity.conflicts(), "differing": self._conflicts.list()}

    async def _show_pending(self, _request: web.Request) -> Any:
        return {"pending": self._pending.list() + self._bringer.loans.list(), **self._bringer.status()}

    async def _explain(self, request: web.Request) -> Any:
        here = self._options.site
        return scopes.explain(request.query["text"], here, self._sites.everywhere(), self._sites.reachable(), self._mesh.rtt_ms)

    async def _invite(self, request: web.Request) -> Any:
        asked = await request.json()
        return {"token": self._mesh.invite(asked["name"], asked["lifetime_s"])}

    async def _revoke(self, request: web.Request) -> Any:
        site = str((await request.json())["site"])
        await self._mesh.revoke(site)
        # Its certificate counts no more, and neither does the account that it has everywhere.
        self._mesh.document.write([Change(f"{PREFIX}user", encode([gateway_user(site)]), {PRESENT: False})])
        return {"revoked": site}

    async def _reload(self, _request: web.Request) -> Any:
        return {"changed": self._mesh.reload()}

    async def _leave(self, _request: web.Request) -> Any:
        await self._mesh.leave()
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
    )


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.error("a part of the gateway has ended", exc_info=error)
