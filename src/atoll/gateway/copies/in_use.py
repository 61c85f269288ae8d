"""Checks whether this site would refuse to delete a resource, or to end its sharing, because it is in use.

Before several sites delete their copies of a network, each is asked whether it would refuse, since a deletion can't be undone. The
rules are those of Neutron 29 (`neutron.db.db_base_plugin_v2`: `_ensure_network_not_in_use`, `_remove_subnet_ip_allocations_from_ports`;
`neutron.db.securitygroups_db.delete_security_group`; `neutron.db.l3_db.delete_disassociated_floatingips`). A port may still be created
between the question and the deletion; then that site refuses, and keeps its copy.

The site where a network was created knows which other sites' projects use it (`bring.rbac_policies`). So it is also asked before the
network's sharing ends, whichever gateway the client asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from multidict import CIMultiDict

from atoll.gateway.copies import ownership
from atoll.gateway.copies.ownership import collection_of
from atoll.gateway.copies.pending_operation import resource_of
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import ACCEPTS, REFUSAL
from atoll.gateway.resolve import visibility
from atoll.gateway.sites import Sites

if TYPE_CHECKING:
    from atoll.gateway.bring.rbac_policies import RbacPolicies

UNSHARE = "UNSHARE"
"""Value of the header `X-Atoll-Accepts`: the client ends the sharing of a network."""

FALSE_STRINGS = ("0", "f", "false", "off", "n", "no")
"""Texts that Neutron takes for `False` (`oslo_utils.strutils.bool_from_string`)."""

AUTO_DELETED = frozenset(("network:dhcp", "network:distributed", "network:floatingip_agent_gateway"))
"""Owners of ports that Neutron deletes with their network (`neutron.common._constants.AUTO_DELETE_PORT_OWNERS`)."""


FLOATING = "network:floatingip"
"""Owner of the ports of floating IPs. Neutron deletes them with their network, unless one is associated with a server's port."""


ROUTER_INTERFACES = frozenset(
    ("network:router_interface", "network:ha_router_replicated_interface", "network:router_interface_distributed")
)
"""Owners of ports that keep a subnet with automatic IPv6 addresses from deletion (`neutron_lib.constants.ROUTER_INTERFACE_OWNERS`)."""

_AUTO_ADDRESS = ("slaac", "dhcpv6-stateless")


@dataclass(frozen=True)
class _Rule:
    """The ports that keep a resource from being deleted.

    Attributes:
        filter: the query that finds the ports.
        spares: owners (`device_owner`) of ports that do not prevent the deletion.
        error: the name of Neutron's error.
        message: the error's message.
    """

    filter: str
    spares: frozenset[str]
    error: str
    message: str


_RULES: Mapping[str, _Rule] = {
    "networks": _Rule(
        "network_id={}",
        AUTO_DELETED,
        "NetworkInUse",
        "Unable to complete operation on network {}. There are one or more ports still in use on the network at site {}.",
    ),
    "subnets": _Rule(
        "fixed_ips=subnet_id%3D{}",
        AUTO_DELETED,
        "SubnetInUse",
        "Unable to complete operation on subnet {}: One or more ports have an IP allocation from this subnet at site {}.",
    ),
    "security-groups": _Rule("security_groups={}", frozenset(), "SecurityGroupInUse", "Security Group {} in use at site {}."),
}
"""The rules, by Neutron's collection."""

_STILL_SHARED = "Unable to reconfigure sharing settings for network {}. Multiple projects are using it, at {}."


@dataclass(frozen=True)
class InUseRefusal:
    """The refusal that a site would give to the deletion or the change of a resource that is in use there.

    Attributes:
        error: the service's name of the error.
        message: the reason as one sentence, which names the site.
    """

    error: str
    message: str

    def dump(self) -> str:
        """Return the refusal as the value of a header, for `load`."""
        return f"{self.error} {quote(self.message, safe=' ')}"

    @classmethod
    def load(cls, text: str) -> InUseRefusal:
        """Return the refusal that `dump` has written."""
        error, _, message = text.partition(" ")
        return cls(error, unquote(message))


