"""RBAC policies across sites: what each type's policies mean there, where a policy is made, and whether one may go.

A policy belongs to the site where its object's owner made the object: on copies the gateway grants what is granted there (`grants`). So a
policy that is asked for at a site with a copy, or without the object, is made at the object's own site. And one that a project still uses
at a site with a copy is refused with upstream's 409, as it is where the object is.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from atoll.gateway.bring.asking import LOOK_S, Asker
from atoll.gateway.bring.holders import RBAC, Holders
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.bring.references import NETWORK, Reference
from atoll.gateway.faults import fault
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.request.paths import segment
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
        copied: True if the gateway brings such objects to other sites.
        across: what a policy means at other sites, for people.
    """

    collection: str
    actions: tuple[str, ...]
    copied: bool
    across: str


_FOLLOWS = (
    "granted on each copy that the project needs, by the gateway's own policy, and taken back there when the owner's policy goes; "
    "at a site that is cut off, when it is back. A policy that the project still uses at any site that can be reached is kept: 409"
)
_STAYS = "the object is at one site, and so is the policy; the project sees it in every site's list, and uses it at the object's site"

TYPES: Mapping[str, SharedType] = {
    "network": SharedType("/v2.0/networks", (SHARED, EXTERNAL), True, f"{_FOLLOWS}. An external network is used at its own site alone"),
    "security_group": SharedType("/v2.0/security-groups", (SHARED,), True, _FOLLOWS),
    "address_group": SharedType("/v2.0/address-groups", (SHARED,), False, _STAYS),
    "address_scope": SharedType("/v2.0/address-scopes", (SHARED,), False, _STAYS),
    "subnetpool": SharedType("/v2.0/subnetpools", (SHARED,), False, _STAYS),
    "qos_policy": SharedType("/v2.0/qos/policies", (SHARED,), False, _STAYS),
    "bgpvpn": SharedType("/v2.0/bgpvpn/bgpvpns", (SHARED,), False, _STAYS),
}
"""By `object_type`. A test compares it with the installed Neutron; docs/reference/sharing.md is made from it."""

RIGHTS: Mapping[str, str] = {
    "RBAC policy": "by its type, see the table of types",
    "`shared` of a network, a QoS policy, an address scope or a subnet pool": (
        "Neutron keeps it as an RBAC policy for everybody; ending it while another site's servers use the network is refused: 409"
    ),
    "member of an image": "at each site that has the image; the copies of an image that is shared have the members that its owner named",
    "`visibility` of an image": "at each site that has the image; a new copy gets the least visible of all sites'",
    "access to a private flavor": "at each site that has the flavor, for the projects that an administrator named",
    "ownership of a key pair": "the user's alone, at each site; nothing shares one",
    "ownership of a server group": "the project's alone, at the one site where the group is; nothing shares one",
    "ownership of everything else": "the project's, which every copy keeps",
}
"""By what gives a right to use another's thing, how it holds across sites; for docs/reference/sharing.md."""

_KINDS = {kind: name for name, kind in RBAC.items()}
"""By `object_type`, the kind of what is brought."""


