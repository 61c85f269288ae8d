"""Handle RBAC policies across sites: the meaning of each type's policies, the site where one is created, and whether one may be deleted.

A policy belongs to the site where its object's owner created the object: on copies, gateways repeat the grants of that site (`grants`). So
a policy that is requested at a site with a copy, or without the object, is created at the object's own site. The deletion of a policy that
a project still uses at a site with a copy is refused with upstream's 409, as at the object's own site.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from atoll.gateway.bring.holders import RBAC, Holders
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.bring.references import NETWORK, Reference
from atoll.gateway.bring.service_client import LOOK_S, BringRefused, ServiceClient
from atoll.gateway.bring.trust import SpeaksFor
from atoll.gateway.faults import fault
from atoll.gateway.request.call import GATEWAY, Call, Reply, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import is_uuid, segment
from atoll.gateway.resolve.locate import holders as shown_at
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

PATH = "/atoll/uses/{kind}/{id}"

SHARED, EXTERNAL = "access_as_shared", "access_as_external"
EVERYBODY = "*"

_POLICY = re.compile(r"/v2\.0/rbac-policies/([^/]+?)(?:\.json)?/?")


@dataclass(frozen=True)
class SharedType:
    """A type of objects that RBAC policies share.

    Attributes:
        collection: the path of the collection.
        actions: the actions that a policy of this type may grant.
        copied: `True` if the gateway brings such objects to other sites.
        across: the meaning of a policy at other sites, as text for the documentation.
    """

    collection: str
    actions: tuple[str, ...]
    copied: bool
    across: str


_FOLLOWS = (
    "The gateway of a site that has a copy creates a policy of its own when the project needs the copy. It deletes that policy after the "
    "owner's policy; a site that is cut off does so when it is back. Deleting a policy that the project still uses at a reachable site is "
    "refused (409)."
)
_STAYS = "The object and the policy are at one site. The project sees the object in the lists of every site, and uses it at that site."

TYPES: Mapping[str, SharedType] = {
    "network": SharedType("/v2.0/networks", (SHARED, EXTERNAL), True, f"{_FOLLOWS} An external network can be used at its own site alone."),
    "security_group": SharedType("/v2.0/security-groups", (SHARED,), True, _FOLLOWS),
    "address_group": SharedType("/v2.0/address-groups", (SHARED,), False, _STAYS),
    "address_scope": SharedType("/v2.0/address-scopes", (SHARED,), False, _STAYS),
    "subnetpool": SharedType("/v2.0/subnetpools", (SHARED,), False, _STAYS),
    "qos_policy": SharedType("/v2.0/qos/policies", (SHARED,), False, _STAYS),
    "bgpvpn": SharedType("/v2.0/bgpvpn/bgpvpns", (SHARED,), False, _STAYS),
}
"""Types by `object_type`. A test compares them with the installed Neutron; docs/reference/sharing.md is generated from them."""

RIGHTS: Mapping[str, str] = {
    "RBAC policy": "It depends on the type of the object: see the table below.",
    "`shared` of a network, a QoS policy, an address scope or a subnet pool": (
        "Neutron keeps it as an RBAC policy for all projects. Ending it is refused (409) while servers of another site use the network."
    ),
    "member of an image": "Valid at each site that has the image: its copies have the members that the owner named.",
    "`visibility` of an image": "Valid at each site that has the image; a new copy gets the least visibility that any site's copy has.",
    "access to a private flavor": "Valid at each site that has the flavor, for the projects that an administrator named.",
    "ownership of a key pair": "The user alone owns it, at each site; key pairs can't be shared.",
    "ownership of a server group": "The project alone owns it, at the site of the group; server groups can't be shared.",
    "ownership of everything else": "The project owns the resource, and every copy of it.",
}
"""The effect at other sites of each right to use another project's resource; for docs/reference/sharing.md."""

_KINDS = {kind: name for name, kind in RBAC.items()}
"""The kind of the resource, by `object_type`."""


