"""Says whether this site would refuse to delete a resource, or to end its sharing, because it is in use.

Before several sites delete their copies of a network, each is asked whether it would: a deletion can't be taken back. The rules are those
of Neutron 29 (`neutron.db.db_base_plugin_v2`: `_ensure_network_not_in_use`, `_remove_subnet_ip_allocations_from_ports`;
`neutron.db.securitygroups_db.delete_security_group`; `neutron.db.l3_db.delete_disassociated_floatingips`). Between the question and the
deletion a port may still be made; then that site refuses, and keeps its copy. The site where a network was made knows who uses it on the
word of its owner (`bring.policies`), so it is asked too before the network is shared no more, whichever gateway the client asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from multidict import CIMultiDict

from atoll.gateway.copies import ownership
from atoll.gateway.copies.operation import resource_of
from atoll.gateway.copies.ownership import collection_of
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import ACCEPTS, REFUSAL
from atoll.gateway.resolve import sight
from atoll.gateway.sites import Sites

if TYPE_CHECKING:
    from atoll.gateway.bring.policies import Policies

UNSHARE = "UNSHARE"
"""Value of the header `X-Atoll-Accepts`: the client wants to share a network no more."""

FALSE_STRINGS = ("0", "f", "false", "off", "n", "no")
"""Values that Neutron takes for False, as texts (`oslo_utils.strutils.bool_from_string`)."""

AUTO_DELETED = frozenset(("network:dhcp", "network:distributed", "network:floatingip_agent_gateway"))
"""Owners of ports that Neutron deletes by itself with their network (`neutron.common._constants.AUTO_DELETE_PORT_OWNERS`)."""


FLOATING = "network:floatingip"
"""Owner of the ports of floating IPs. Neutron deletes them with their network, unless one is associated with a server's port."""


ROUTER_INTERFACES = frozenset(
    ("network:router_interface", "network:ha_router_replicated_interface", "network:router_interface_distributed")
)
"""Owners of ports that keep a subnet whose addresses follow from those of the ports (`neutron_lib.constants.ROUTER_INTERFACE_OWNERS`)."""

_AUTO_ADDRESS = ("slaac", "dhcpv6-stateless")


@dataclass(frozen=True)
class _Rule:
    """Ports that keep a resource from being deleted.

    Attributes:
        filter: the query that finds them.
        spares: owners of ports that do not count.
        error: Neutron's name of its refusal.
        message: its words.
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
"""By collection of Neutron's."""

_STILL_SHARED = "Unable to reconfigure sharing settings for network {}. Multiple projects are using it, at {}."


@dataclass(frozen=True)
class Refusal:
    """A deletion that a site would refuse.

    Attributes:
        error: the service's name of the error.
        message: one sentence for people, which names the site.
    """

    error: str
    message: str

    def dump(self) -> str:
        """As the value of a header, for `load`."""
        return f"{self.error} {quote(self.message, safe=' ')}"

    @classmethod
    def load(cls, text: str) -> Refusal:
        """Read what `dump` wrote."""
        error, _, message = text.partition(" ")
        return cls(error, unquote(message))


def question(call: Call) -> str:
    """Return what a site is asked before a client's request changes its copy: a value of the header `X-Atoll-Accepts`.

    Args:
        call: the client's.
    """
    if call.path.rstrip("/") != resource_of(call.path):
        return "GET"  # about something below the resource, which no use of the resource keeps from being changed
    if call.method == "PUT" and collection_of(call.service, call.path) == "networks" and _ends_sharing(call):
        return UNSHARE
    return call.method


def _ends_sharing(call: Call) -> bool:
    try:
        shared = call.value["network"]["shared"]
    except (ValueError, KeyError, TypeError):
        return False
    return str(shared).strip().lower() in FALSE_STRINGS


class Accepts:
    """Answers the question, for this gateway and for those of other sites.

    Args:
        sites: to ask this site's Neutron.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    async def answer(self, call: Call, policies: Policies | None = None) -> Reply:
        """Look at a resource for a client, and say in the answer whether this site would refuse what is to be done with it.

        Args:
            call: a GET, with a `question` in the header `X-Atoll-Accepts`. Access rules of its token that forbid to look count for the
                client and not for this question: its answer goes to a gateway.
            policies: knows who uses what this site shares; `None`: nobody does.

        Raises:
            Unreachable: the service does not answer.
        """
        look = call.with_()
        asked = look.headers.popall(ACCEPTS)[0]
        reply: Reply = await self._sites.send(self._sites.here, look)
        if reply.status in sight.REFUSALS:
            seen = await sight.see(self._sites, self._sites.here, look.token, look.service, look.target)
            reply = seen if seen.ok else reply
        refusal = None
        if reply.ok and asked == "DELETE":
            refusal = await self._refusal(look, reply)
        elif reply.ok and asked == UNSHARE and policies is not None:
            refusal = await _still_shared(look, reply, policies)
        if refusal is not None:
            reply.headers[REFUSAL] = refusal.dump()
        return reply

    async def _refusal(self, look: Call, shown: Reply) -> Refusal | None:
        """Why a deletion would be refused. The ports may be of other projects, of which the client learns no more than Neutron says."""
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
        return Refusal(rule.error, rule.message.format(identifier, self._sites.here)) if users else None

    async def _all(self, look: Call, collection: str, query: str, field: str) -> list[dict[str, Any]]:
        """One field of everything in a collection that fits a query, whoever it belongs to."""
        headers = CIMultiDict({"X-Auth-Token": await self._sites.own_token("network")})
        query = f"{query}&{urlencode({'fields': field})}"
        reply = await self._sites.send(
            self._sites.here, Call("GET", "network", f"/v2.0/{collection}", query, headers, None, look.request_id)
        )
        if not reply.ok:
            raise Unreachable(self._sites.here, f"Neutron does not say whether {_identifier(look)} is in use (HTTP {reply.status})")
        found: list[dict[str, Any]] = reply.json()[collection]
        return found


def _has_auto_addresses(shown: Reply) -> bool:
    """True for a subnet whose addresses follow from those of the ports (`neutron.common.ipv6_utils.is_auto_address_subnet`)."""
    body = shown.json()
    subnet = body.get("subnet", body)
    return subnet.get("ipv6_address_mode") in _AUTO_ADDRESS or subnet.get("ipv6_ra_mode") in _AUTO_ADDRESS


def _identifier(look: Call) -> str:
    return look.path.rstrip("/").rpartition("/")[2].removesuffix(".json")


async def _still_shared(look: Call, shown: Reply, policies: Policies) -> Refusal | None:
    users = await policies.users_of_network(_identifier(look), ownership.read(look, shown).get("owner", ""))
    return Refusal("InvalidSharedSetting", _STILL_SHARED.format(_identifier(look), ", ".join(users))) if users else None