class Policies:
    """The RBAC policies of one site, as far as other sites are concerned.

    Args:
        sites: the sites.
        ledger: what other sites granted on this site's word.
        holders: tells who has an object.

    Attributes:
        may_block: tells whether a site (the first argument) that says that a thing of a project (the second) is used there keeps it shared;
            by default, each site does.
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self.may_block: Callable[[str, str], bool] = lambda _site, _project: True
        self._sites = sites
        self._ledger = ledger
        self._holders = holders

    def attach(self, application: web.Application) -> None:
        """Add the handler to the application of the peer port."""
        application.router.add_get(PATH, self._answer)

    async def site_for(self, call: Call) -> str:
        """Return the site where a policy that a request creates belongs: that of the object; this one if nobody shows it to the user.

        Args:
            call: `POST /v2.0/rbac-policies`.

        Raises:
            Unreachable: a service of this site does not answer.
        """
        here = self._sites.here
        try:
            policy = call.value["rbac_policy"]
            kind, identifier = str(policy["object_type"]), str(policy["object_id"])
            path = f"{TYPES[kind].collection}/{segment(identifier)}"
        except (ValueError, KeyError, TypeError):
            return here  # Neutron says what is wrong with it
        look = call.with_(method="GET", path=path, query="", body=None)
        among = await self._natives(_KINDS[kind], identifier) if kind in _KINDS else self._sites.reachable()
        if here in among or (kind not in _KINDS and (await shown_at(self._sites, look, [here]))[0]):
            return here
        # The answer names the site that gave it: who may not see the object must not learn where it is.
        have, _silent = await shown_at(self._sites, look, among)
        return have[0] if have else here

    async def _natives(self, kind: str, identifier: str) -> list[str]:
        """Return the sites where an object was made; if none of them can be reached, this one if it has a copy, else those that have."""
        own = await self._holders.here(kind, identifier)
        if own is not None and own.native:
            return [self._sites.here]
        elsewhere = await self._holders.elsewhere(kind, identifier)
        natives = [each.site for each in elsewhere if each.native]
        return natives or ([self._sites.here] if own is not None else [each.site for each in elsewhere])

    async def refusal(self, call: Call) -> Reply | None:
        """Return 409 if a request would take a policy away that its project uses at another site that can be reached.

        Args:
            call: any request for this site.

        Raises:
            Unreachable: a service of this site does not answer.
        """
        found = _POLICY.fullmatch(call.path) if call.method in {"DELETE", "PUT"} and call.service == "network" else None
        if found is None or not self._ledger.lent():
            return None
        asker = Asker(self._sites, call.token, call.request_id)
        answer = await asker.get(self._sites.here, "network", f"/v2.0/rbac-policies/{found[1]}")
        if not answer or not await self._loses(call, answer["rbac_policy"]):
            return None
        return await self._used(call, answer["rbac_policy"])

    async def users_of_network(self, identifier: str, owner: str) -> list[str]:
        """Return the sites that can be reached at which projects use a network of this site that is shared with everybody.

        Args:
            identifier: the network's id. A network that was not made here is lent to nobody here.
            owner: id of its project.

        Raises:
            Unreachable: Neutron does not answer.
        """
        if not self._ledger.is_lent(NETWORK, identifier):
            return []
        own = Asker(self._sites, await self._sites.own_token("network"), request_id(None))
        query = urlencode({"object_id": identifier, "action": SHARED})
        policies = (await own.get(self._sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}).get("rbac_policies", ())
        kept = {each["target_tenant"] for each in policies} - {EVERYBODY}
        if not any(each["target_tenant"] == EVERYBODY for each in policies):
            return []
        return await self._users(Reference(NETWORK, identifier), owner, EVERYBODY, SHARED, but=kept)

    async def _loses(self, call: Call, policy: Mapping[str, Any]) -> bool:
        """Return whether the policy's project loses access by a request."""
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
        own = Asker(self._sites, await self._sites.own_token("network"), call.request_id)
        others = await own.get(self._sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}
        return all(each["id"] == policy["id"] for each in others.get("rbac_policies", ()))

    async def _used(self, call: Call, policy: Mapping[str, Any]) -> Reply | None:
        reference = Reference(_KINDS[policy["object_type"]], policy["object_id"])
        used = await self._users(reference, policy["project_id"], policy["target_tenant"], policy["action"])
        if not used:
            return None
        message = f"RBAC policy on object {policy['object_id']} cannot be removed because other objects depend on it."
        return fault(call.service, 409, f"{message}\nDetails: at {', '.join(used)}", self._sites.here)

    async def _users(self, shared: Reference, owner: str, target: str, action: str, but: Collection[str] = ()) -> list[str]:
        """Return the sites that can be reached at which a target of a policy, or any if it is for everybody, uses an object."""
        there = {site for site in self._sites.reachable() if self.may_block(site, owner)}
        loans = [
            loan
            for loan in self._ledger.loans(shared.kind, shared.id)
            if loan.borrower in there and loan.project not in but and target in {loan.project, EVERYBODY}
        ]
        used = await asyncio.gather(*(self._ask(loan, action) for loan in loans))
        return sorted({loan.borrower for loan, uses in zip(loans, used, strict=True) if uses})

    async def _ask(self, loan: Loan, action: str) -> bool:
        """Return whether a project uses an object at a borrower; a borrower that does not say is told later (`loans`)."""
        query = urlencode({"project": loan.project, "action": action})
        target = f"/uses/{RBAC[loan.kind]}/{segment(loan.id)}?{query}"
        try:
            reply = await self._sites.send(loan.borrower, Asker(self._sites, "", request_id(None)).call("GET", "atoll", target, ""), LOOK_S)
            return bool(reply.json()["uses"]) if reply.status == 200 else False
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            LOG.info("%s does not say whether project %s uses %s: %s", loan.borrower, loan.project, loan.id, error)
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
        asker = Asker(self._sites, await self._sites.own_token("network"), request_id(None))

        async def found(key: str, **query: str) -> list[dict[str, Any]]:
            answer = await asker.get(self._sites.here, "network", f"/v2.0/{key}?{urlencode(query)}")
            return list((answer or {}).get(key, ()))

        if kind == "security_group":
            return bool(await found("ports", security_groups=identifier, project_id=project))
        if action == EXTERNAL:
            routers = await found("routers", project_id=project)
            gateways = [(each.get("external_gateway_info") or {}).get("network_id") for each in routers]
            return identifier in gateways or bool(await found("floatingips", floating_network_id=identifier, project_id=project))
        return bool(await found("ports", network_id=identifier, project_id=project))