class RbacPolicies:
    """The RBAC policies of one site, and their effect at other sites.

    Args:
        sites: sends requests to the sites.
        ledger: records the grants of other sites that are based on this site's grants.
        holders: asks which sites have an object.
        speaks_for: the trust in other sites: a site that does not speak for an object's owner can't keep the object shared by reporting a
            use.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders, speaks_for: SpeaksFor) -> None:
        self._speaks_for = speaks_for
        self._sites = sites
        self._ledger = ledger
        self._holders = holders

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_get(PATH, self._answer)

    async def site_for(self, call: Call) -> str:
        """Return the site where a requested policy belongs: the site of the object; this one if no site shows the object to the user.

        Args:
            call: `POST /v2.0/rbac-policies`.

        Raises:
            BringRefused: the object may belong to a site that can't be reached.
            Unreachable: a service of this site does not answer.
        """
        here = self._sites.here
        try:
            policy = call.value["rbac_policy"]
            kind, identifier = str(policy["object_type"]), str(policy["object_id"])
            path = f"{TYPES[kind].collection}/{segment(identifier)}"
        except (ValueError, KeyError, TypeError):
            return here  # Neutron refuses the body
        look = call.with_(method="GET", path=path, query="", body=None)
        among = await self._natives(_KINDS[kind], identifier) if kind in _KINDS else self._sites.reachable("network")
        if here in among or (kind not in _KINDS and (await shown_at(self._sites, look, [here]))[0]):
            return here
        # The answer names its site. A user who may not see the object must not learn where it is.
        have, silent = await shown_at(self._sites, look, among)
        away = self._away(silent)
        if not have and away and is_uuid(identifier):
            raise BringRefused(f"the {kind} is at no site that can be reached", 503, away)
        return have[0] if have else here

    def _away(self, silent: Collection[str] = ()) -> list[str]:
        """Return the members that can't be reached, or did not answer a question."""
        there = {*self._sites.reachable("network")} - {*silent}
        return [site for site in self._sites.others("network") if site not in there]

    async def _natives(self, kind: str, identifier: str) -> list[str]:
        """Return the sites where an object was created; if there is none, this site if it has a copy, else the sites with a copy.

        Raises:
            BringRefused: the object is here as a copy, and may belong to a site that can't be reached. A policy of the copy alone would
                share the object at this site and nowhere else.
        """
        own = await self._holders.here(kind, identifier)
        if own is not None and own.native:
            return [self._sites.here]
        elsewhere = await self._holders.elsewhere(kind, identifier)
        natives = [each.site for each in elsewhere if each.native]
        if not natives and (away := self._away()) and is_uuid(identifier):
            raise BringRefused("the object belongs to no site that can be reached", 503, away)
        return natives or ([self._sites.here] if own is not None else [each.site for each in elsewhere])

    async def refusal(self, call: Call) -> Reply | None:
        """Return 409 if a request would delete a policy that its project uses at another reachable site.

        Args:
            call: any request for this site.

        Raises:
            Unreachable: a service of this site does not answer.
        """
        found = _POLICY.fullmatch(call.path) if call.method in {"DELETE", "PUT"} and call.service == "network" else None
        if found is None or not self._ledger.lent():
            return None
        client = ServiceClient(self._sites, call.token, call.request_id)
        answer = await client.get(self._sites.here, "network", f"/v2.0/rbac-policies/{found[1]}")
        if not answer or not await self._loses(call, answer["rbac_policy"]):
            return None
        return await self._used(call, answer["rbac_policy"])

    async def users_of_network(self, identifier: str, owner: str) -> list[str]:
        """Return the reachable sites at which projects use a network of this site that is shared with everybody.

        Args:
            identifier: the network's id. No other site has copies of a network that was not created here.
            owner: the id of the network's project.

        Raises:
            Unreachable: Neutron does not answer.
        """
        if not self._ledger.is_lent(NETWORK, identifier):
            return []
        own = ServiceClient(self._sites, await self._sites.own_token("network"), request_id(None))
        query = urlencode({"object_id": identifier, "action": SHARED})
        policies = (await own.get(self._sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}).get("rbac_policies", ())
        kept = {each["target_tenant"] for each in policies} - {EVERYBODY}
        if not any(each["target_tenant"] == EVERYBODY for each in policies):
            return []
        return await self._users(Reference(NETWORK, identifier), owner, EVERYBODY, SHARED, without=kept)

    async def _loses(self, call: Call, policy: Mapping[str, Any]) -> bool:
        """Return whether a request takes access away from the policy's project."""
        if policy["object_type"] not in _KINDS or not self._ledger.is_lent(_KINDS[policy["object_type"]], policy["object_id"]):
            return False
        if call.method == "PUT":
            try:
                target = call.value["rbac_policy"].get("target_tenant", policy["target_tenant"])
            except (ValueError, KeyError, TypeError, AttributeError):
                return False
            if target in {policy["target_tenant"], EVERYBODY}:
                return False
        query = urlencode({"object_id": policy["object_id"], "action": policy["action"], "target_tenant": EVERYBODY})
        own = ServiceClient(self._sites, await self._sites.own_token("network"), call.request_id)
        others = await own.get(self._sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}
        return all(each["id"] == policy["id"] for each in others.get("rbac_policies", ()))

    async def _used(self, call: Call, policy: Mapping[str, Any]) -> Reply | None:
        reference = Reference(_KINDS[policy["object_type"]], policy["object_id"])
        used = await self._users(reference, policy["project_id"], policy["target_tenant"], policy["action"])
        if not used:
            return None
        message = f"RBAC policy on object {policy['object_id']} cannot be removed because other objects depend on it."
        return fault(call.service, 409, f"{message}\nDetails: at {', '.join(used)}", self._sites.here)

    async def _users(self, shared: Reference, owner: str, target: str, action: str, without: Collection[str] = ()) -> list[str]:
        """Return the reachable sites at which the target of a policy uses an object; the target `*` means every project but `without`."""
        there = {site for site in self._sites.reachable() if self._speaks_for(site, owner)}
        loans = [
            loan
            for loan in self._ledger.loans(shared.kind, shared.id)
            if loan.borrower in there and loan.project not in without and target in {loan.project, EVERYBODY}
        ]
        used = await asyncio.gather(*(self._ask(loan, action) for loan in loans))
        return sorted({loan.borrower for loan, uses in zip(loans, used, strict=True) if uses})

    async def _ask(self, loan: Loan, action: str) -> bool:
        """Return whether a project uses an object at a borrower.

        If the borrower does not answer, return `False`: `loans` withdraws its grant later.
        """
        query = urlencode({"project": loan.project, "action": action})
        target = f"/uses/{RBAC[loan.kind]}/{segment(loan.id)}?{query}"
        try:
            reply = await self._sites.send(
                loan.borrower, ServiceClient(self._sites, "", request_id(None)).call("GET", GATEWAY, target, ""), LOOK_S
            )
            return bool(reply.json()["uses"]) if reply.status == 200 else False
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            LOG.info("%s does not answer whether project %s uses %s: %s", loan.borrower, loan.project, loan.id, error)
            return False

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind, identifier = request.match_info["kind"], request.match_info["id"]
        project, action = request.query.get("project", ""), request.query.get("action", "")
        if kind not in _KINDS or not project:
            raise web.HTTPNotFound
        try:
            return web.json_response({"uses": await self._uses(kind, identifier, project, action)})
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error

    async def _uses(self, kind: str, identifier: str, project: str, action: str) -> bool:
        """Return whether a project uses an object at this site.

        A network and a security group are used by ports, an external network by routers and floating IPs.
        """
        client = ServiceClient(self._sites, await self._sites.own_token("network"), request_id(None))

        async def found(key: str, **query: str) -> list[dict[str, Any]]:
            answer = await client.get(self._sites.here, "network", f"/v2.0/{key}?{urlencode(query)}")
            return list((answer or {}).get(key, ()))

        if kind == "security_group":
            return bool(await found("ports", security_groups=identifier, project_id=project))
        if action == EXTERNAL:
            routers = await found("routers", project_id=project)
            gateways = [(each.get("external_gateway_info") or {}).get("network_id") for each in routers]
            return identifier in gateways or bool(await found("floatingips", floating_network_id=identifier, project_id=project))
        return bool(await found("ports", network_id=identifier, project_id=project))
