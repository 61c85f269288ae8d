"""Keeps this site's identity data at least as recent as the requests and tokens that arrive here.

A token is valid at all sites as soon as it is issued. The data behind it (a user, a credential with its rules, a role or a trust) is
replicated over the WAN. A request with the token that arrived before these data would get 401 or fewer rights. Gateways preserve cause and
effect:

- A request from another gateway carries the digest of that site's document (`X-Atoll-Seen`). Unless this site is known to hold all of that
  document, it fetches the missing entries from that gateway. It handles the request once Keystone's tables hold them.
- On a client's first request with a token of another site, this site fetches the missing entries from that site, if the mesh can reach it.
  If a service then still refuses the token, `refusals` asks that site again, even if the mesh considers it unreachable.

In all other cases nothing is sent: the documents of two sites are nearly always equal, and this site holds every earlier state of its own
document.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sqlite3
import time

from aiohttp import web
from cachetools import LRUCache

from atoll.gateway.request.call import Unreachable, to_gateway
from atoll.gateway.sites import Sites
from atoll.identity.shared import IdentityTables
from atoll.identity.tables import PREFIX, encode
from atoll.mesh.document import Document
from atoll.mesh.entry import PRESENT
from atoll.mesh.parts import Part, pack_parts, unpack_parts
from atoll.mesh.refusals import Refused

LOG = logging.getLogger(__name__)

PATH = "/atoll/identity"

FETCH_S = 2.0
"""Seconds that another site has to send the missing entries. After that, the request is handled without them."""

AGAIN_S = 5.0
"""Seconds before a site that did not answer is asked again; otherwise a site that can send but not answer would delay all its requests."""

MOST_BYTES = 3 << 20
"""Greatest size, in bytes, of an answer with missing entries. A site that lacks more was unreachable for long; the mesh brings it up to
date."""

REMEMBERED = 4096
"""Number of digests (of states that this site holds) and of tokens (whose entries it has fetched) that are remembered."""


class IdentityState:
    """The states of the replicated document that this site's Keystone is known to hold.

    Args:
        document: this site's document.
        identity: keeps Keystone's tables and the document equal.
    """

    def __init__(self, document: Document, identity: IdentityTables) -> None:
        self._document = document
        self._identity = identity
        self._held: LRUCache[str, bool] = LRUCache(REMEMBERED)
        self._digest = ""
        document.on_change(self._on_change)

    def digest(self) -> str:
        """Return the digest of the document in hexadecimal, after a pull of everything that Keystone has committed here."""
        self._identity.pull()
        if not self._digest:
            self._digest = self._document.digest().hex()
        return self._digest

    def holds(self, digest: str) -> bool:
        """Return whether Keystone's tables are known to hold the state with a digest."""
        return bool(self._held.get(digest))

    def hold(self, digest: str) -> None:
        """Record that Keystone's tables hold the state with a digest."""
        self._held[digest] = True

    def _on_change(self, _touched: frozenset[tuple[str, str]]) -> None:
        self._digest = ""


