"""Asks the gateways of all reachable sites for their descriptions of a resource, and answers such questions from them.

A user sees only some of the resources: another project's private image under the same id is hidden from the user. So the gateways ask one
another, each with its own account at its own site. No client sees any part of these answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.descriptions import Description, Disagreement, agree
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.bring.port_users import user_of
from atoll.gateway.bring.service_client import LOOK_S, ServiceClient
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.peer import PEER
from atoll.gateway.request.call import GATEWAY, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve import visibility
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
"""The service, the path of the collection and the key of the answer, by kind."""

USE = "use"
"""The action that the members of an image and the projects with access to a flavor are allowed."""

RBAC: Mapping[str, str] = {kinds.NETWORK: "network", kinds.SECURITY_GROUP: "security_group"}
"""The `object_type` of Neutron's RBAC policies, by kind."""


def question(kind: str, identifier: str, project: str = "") -> str:
    """Return the path, with query, by which another site's gateway is asked for its description of a resource.

    Raises:
        ValueError: no resource can have this id.
    """
    query = f"?{urlencode({'project': project})}" if project else ""
    return f"/things/{_SLUGS[kind]}/{segment(identifier)}{query}"


class Holders:
    """The sites that hold a resource.

    Args:
        sites: sends requests to the sites.
        ledger: this site's copies and loans.
        conflicts: records disagreements.
    """

    def __init__(self, sites: Sites, ledger: Ledger, conflicts: Conflicts) -> None:
        self._sites = sites
        self._ledger = ledger
        self._conflicts = conflicts

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_get(PATH, self._answer)

    async def agreed(self, kind: str, identifier: str, project: str = "") -> tuple[Description | None, list[Description]]:
        """Return the descriptions of a resource by this site and all other reachable ones, after a check that it is the same resource.

        Args:
            kind: image, flavor, network, security group or port.
            identifier: the resource's id.
            project: the project that would use it. A site that allows the use has recorded that this site may grant it.

        Returns:
            This site's description, or `None`; and the descriptions of the other sites, nearest first.

        Raises:
            Disagreement: the sites hold different resources under this id. It is recorded for the operator.
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
        """Return the descriptions of a resource by the other reachable sites, nearest first; see `agreed`."""
        sites = self._sites.reachable(_WHERE[kind][0])
        found = await asyncio.gather(*(self._ask(site, kind, identifier, project) for site in sites))
        return [each for each in found if each is not None]

    async def here(self, kind: str, identifier: str, project: str = "") -> Description | None:
        """Return this site's description of a resource; `None` if the site has no such resource.

        Raises:
            Unreachable: the service does not answer.
        """
        service, collection, key = _WHERE[kind]
        try:
            name = segment(identifier)
        except ValueError:
            return None  # no resource can have this id
        client = ServiceClient(self._sites, await self._sites.own_token(service), request_id(None))
        answer = await client.get(self._sites.here, service, collection + name)
        body = answer[key] if answer and key else answer
        if not body:
            return None
        granted = await self._granted(client, kind, body, project) if project else ()
        return Description(self._sites.here, body, not self._ledger.is_brought(kind, identifier), granted)

    async def _granted(self, client: ServiceClient, kind: str, body: Mapping[str, Any], project: str) -> tuple[str, ...]:
        """Return the actions that this site allows a project, by its own service's records."""

        async def get(target: str) -> Any:
            return await client.get(self._sites.here, _WHERE[kind][0], target)

        if kind == kinds.IMAGE:
            return (USE,) if await visibility.uses_image(body, project, get) else ()
        if kind == kinds.FLAVOR:
            return (USE,) if await visibility.uses_flavor(body, project, get) else ()
        if kind not in RBAC:
            return ()
        if body["project_id"] == project:
            return ("access_as_shared",)
        return await visibility.actions(RBAC[kind], body["id"], project, get)

    async def _ask(self, site: str, kind: str, identifier: str, project: str) -> Description | None:
        try:
            call = ServiceClient(self._sites, "", request_id(None)).call("GET", GATEWAY, question(kind, identifier, project), "")
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
            client = ServiceClient(self._sites, await self._sites.own_token("network"), request_id(None))
            said["used"] = await user_of(client, identifier)
        return web.json_response(said)


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(each) for each in values)


def _individual(kind: str, found: Description) -> bool:
    """Return whether a resource is granted to single projects; a resource that everybody sees needs no grants."""
    if kind == kinds.IMAGE:
        return found.body.get("visibility") == "shared"
    return kind != kinds.FLAVOR or not found.body["os-flavor-access:is_public"]
