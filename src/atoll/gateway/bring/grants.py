"""Grant access to copies as their owners granted it at other sites, and revoke it when the owners do.

One mechanism covers everything that lets a project use another project's resource: Neutron's RBAC policies and `shared` flag, the members
of an image, and the access to a flavor. On a copy, the gateway grants a project the actions that every site where the resource is native
grants to the same project, and no others. The ledger records each grant. When such a site revokes its grant, it tells this one (`loans`),
and the grant on the copy ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlencode

import orjson
from aiohttp import web

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.descriptions import Description
from atoll.gateway.bring.holders import RBAC, Holders
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.references import Reference
from atoll.gateway.bring.service_client import BringFailed, ServiceClient
from atoll.gateway.peer import PEER, peer_body
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites
from atoll.identifiers import GATEWAY_PROJECT

LOG = logging.getLogger(__name__)

PATH = "/atoll/withdrawals"

_IN_USE = 409
_MOST_BYTES = 4096
"""Greatest size, in bytes, of a notice that a grant has ended."""


class Grants:
    """The grants on this site's copies.

    Args:
        sites: sends requests to the sites.
        ledger: records the grants before they are made.
        holders: asks the other sites for their grants.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self._sites = sites
        self._ledger = ledger
        self._holders = holders

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_post(PATH, self._withdraw)

    async def ensure(self, client: ServiceClient, reference: Reference, seen: Sequence[Description]) -> None:
        """Grant the user's project the use of this site's copy, if the owner grants it where the resource is native.

        Args:
            client: the client of the user's request.
            reference: the resource, by its id.
            seen: the descriptions of the resource by the other sites, with their grants to the user's project (`Holders.agreed`).

        Raises:
            BringFailed: the owner does not grant the use; or the resource is native here, where only its owner may share it.
            Unreachable: a service does not answer.
        """
        if await client.look(self._sites.here, reference) is not None:
            return
        if not self._ledger.is_brought(reference.kind, reference.id):
            raise BringFailed(f"{reference} is this site's own, and its owner has not shared it here")
        project = await client.project()
        actions, lenders = allowed(seen)
        if not actions:
            raise BringFailed(f"the owner of {reference} does not share it with project {project}")
        self._ledger.grant(reference.kind, reference.id, project, actions, lenders)
        await self._make(client, reference, project, actions)

    async def _make(self, client: ServiceClient, reference: Reference, project: str, actions: Sequence[str]) -> None:
        name = segment(reference.id)
        if reference.kind == kinds.IMAGE:
            members = f"/v2/images/{name}/members"
            await client.make("POST", "image", members, {"member": project}, exists=True)
            accepted = (f"{members}/{segment(project)}", {"status": "accepted"})
            await client.make_as_user("PUT", "image", accepted, lambda _viewer: accepted)
        elif reference.kind == kinds.FLAVOR:
            access = {"addTenantAccess": {"tenant": project}}
            await client.make("POST", "compute", f"/v2.1/flavors/{name}/action", access, exists=True)
        else:
            for action in actions:
                policy = {"object_type": RBAC[reference.kind], "object_id": reference.id, "action": action, "target_tenant": project}
                # The policy belongs to the gateway's project, which distinguishes it from one that the owner makes at this site.
                owned = {"rbac_policy": policy | {"project_id": GATEWAY_PROJECT}}
                await client.make("POST", "network", "/v2.0/rbac-policies", owned, exists=True)

    async def _withdraw(self, request: web.Request) -> web.StreamResponse:
        """Handle another site's notice that a grant has ended on which one of this site's grants is based."""
        try:
            said = orjson.loads(await peer_body(request, _MOST_BYTES))
            reference, project = Reference(str(said["kind"]), str(said["id"])), str(said["project"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="expected a JSON object with kind, id and project") from error
        if request[PEER] not in self._ledger.lenders(reference.kind, reference.id, project):
            return web.json_response({"withdrawn": False})
        try:
            kept = await self.review(reference, project)
        except BringFailed as error:
            raise web.HTTPConflict(text=str(error)) from error
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.json_response({"withdrawn": not kept})

    async def review(self, reference: Reference, project: str) -> bool:
        """Ask the other sites for their grants again, and revoke the grant on this site's copy if they no longer make theirs.

        Returns:
            `True` if the grant stays.

        Raises:
            BringFailed: the service refuses because the project still uses the resource.
            Unreachable: a service does not answer.
        """
        kind, identifier = reference.kind, reference.id
        actions, lenders = allowed(await self._holders.elsewhere(kind, identifier, project))
        gone = [action for action in self._ledger.granted(kind, identifier, project) if action not in actions]
        await self._take_back(reference, project, gone)
        if not actions:
            self._ledger.revoke(kind, identifier, project)
            LOG.info("%s is no longer shared with project %s", reference, project)
            return False
        kept = [action for action in self._ledger.granted(kind, identifier, project) if action in actions]
        self._ledger.grant(kind, identifier, project, kept, lenders)
        return True

    async def _take_back(self, reference: Reference, project: str, actions: Sequence[str]) -> None:
        if not actions:
            return
        client = ServiceClient(self._sites, "", request_id(None))
        name = segment(reference.id)
        if reference.kind == kinds.IMAGE:
            here = await self._holders.here(kinds.IMAGE, reference.id)
            if here is None or here.body["visibility"] != "shared":
                return  # an image that is not shared has no members
            await client.make("DELETE", "image", f"/v2/images/{name}/members/{segment(project)}", gone=True)
        elif reference.kind == kinds.FLAVOR:
            access = {"removeTenantAccess": {"tenant": project}}
            await client.make("POST", "compute", f"/v2.1/flavors/{name}/action", access, gone=True)
        else:
            await self._delete_policies(reference, project, actions)

    async def _delete_policies(self, reference: Reference, project: str, actions: Sequence[str]) -> None:
        """Delete the RBAC policies that this gateway created, which belong to its own project."""
        client = ServiceClient(self._sites, await self._sites.own_token("network"), request_id(None))
        query = urlencode({"object_id": reference.id, "target_tenant": project, "project_id": GATEWAY_PROJECT})
        found = await client.get(self._sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}
        for policy in found.get("rbac_policies", ()):
            ours = (policy["project_id"], policy["object_id"], policy["target_tenant"]) == (GATEWAY_PROJECT, reference.id, project)
            if ours and policy["action"] in actions:
                await client.make("DELETE", "network", f"/v2.0/rbac-policies/{segment(policy['id'])}", gone=True)


def allowed(seen: Sequence[Description]) -> tuple[list[str], list[str]]:
    """Return the actions that may be granted on a copy, and the sites on which the grant is based.

    Args:
        seen: the descriptions of the resource by other sites, with the grants of each to the project.

    Returns:
        The actions granted by every site where the resource is native, and the names of these sites. If `seen` has no such site: the
        actions granted by every site with a copy, and the names of these.
    """
    sources = [each for each in seen if each.native] or list(seen)
    if not sources:
        return [], []
    actions = set.intersection(*(set(each.granted) for each in sources))
    return sorted(actions), [each.site for each in sources]
