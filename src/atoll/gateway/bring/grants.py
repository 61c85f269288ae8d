"""Grants that this gateway makes with its own authority, on the word of the sites where the owner made them, and their end.

One mechanism for all that lets a project use what another one owns: Neutron's RBAC policies and its `shared` flag, the members of an
image, the access to a flavor. The gateway grants on a copy what each site where the thing is native grants to the same project, and no
more. The ledger remembers it. When such a site takes its grant back, it tells this one (`loans`), and the copy's grant ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlencode

from aiohttp import web

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.asking import Asker, Failed
from atoll.gateway.bring.holders import RBAC, Holders
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.references import Reference
from atoll.gateway.bring.things import Description
from atoll.gateway.peer import PEER
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites
from atoll.identifiers import GATEWAY_PROJECT

LOG = logging.getLogger(__name__)

PATH = "/atoll/withdrawals"

_IN_USE = 409
_MOST_BYTES = 4096


class Grants:
    """Makes grants on copies, and takes them back.

    Args:
        sites: the sites.
        ledger: where they are noted before they are made.
        holders: tells what other sites grant.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self._sites = sites
        self._ledger = ledger
        self._holders = holders

    def attach(self, application: web.Application) -> None:
        """Add the handler to the application of the peer port."""
        application.router.add_post(PATH, self._withdraw)

    async def ensure(self, asker: Asker, reference: Reference, seen: Sequence[Description]) -> None:
        """Let the user's project use this site's copy, if its owner lets it where the thing is native.

        Args:
            asker: of the user's request.
            reference: the thing, by its id.
            seen: how the other sites hold it and what they grant to the user's project (`Holders.agreed`).

        Raises:
            Failed: the owner does not let it; or the thing is this site's own, so that only its owner may share it here.
            Unreachable: a service does not answer.
        """
        if await asker.look(self._sites.here, reference) is not None:
            return
        if not self._ledger.is_brought(reference.kind, reference.id):
            raise Failed(f"{reference} is this site's own, and its owner has not shared it here")
        project = await asker.project()
        actions, lenders = allowed(seen)
        if not actions:
            raise Failed(f"the owner of {reference} does not share it with project {project}")
        self._ledger.grant(reference.kind, reference.id, project, actions, lenders)
        await self._make(asker, reference, project, actions)

    async def _make(self, asker: Asker, reference: Reference, project: str, actions: Sequence[str]) -> None:
        name = segment(reference.id)
        if reference.kind == kinds.IMAGE:
            members = f"/v2/images/{name}/members"
            await asker.make("POST", "image", members, {"member": project}, exists=True)
            accepted = (f"{members}/{segment(project)}", {"status": "accepted"})
            await asker.make_as_user("PUT", "image", accepted, lambda _viewer: accepted)
        elif reference.kind == kinds.FLAVOR:
            access = {"addTenantAccess": {"tenant": project}}
            await asker.make("POST", "compute", f"/v2.1/flavors/{name}/action", access, exists=True)
        else:
            for action in actions:
                policy = {"object_type": RBAC[reference.kind], "object_id": reference.id, "action": action, "target_tenant": project}
                # Whose policy it is tells it from one that the owner makes at this site.
                owned = {"rbac_policy": policy | {"project_id": GATEWAY_PROJECT}}
                await asker.make("POST", "network", "/v2.0/rbac-policies", owned, exists=True)

    async def _withdraw(self, request: web.Request) -> web.StreamResponse:
        """A site on whose word something may have been granted takes its word back."""
        try:
            said = await request.json() if (request.content_length or 0) <= _MOST_BYTES else {}
            reference, project = Reference(str(said["kind"]), str(said["id"])), str(said["project"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="expected kind, id and project") from error
        if request[PEER] not in self._ledger.lenders(reference.kind, reference.id, project):
            return web.json_response({"withdrawn": False})
        try:
            kept = await self.review(reference, project)
        except Failed as error:
            raise web.HTTPConflict(text=str(error)) from error
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.json_response({"withdrawn": not kept})

    async def review(self, reference: Reference, project: str) -> bool:
        """Ask the other sites again what they grant, and take back what they no longer do.

        Returns:
            True if the grant stays.

        Raises:
            Failed: the service refuses, because the project still uses the thing.
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
        asker = Asker(self._sites, "", request_id(None))
        name = segment(reference.id)
        if reference.kind == kinds.IMAGE:
            here = await self._holders.here(kinds.IMAGE, reference.id)
            if here is None or here.body["visibility"] != "shared":
                return  # such an image has no members
            await asker.make("DELETE", "image", f"/v2/images/{name}/members/{segment(project)}", gone=True)
        elif reference.kind == kinds.FLAVOR:
            access = {"removeTenantAccess": {"tenant": project}}
            await asker.make("POST", "compute", f"/v2.1/flavors/{name}/action", access, gone=True)
        else:
            await self._delete_policies(reference, project, actions)

    async def _delete_policies(self, reference: Reference, project: str, actions: Sequence[str]) -> None:
        """Delete the RBAC policies that this gateway made: those of its own project."""
        asker = Asker(self._sites, await self._sites.own_token("network"), request_id(None))
        query = urlencode({"object_id": reference.id, "target_tenant": project, "project_id": GATEWAY_PROJECT})
        found = await asker.get(self._sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}
        for policy in found.get("rbac_policies", ()):
            ours = (policy["project_id"], policy["object_id"], policy["target_tenant"]) == (GATEWAY_PROJECT, reference.id, project)
            if ours and policy["action"] in actions:
                await asker.make("DELETE", "network", f"/v2.0/rbac-policies/{segment(policy['id'])}", gone=True)


def allowed(seen: Sequence[Description]) -> tuple[list[str], list[str]]:
    """Decide what may be granted on a copy.

    Args:
        seen: how other sites hold the thing, and what each grants to the project.

    Returns:
        The actions that all sites grant where the thing is native, and those sites; if none of them can be reached, those that all sites
        with a copy grant, and those sites.
    """
    words = [each for each in seen if each.native] or list(seen)
    if not words:
        return [], []
    actions = set.intersection(*(set(each.granted) for each in words))
    return sorted(actions), [each.site for each in words]
