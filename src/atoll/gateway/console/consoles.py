"""Carries the consoles of guests at all sites over WebSockets, in place of Nova's own proxies.

A client with a console token may connect to any gateway. That gateway connects to the gateway of the site that the URL names, which asks
its Nova for the address of the console and connects to the guest. Errors are reported before the WebSocket is open: with an HTTP status,
and a sentence in the body and in the header `X-Atoll-Why`, because WebSocket clients do not show the body.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.console import page
from atoll.gateway.console.ends import CLOSE_S, MAX_MESSAGE, End, Socket
from atoll.gateway.console.finder import Finder
from atoll.gateway.console.guest_connection import connect
from atoll.gateway.console.pipe import join
from atoll.gateway.console.request import WHY, check, refusal, token
from atoll.gateway.console.sessions import Session, Sessions
from atoll.gateway.console.url import KINDS, ConsoleAddress, console_address, file_of, same_origin
from atoll.gateway.door.limited import LimitedLog
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.headers import MISSING, REQUEST_ID, request_id
from atoll.gateway.request.target import Refused, Target
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

PEER_PATH = "/atoll/console"
"""Path at the peer port, followed by the kind of console."""

_PROTOCOLS = ("binary",)
"""Subprotocols of WebSocket that Nova's proxies offer."""


class Consoles:
    """The console proxy of one gateway.

    Args:
        sites: sends requests to this site's Nova and to other gateways.
        address: this site's address.
        novnc: the directory of noVNC's files.

    Attributes:
        sessions: the open consoles.
    """

    def __init__(self, sites: Sites, address: str, novnc: Path = page.NOVNC) -> None:
        self._sites = sites
        self._finder = Finder(sites, address)
        self.sessions = Sessions(sites.here)
        self._novnc = novnc
        self._log = LimitedLog(LOG)

    async def of_client(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Answer a client's request for a console or a page of noVNC.

        Args:
            request: the client's request.
            target: the parsed target, whose path begins with `url.PREFIX`.
        """
        return await self._answered(request, self._of_client(request, target))

    async def of_peer(self, request: web.Request, site: str) -> web.StreamResponse:
        """Answer the gateway of another site, which connects one of its clients to a guest of this site."""
        return await self._answered(request, self._of_peer(request, site))

    async def _of_client(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        host, asked = check(request), console_address(target.path)
        if asked is None and (name := file_of(target.path)) is not None:
            return page.response(self._novnc, name, host)
        if asked is None or asked.site not in self._sites.everywhere():
            raise Refused(404, "no such console: expected /console/SITE/serial or /console/SITE/vnc with a site of the cloud")
        if not same_origin(request.headers.getall("Origin", ()), host):
            raise Refused(403, "a web page of another origin may not open consoles here")
        held = token(request, target.query)
        if asked.site == self._sites.here:
            return await self._from_here(request, asked.kind, held)
        return await self._from_elsewhere(request, asked, held)

    async def _of_peer(self, request: web.Request, site: str) -> web.StreamResponse:
        check(request)
        kind = request.match_info["kind"]
        if kind not in KINDS:
            raise Refused(404, f"unknown kind of console {kind:.20}: expected one of {', '.join(KINDS)}")
        return await self._from_here(request, kind, token(request, request.rel_url.raw_query_string), site)

    async def _answered(self, request: web.BaseRequest, answer: Coroutine[Any, Any, web.StreamResponse]) -> web.StreamResponse:
        """Await an answer, and turn refusals and failures into HTTP errors."""
        try:
            return await answer
        except Refused as refused:
            self._log.warning("refused a console to %s: %s", request.remote, refused.message)
            return refusal(refused.status, refused.message, {"Upgrade": "websocket"} if refused.status == 426 else {})
        except Unreachable as error:
            LOG.info("can't open a console for %s: %s", request.remote, error)
            if error.site == self._sites.here:
                return refusal(503, str(error), {})
            return refusal(503, f"site {error.site} can't be reached from {self._sites.here}", {MISSING: error.site})

    async def _from_here(self, request: web.BaseRequest, kind: str, held: str, peer: str = "") -> web.StreamResponse:
        identity = request_id(request.headers.get(REQUEST_ID) if peer else None)
        where = await self._finder.find(held, kind, identity)
        if kind == "serial":
            await self.sessions.take_over(where)
        with self.sessions.opened(peer, where) as session:
            LOG.info("%s: %s console of server %s for %s", identity, kind, where.server, peer or request.remote)
            return await _carry(request, await connect(where), session)

    async def _from_elsewhere(self, request: web.BaseRequest, asked: ConsoleAddress, held: str) -> web.StreamResponse:
        identity = request_id(None)
        with self.sessions.opened(asked.site) as session:
            path = f"{PEER_PATH}/{asked.kind}?token={held}"
            try:
                far = Socket(await self._sites.open_socket(asked.site, path, CIMultiDict({REQUEST_ID: identity}), MAX_MESSAGE))
            except aiohttp.WSServerHandshakeError as error:
                said = error.headers.get(WHY) if error.headers is not None else None
                why = said or f"the gateway of site {asked.site} refuses the console (HTTP {error.status})"
                raise Refused(error.status if error.status >= 400 else 502, why) from error
            far.notice_loss()
            LOG.info("%s: %s console at %s for %s", identity, asked.kind, asked.site, request.remote)
            return await _carry(request, far, session)


async def _carry(request: web.BaseRequest, far: End, session: Session) -> web.StreamResponse:
    """Open the client's WebSocket, and carry bytes both ways until one of the two ends closes."""
    near = web.WebSocketResponse(protocols=_PROTOCOLS, compress=False, max_msg_size=MAX_MESSAGE, timeout=CLOSE_S)
    try:
        await near.prepare(request)
        client = Socket(near)
        client.notice_loss()
    except (OSError, web.HTTPException) as error:
        await far.close(far.farewell)
        # The client's handshake is malformed, or the client has disconnected.
        raise Refused(400, "the WebSocket can't be opened: its handshake is malformed") from error
    except BaseException:
        await far.close(far.farewell)
        raise
    await join(client, far, session.ended)
    return near
