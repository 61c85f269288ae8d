"""RBAC policies across sites: what each type's policies mean there, where a policy is made, and whether one may go.

A policy belongs to the site where its object's owner made the object: on copies the gateway grants what is granted there (`grants`). So a
policy that is asked for at a site with a copy, or without the object, is made at the object's own site. And one that a project still uses
at a site with a copy is refused with upstream's 409, as it is where the object is.
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

from atoll.gateway.bring.asking import LOOK_S, Asker
from atoll.gateway.bring.holders import RBAC, Holders
from atoll.gateway.bring.ledger import Ledger, Loan
from atoll.gateway.bring.references import NETWORK
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

_NETWORK = re.compile(r"/v2\.0/networks/([^/]+?)(?:\.json)?/?")
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
    """

    def __init__(self, sites: Sites, ledger: Ledger, holders: Holders) -> None:
        self._sites = sites
        self._ledger = ledger
        self._holders = holders

    def attach(self, application: web.Application) -> None:
        """Add the handler to the application of the peer port."""
        application.router.add_get(PATH, self._answer)

    async def site_for(self, call: Call) -> str:
        """Return the site where a policy that a request creates belongs: that of the object; this one if nobody has it.

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
        if kind in _KINDS:
            own = await self._holders.here(_KINDS[kind], identifier)
            if own is not None and own.native:
                return here
            elsewhere = await self._holders.elsewhere(_KINDS[kind], identifier)
            native = next((each.site for each in elsewhere if each.native), None)
            return native or (here if own is not None or not elsewhere else elsewhere[0].site)
        look = call.with_(method="GET", path=path, query="", body=None)
        if (await shown_at(self._sites, look, [here]))[0]:
            return here
        have, _silent = await shown_at(self._sites, look, self._sites.reachable())
        return have[0] if have else here

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

    async def refusal_to_unshare(self, call: Call) -> Reply | None:
        """Return 409 if a request would end the sharing of a network of this site that a project uses at another site.

        Args:
            call: any request that changes what may have copies.

        Raises:
            Unreachable: a service of this site does not answer.
        """
        found = _NETWORK.fullmatch(call.path) if call.method == "PUT" and call.service == "network" else None
        if found is None or not self._ledger.is_lent(NETWORK, found[1]):
            return None
        try:
            if call.value["network"]["shared"] is not False:
                return None
        except (ValueError, KeyError, TypeError):
            return None
        asker = Asker(self._sites, call.token, call.request_id)
        seen = await asker.get(self._sites.here, "network", f"/v2.0/networks/{segment(found[1])}")
        own = Asker(self._sites, await self._sites.own_token("network"), call.request_id)
        query = urlencode({"object_id": found[1], "action": SHARED})
        policies = (await own.get(self._sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}).get("rbac_policies", ())
        ends = [each for each in policies if each["target_tenant"] == EVERYBODY]
        kept = {each["target_tenant"] for each in policies} - {EVERYBODY}
        used = await self._users(NETWORK, found[1], EVERYBODY, SHARED, but=kept) if seen and ends else ()
        if not used:
            return None
        message = f"Unable to reconfigure sharing settings for network {found[1]}. Multiple projects are using it, at {', '.join(used)}."
        return fault(call.service, 409, message, self._sites.here)

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
        used = await self._users(_KINDS[policy["object_type"]], policy["object_id"], policy["target_tenant"], policy["action"])
        if not used:
            return None
        message = f"RBAC policy on object {policy['object_id']} cannot be removed because other objects depend on it."
        return fault(call.service, 409, f"{message}\nDetails: at {', '.join(used)}", self._sites.here)

    async def _users(self, kind: str, identifier: str, target: str, action: str, but: Collection[str] = ()) -> list[str]:
        """Return the sites that can be reached at which a target of a policy, or any if it is for everybody, uses an object."""
        there = set(self._sites.reachable())
        loans = [
            loan
            for loan in self._ledger.loans(kind, identifier)
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
