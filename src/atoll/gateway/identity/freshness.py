"""Has this site know of identity what another one knew when it sent a request, or when it issued a token.

A token is good at all sites at once. But what it stands for, a user, a credential with its rules, a role or a trust, takes a trip over the
WAN of its own, and a request with the token may arrive first: it would be refused with 401, or allowed less. So the gateways see to the
order of cause and effect:

- A request from another gateway carries the digest of that site's document. If this site's document is not known to hold all of it, what
  is lacking is fetched from that gateway, and put into Keystone's tables, before the request is looked at.
- The first request of a client with a token of another site has this site fetch what it lacks from there, if that site can be reached.

In between, nothing is asked: documents are equal nearly always, and whatever this site's own document has been is known to be held.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.identity.keystone_data import Identity
from atoll.gateway.lists.union import Recent
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.sites import Sites
from atoll.mesh.document import Document
from atoll.mesh.parts import MAX_UPDATE_BYTES, Part, pack_parts, unpack_parts
from atoll.mesh.record import Refused

LOG = logging.getLogger(__name__)

PATH = "/atoll/identity"

FETCH_S = 2.0
"""Seconds that another site may take to send what this one lacks. A request goes on without it then."""

AGAIN_S = 5.0
"""Seconds for which a site that did not answer is not asked again: who reaches us and can't be reached would hold up all its requests."""

MOST_BYTES = 3 << 20
"""Bytes of one answer. A site that lacks more has been away, and the mesh brings it up to date."""

REMEMBERED = 4096
"""Digests of documents that this site holds all of, and tokens that it has fetched for."""


class Freshness:
    """Keeps this site's identity no older than the requests that it answers.

    Args:
        sites: to ask.
        document: this site's.
        identity: puts the document into Keystone's tables, and what Keystone has written into the document.
    """

    def __init__(self, sites: Sites, document: Document, identity: Identity) -> None:
        self._sites = sites
        self._document = document
        self._identity = identity
        self._held: Recent[str, bool] = Recent(REMEMBERED)
        self._tokens: Recent[str, bool] = Recent(REMEMBERED)
        self._failed: dict[str, float] = {}
        self._digest = ""
        document.on_change(self._on_change)

    def attach(self, application: web.Application) -> None:
        """Add the handler to the application of the peer port."""
        application.router.add_post(PATH, self._answer)

    def digest(self) -> str:
        """Return the digest of the document, in hexadecimal, with all that Keystone has committed here."""
        self._identity.pull()
        if not self._digest:
            self._digest = self._document.digest().hex()
            self._held.put(self._digest, True)
        return self._digest

    async def follow(self, site: str, digest: str) -> None:
        """Fetch what a site knows, unless all of it is held here.

        Args:
            site: the site, which can be reached.
            digest: of its document.
        """
        if not digest or digest == self.digest() or self._held.get(digest):
            return
        if time.monotonic() - self._failed.get(site, -AGAIN_S) >= AGAIN_S and await self._fetch(site):
            self._held.put(digest, True)

    async def follow_token(self, site: str, token: str) -> None:
        """Fetch what the site of a token knows, once for each token.

        Args:
            site: has issued the token.
            token: which a client uses here.
        """
        key = hashlib.sha256(token.encode()).hexdigest()
        if not self._tokens.get(key) and site in self._sites.reachable():
            await self._fetch(site)
            self._tokens.put(key, True)

    async def _fetch(self, site: str) -> bool:
        """Take in what a site has and this one lacks.

        Returns:
            True if all of it is here and in Keystone's tables.
        """
        call = Call("POST", "atoll", PATH.removeprefix("/atoll"), "", CIMultiDict(), self._document.state_vector(), request_id(None))
        try:
            reply = await self._sites.send(site, call, FETCH_S)
            parts = unpack_parts(reply.body) if reply.status == 200 else []
        except (Unreachable, Refused) as error:
            LOG.info("what %s knows of identity can't be had now: %s", site, error)
            self._failed[site] = time.monotonic()
            return False
        self._failed.pop(site, None)
        merged = [self._merge(site, part) for part in parts]
        applied = not parts or await self._identity.applied()
        return reply.status == 200 and all(merged) and applied

    def _merge(self, site: str, part: Part) -> bool:
        try:
            self._document.merge_part(part)
        except Refused as refusal:  # the mesh knows what to do about it
            LOG.info("%s sends of %s what is refused: %s", site, part.author, refusal)
            return False
        return True

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Tell another site what it lacks."""
        state = await request.read()
        try:
            self._identity.pull()
            parts, size = [], 0
            for part in self._document.parts(state):
                size += len(part.update)
                if size > min(MOST_BYTES, MAX_UPDATE_BYTES):
                    raise web.HTTPRequestEntityTooLarge(MOST_BYTES, size)
                parts.append(part)
        except (Refused, sqlite3.Error) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.Response(body=pack_parts(parts), content_type="application/octet-stream")

    def _on_change(self, _touched: frozenset[tuple[str, str]]) -> None:
        self._digest = ""
