"""Asks the gateways of all sites that can be reached how they hold a thing, and answers the same question of theirs.

A user sees only a part: another project's private image under the same id is hidden from it. So the gateways ask one another, each with
its own account at its own site. Nothing of an answer reaches a client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.asking import LOOK_S, Asker
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.bring.port_users import user_of
from atoll.gateway.bring.things import Description, Disagreement, agree
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.peer import PEER
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve import sight
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

PATH = "/atoll/things/{kind}/{id}"

_SLUGS = {
    kinds.IMAGE: "image",
    kinds.FLAVOR: "flavor",
    kinds.NETWORK: "network",
    kinds.SECURITY_GROUP: "security-group",
    kinds.PORT: "port",
}
_KINDS = {slug: kind for kind, slug in _SLUGS.items()}

_WHERE: Mapping[str, tuple[str, str, str]] = {
    kinds.IMAGE: ("image", "/v2/images/", ""),
    kinds.FLAVOR: ("compute", "/v2.1/flavors/", "flavor"),
    kinds.NETWORK: ("network", "/v2.0/networks/", "network"),
    kinds.SECURITY_GROUP: ("network", "/v2.0/security-groups/", "security_group"),
    kinds.PORT: ("network", "/v2.0/ports/", "port"),
}
"""By kind: the service, the path of the collection, and the key in the answer."""

USE = "use"
"""The action that an image's member and a project with access to a flavor may do."""

RBAC: Mapping[str, str] = {kinds.NETWORK: "network", kinds.SECURITY_GROUP: "security_group"}
"""Kinds that Neutron shares by its RBAC policies, each with its `object_type`."""


def question(kind: str, identifier: str, project: str = "") -> str:
    """Return the target by which a site's gateway is asked how it holds a thing.

    Raises:
        ValueError: no resource can have this id.
    """
    query = f"?{urlencode({'project': project})}" if project else ""
    return f"/things/{_SLUGS[kind]}/{segment(identifier)}{query}"


class Holders:
    """Asks and answers who holds a thing.

    Args:
        sites: the sites.
        ledger: this site's copies and loans.
        conflicts: where disagreements are noted.
    """

    def __init__(self, sites: Sites, ledger: Ledger, conflicts: Conflicts) -> None:
        self._sites = sites
        self._ledger = ledger
        self._conflicts = conflicts

    def attach(self, application: web.Application) -> None:
        """Add the handler to the application of the peer port."""
        application.router.add_get(PATH, self._answer)

    async def agreed(self, kind: str, identifier: str, project: str = "") -> tuple[Description | None, list[Description]]:
        """Describe a thing as this site and all others that can be reached hold it, and make sure that it is the same thing.

        Args:
            kind: image, flavor, network or security group.
            identifier: its id.
            project: the project that would use it. A site that says that it may has noted that this site may grant it.

        Returns:
            This site's description, or None; and those of the other sites, nearest first.

        Raises:
            Disagreement: they hold different things under this id. It is noted for the operator.
            Unreachable: this site's service does not answer.
        """
        here, elsewhere = await asyncio.gather(self.here(kind, identifier, project), self.elsewhere(kind, identifier, project))
        everyone = ([here] if here else []) + elsewhere
        try:
            agree(kind, identifier, {each.site: each.body for each in everyone})
        except Disagreement as error:
            self._conflicts.note(kind, identifier, error.sites, str(error))
            raise
        self._conflicts.resolve(kind, identifier)
        return here, elsewhere

    async def elsewhere(self, kind: str, identifier: str, project: str = "") -> list[Description]:
        """Return how the other sites that can be reached hold a thing, nearest first; see `agreed`."""
        sites = self._sites.reachable()
        found = await asyncio.gather(*(self._ask(site, kind, identifier, project) for site in sites))
        return [each for each in found if each is not None]

    async def here(self, kind: str, identifier: str, project: str = "") -> Description | None:
        """Return how this site holds a thing; None if it does not.

        Raises:
            Unreachable: its service does not answer.
        """
        service, collection, key = _WHERE[kind]
        try:
            name = segment(identifier)
        except ValueError:
            return None  # no resource can have this id
        asker = Asker(self._sites, await self._sites.own_token(service), request_id(None))
        answer = await asker.get(self._sites.here, service, collection + name)
        body = answer[key] if answer and key else answer
        if not body:
            return None
        granted = await self._granted(asker, kind, body, project) if project else ()
        return Description(self._sites.here, body, not self._ledger.is_brought(kind, identifier), granted)

    async def _granted(self, asker: Asker, kind: str, body: Mapping[str, Any], project: str) -> tuple[str, ...]:
        """The actions that this site lets a project do, by its own service's records."""

        async def get(target: str) -> Any:
            return await asker.get(self._sites.here, _WHERE[kind][0], target)

        if kind == kinds.IMAGE:
            return (USE,) if await sight.uses_image(body, project, get) else ()
        if kind == kinds.FLAVOR:
            return (USE,) if await sight.uses_flavor(body, project, get) else ()
        if kind not in RBAC:
            return ()
        if body["project_id"] == project:
            return ("access_as_shared",)
        return await sight.actions(RBAC[kind], body["id"], project, get)

    async def _ask(self, site: str, kind: str, identifier: str, project: str) -> Description | None:
        try:
            call = Asker(self._sites, "", request_id(None)).call("GET", "atoll", question(kind, identifier, project), "")
            reply = await self._sites.send(site, call, LOOK_S)
            said = reply.json() if reply.ok else None
            return said and Description(site, dict(said["body"]), bool(said["native"]), _texts(said["granted"]))
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            LOG.info("%s can't be asked for %s %s: %s", site, kind, identifier, error)
            return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind, identifier = _KINDS.get(request.match_info["kind"]), request.match_info["id"]
        project = request.query.get("project", "")
        if kind is None:
            raise web.HTTPNotFound
        try:
            found = await self.here(kind, identifier, project)
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        if found is None:
            raise web.HTTPNotFound
        if found.granted and _individual(kind, found) and found.owner(kind) != project:
            self._ledger.lend(Loan(kind, identifier, project, request[PEER]))
        said = {"body": found.body, "native": found.native, "granted": found.granted}
        if kind == kinds.PORT:
            asker = Asker(self._sites, await self._sites.own_token("network"), request_id(None))
            said["used"] = await user_of(asker, identifier)
        return web.json_response(said)


def _texts(said: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(each) for each in said)


def _individual(kind: str, found: Description) -> bool:
    """Return whether a grant may be to single projects: a copy of what everybody sees shows itself to everybody."""
    if kind == kinds.IMAGE:
        return found.body.get("visibility") == "shared"
    return kind != kinds.FLAVOR or not found.body["os-flavor-access:is_public"]