def question(call: Call) -> str:
    """Return the question to a site before a client's request changes its copy, as a value of the header `X-Atoll-Accepts`.

    Args:
        call: the client's request.
    """
    if call.path.rstrip("/") != resource_of(call.path):
        return "GET"  # a use of the resource does not affect what is below it
    if call.method == "PUT" and collection_of(call.service, call.path) == "networks" and _ends_sharing(call):
        return UNSHARE
    return call.method


def _ends_sharing(call: Call) -> bool:
    try:
        shared = call.value["network"]["shared"]
    except (ValueError, KeyError, TypeError):
        return False
    return str(shared).strip().lower() in FALSE_STRINGS


class InUseCheck:
    """Answers the question whether a resource is in use at this site, for this gateway and for the gateways of other sites.

    Args:
        sites: sends requests to this site's Neutron.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    async def answer(self, call: Call, policies: RbacPolicies | None = None) -> Reply:
        """Show a resource to a client, and add to the answer whether this site would refuse the change.

        Args:
            call: a GET with a `question` in the header `X-Atoll-Accepts`. Access rules of its token that forbid the GET are ignored,
                since the answer goes to a gateway.
            policies: finds the projects that use the resources that this site shares; `None` if none does.

        Raises:
            Unreachable: the service does not answer.
        """
        look = call.with_()
        asked = look.headers.popall(ACCEPTS)[0]
        reply: Reply = await self._sites.send(self._sites.here, look)
        if reply.status in visibility.REFUSALS:
            seen = await visibility.view(self._sites, self._sites.here, look.token, look.service, look.target)
            reply = seen if seen.ok else reply
        refusal = None
        if reply.ok and asked == "DELETE":
            refusal = await self._refusal(look, reply)
        elif reply.ok and asked == UNSHARE and policies is not None:
            refusal = await _still_shared(look, reply, policies)
        if refusal is not None:
            reply.headers[REFUSAL] = refusal.dump()
        return reply

    async def _refusal(self, look: Call, shown: Reply) -> InUseRefusal | None:
        """Return the refusal of a deletion; `None` if no port prevents it.

        Ports of other projects may prevent it too; the client learns no more than from Neutron.
        """
        rule = _RULES.get(collection_of(look.service, look.path)) if look.service == "network" else None
        if rule is None:
            return None
        identifier = _identifier(look)
        ports = await self._all(look, "ports", rule.filter.format(identifier), "device_owner")
        users = {port["device_owner"] for port in ports} - rule.spares
        if users == {FLOATING} and rule is _RULES["networks"]:
            floating = await self._all(look, "floatingips", f"floating_network_id={identifier}", "port_id")
            users = {each["port_id"] for each in floating} - {None}
        elif rule is _RULES["subnets"] and _has_auto_addresses(shown):
            users &= ROUTER_INTERFACES
        return InUseRefusal(rule.error, rule.message.format(identifier, self._sites.here)) if users else None

    async def _all(self, look: Call, collection: str, query: str, field: str) -> list[dict[str, Any]]:
        """Return one field of all resources in a collection that match a query, whoever owns them."""
        headers = CIMultiDict({"X-Auth-Token": await self._sites.own_token("network")})
        query = f"{query}&{urlencode({'fields': field})}"
        reply = await self._sites.send(
            self._sites.here, Call("GET", "network", f"/v2.0/{collection}", query, headers, None, look.request_id)
        )
        if not reply.ok:
            raise Unreachable(self._sites.here, f"Neutron does not answer whether {_identifier(look)} is in use (HTTP {reply.status})")
        found: list[dict[str, Any]] = reply.json()[collection]
        return found


def _has_auto_addresses(shown: Reply) -> bool:
    """Return whether a subnet's addresses are derived from the ports' (`neutron.common.ipv6_utils.is_auto_address_subnet`)."""
    body = shown.json()
    subnet = body.get("subnet", body)
    return subnet.get("ipv6_address_mode") in _AUTO_ADDRESS or subnet.get("ipv6_ra_mode") in _AUTO_ADDRESS


def _identifier(look: Call) -> str:
    return look.path.rstrip("/").rpartition("/")[2].removesuffix(".json")


async def _still_shared(look: Call, shown: Reply, policies: RbacPolicies) -> InUseRefusal | None:
    users = await policies.users_of_network(_identifier(look), ownership.read(look, shown).get("owner", ""))
    return InUseRefusal("InvalidSharedSetting", _STILL_SHARED.format(_identifier(look), ", ".join(users))) if users else None
