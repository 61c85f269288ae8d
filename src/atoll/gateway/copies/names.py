"""Claim names that are unique in the whole cloud: ask all reachable sites before one of them creates a resource with the name.

A gateway records its claim before it asks. If two gateways claim a name at the same time, at least one of them is asked after it has
recorded its own claim. In that case both gateways let the claim of the site whose name sorts first win. So of two sites that reach each
other only one creates the resource, and nothing has to be undone. Sites that are cut off can't be asked: `clashes` finds differences when
they can be reached again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.faults import fault
from atoll.gateway.peer import PEER, peer_body
from atoll.gateway.request.call import Call, Reply, Unreachable, to_gateway
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve.unique import FLAVOR_NAME, KEY_PAIR, NAME_KINDS, Name, NameKind
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

PATH = "/atoll/names"

ASK_S = 10.0
"""Seconds to wait for a reachable site to answer whether it has a name."""

PAGE = 1000
"""Greatest number of flavors in one answer of Nova."""

MAX_NAMES_BYTES = 1 << 20
"""Greatest size, in bytes, of another gateway's request about names."""

_LONGEST = 255
"""Greatest number of characters of a name in Nova, Glance and Neutron."""


@dataclass
class _Claim:
    """A name that a request of this gateway is about to use.

    Attributes:
        made: `True` once all sites have allowed the creation.
        lost: `True` if another site's claim has won.
    """

    made: bool = False
    lost: bool = False


class NameClaims:
    """The names of one site.

    Args:
        sites: sends requests to the sites.
        unasked: called with the names that were used while some sites could not be asked, and with those sites.
    """

    def __init__(self, sites: Sites, unasked: Callable[[Sequence[Name], Sequence[str]], None]) -> None:
        self._sites = sites
        self._unasked = unasked
        self._claims: dict[Name, list[_Claim]] = {}

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_post(PATH, self._answer)

    async def create(self, call: Call, names: Sequence[Name], make: Callable[[], Awaitable[Reply]]) -> Reply:
        """Create a resource that uses names of the whole cloud.

        Args:
            call: the client's request.
            names: the names that it uses.
            make: creates the resource.

        Returns:
            The answer of the creation; 409 with upstream's message if another site has one of the names.

        Raises:
            Unreachable: `make` raises it.
        """
        claims = {name: _Claim() for name in names}
        for name, claim in claims.items():
            self._claims.setdefault(name, []).append(claim)
        try:
            taken, silent = await self._ask_all(names)
            taken = taken or next((name for name, claim in claims.items() if claim.lost), None)
            if taken is not None:
                return fault(call.service, 409, NAME_KINDS[taken.kind].refusal.format(taken.value), self._sites.here)
            for claim in claims.values():
                claim.made = True
            reply = await make()
            if reply.ok and silent:
                self._unasked(names, silent)
            return reply
        finally:
            for name, claim in claims.items():
                self._claims[name].remove(claim)
                if not self._claims[name]:
                    del self._claims[name]

    async def _ask_all(self, names: Sequence[Name]) -> tuple[Name | None, list[str]]:
        """Ask all other sites for names.

        Returns:
            The first name that one of them has, or `None`; and the sites that could not be asked.
        """
        others = self._sites.others()
        there = set(self._sites.reachable())
        asked = [site for site in others if site in there]
        answers = dict(zip(asked, await asyncio.gather(*(self._ask(site, names) for site in asked)), strict=True))
        taken = next((name for answer in answers.values() if answer for name in names if name in answer), None)
        return taken, [site for site in others if answers.get(site) is None]

    async def _ask(self, site: str, names: Sequence[Name]) -> list[Name] | None:
        """Return the given names that a site has or claims; `None` if the site can't be asked."""
        body = {"names": [[name.kind, name.value, name.owner] for name in names]}
        call = to_gateway("POST", PATH).with_(json=body)
        try:
            reply = await self._sites.send(site, call, ASK_S)
            return read(reply.json()["taken"]) if reply.status == 200 else None
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            LOG.info("%s can't be asked for %s: %s", site, ", ".join(name.value for name in names), error)
            return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            names = read(orjson.loads(await peer_body(request, MAX_NAMES_BYTES))["names"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="expected a JSON object with names") from error
        claimed = [name for name in names if self._wins(name, request[PEER])]
        try:
            held = [name for name in names if name not in claimed and await self.describe(name) is not None]
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.json_response({"taken": [[name.kind, name.value, name.owner] for name in (*claimed, *held)]})

    def _wins(self, name: Name, peer: str) -> bool:
        """Return whether this gateway's claim wins against another gateway's; if it loses, give it up."""
        wins = False
        for claim in self._claims.get(name, ()):
            if not claim.lost and (claim.made or self._sites.here < peer):
                wins = True
            else:
                claim.lost = True
        return wins

    async def describe(self, name: Name) -> Mapping[str, Any] | None:
        """Return the fields of a named resource of this site by which copies of it are recognised; `None` if there is none.

        Raises:
            Unreachable: the service does not answer.
        """
        kind = NAME_KINDS[name.kind]
        if name.kind == FLAVOR_NAME:
            found = await self._flavor(name.value, kind)
        else:
            try:
                path = f"{kind.collection}/{segment(name.value)}"
            except ValueError:
                return None  # no resource can have this name
            query = urlencode({"user_id": name.owner}) if name.kind == KEY_PAIR else ""
            answer = await self._get(kind.service, path, query)
            found = answer.get(kind.key) if answer is not None and kind.key else answer
        return {field: found.get(field) for field in kind.lasting} if found else None

    async def _flavor(self, value: str, kind: NameKind) -> Mapping[str, Any] | None:
        marker: dict[str, str] = {}
        while True:
            answer = await self._get(kind.service, f"{kind.collection}/detail", urlencode({"is_public": "None", "limit": PAGE, **marker}))
            flavors = (answer or {}).get("flavors") or []
            found = next((flavor for flavor in flavors if flavor["name"] == value), None)
            if found is not None or len(flavors) < PAGE:
                return found
            marker = {"marker": flavors[-1]["id"]}

    async def _get(self, service: str, path: str, query: str) -> Any:
        token = await self._sites.own_token(service)
        headers = CIMultiDict({"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.61", "Accept": "application/json"})
        reply = await self._sites.send(self._sites.here, Call("GET", service, path, query, headers, None, request_id(None)))
        if reply.status not in {200, 400, 404}:
            raise Unreachable(self._sites.here, f"its own {service} service answers HTTP {reply.status}")
        return reply.json() if reply.status == 200 else None


def read(data: Any) -> list[Name]:
    """Return the names that another gateway has sent.

    Raises:
        ValueError, TypeError: the names are invalid.
    """
    names = [Name(str(kind), str(value), str(owner)) for kind, value, owner in data]
    if any(name.kind not in NAME_KINDS for name in names):
        raise ValueError("this gateway does not know the kind of a name")
    if any(len(text) > _LONGEST for name in names for text in (name.value, name.owner)):
        raise ValueError(f"a name has more than {_LONGEST} characters")
    return names