class Freshness:
    """Fetches identity data that another site had when it sent a request or issued a token.

    Args:
        sites: sends requests to the sites of the cloud.
        document: this site's document.
        identity: keeps Keystone's tables and the document equal.
        state: the states that Keystone's tables hold.
    """

    def __init__(self, sites: Sites, document: Document, identity: IdentityTables, state: IdentityState) -> None:
        self._sites = sites
        self._document = document
        self._identity = identity
        self._state = state
        self._tokens: LRUCache[str, float] = LRUCache(REMEMBERED)
        self._failed: dict[str, float] = {}
        self._in_vain: dict[str, float] = {}

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_post(PATH, self._answer)

    async def follow(self, site: str, digest: str) -> None:
        """Wait until Keystone's tables hold the state that a site had when it sent a request, if that is possible.

        Args:
            site: the site whose gateway sent the request.
            digest: the digest of that site's document; empty if the request named none.
        """
        if not digest or self._state.holds(digest):
            return
        if digest == self._state.digest():
            complete = await self._identity.applied()  # the document has the entries, but the tables may not have them yet
        else:
            complete = time.monotonic() - self._failed.get(self._publisher(site), -AGAIN_S) >= AGAIN_S and await self._fetch(site)
        if complete:
            self._state.hold(digest)

    async def follow_token(self, site: str, token: str) -> None:
        """Fetch the entries that the issuer of a token has and this site lacks, once for each token, and again after a failure.

        Args:
            site: the site that issued the token.
            token: the token of a client's request.
        """
        key, now = _key(token), time.monotonic()
        if self._tokens.get(key, 0.0) <= now and self._publisher(site) in {self._sites.here, *self._sites.reachable()}:
            self._tokens[key] = math.inf if await self._fetch(site) else now + AGAIN_S

    def holds(self, token: str) -> bool:
        """Return whether this site has fetched the entries that the issuer of a token had."""
        return self._tokens.get(_key(token), 0.0) == math.inf

    async def insist(self, site: str, token: str) -> bool:
        """Fetch the entries that the issuer of a token has, even if the mesh can't reach that site.

        Args:
            site: the site that issued the token.
            token: a token that a service has refused.

        Returns:
            False if the site does not answer or its answer is unusable, or if that happened less than `AGAIN_S` ago.
        """
        last = max(self._failed.get(self._publisher(site), -AGAIN_S), self._in_vain.get(site, -AGAIN_S))
        if time.monotonic() - last < AGAIN_S:
            return False
        if not await self._fetch(site):
            # Otherwise a client could have up to `MOST_BYTES` sent between the sites by each request with a revoked token.
            self._in_vain[site] = time.monotonic()
            return False
        self._tokens[_key(token)] = math.inf
        return True

    def is_deleted(self, kind: str, identifier: str) -> bool:
        """Return whether this site knows that a user, project, trust or application credential was deleted."""
        record = self._document.record(PREFIX + kind, encode([identifier]))
        return record is not None and record.fields.get(PRESENT) is False

    def _publisher(self, site: str) -> str:
        """Return the site that is asked for the entries of a site."""
        return self._sites.groups.publisher(site)

    async def _fetch(self, site: str) -> bool:
        """Fetch the entries that a site has and this site lacks; the owner of a shared Keystone database publishes those of all its sites.

        Returns:
            True if all of them are in Keystone's tables now.
        """
        site = self._publisher(site)
        if site == self._sites.here:
            self._identity.pull()
            return await self._identity.applied()
        try:
            # Tried even if the mesh can't reach the site: a request of its gateway is a sign that it can be reached again.
            reply = await self._sites.send(site, to_gateway("POST", PATH, body=self._document.state_vector()), FETCH_S, insist=True)
            parts = unpack_parts(reply.body) if reply.status == 200 else []
        except (Unreachable, Refused) as error:
            LOG.info("can't fetch identity data from %s now: %s", site, error)
            self._failed[site] = time.monotonic()
            return False
        self._failed.pop(site, None)
        merged = [self._merge(site, part) for part in parts]
        applied = await self._identity.applied()
        return reply.status == 200 and all(merged) and applied

    def _merge(self, site: str, part: Part) -> bool:
        try:
            self._document.merge_part(part)
        except Refused as refusal:  # the mesh handles refused streams
            LOG.info("refused entries of %s that %s sent: %s", part.author, site, refusal)
            return False
        return True

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Answer another site with the entries that it lacks."""
        state = await request.read()
        try:
            self._identity.pull()
            parts, size = [], 0
            for part in self._document.parts(state):
                size += len(part.update)
                if size > MOST_BYTES:
                    raise web.HTTPRequestEntityTooLarge(MOST_BYTES, size)
                parts.append(part)
        except (Refused, sqlite3.Error) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.Response(body=pack_parts(parts), content_type="application/octet-stream")


def _key(token: str) -> str:
    """Return the name under which a token is remembered: its digest, because a token itself would be a secret in memory."""
    return hashlib.sha256(token.encode()).hexdigest()
