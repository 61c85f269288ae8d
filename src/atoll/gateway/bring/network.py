"""Brings networks with their subnets, and security groups with their rules, through Neutron's extension `given-id`.

A copy of a network is a separate network of its site: it has the same prefixes, and its site assigns addresses by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from atoll.gateway.bring.descriptions import lasting
from atoll.gateway.bring.ledger import CopyCreation
from atoll.gateway.bring.references import NETWORK, SECURITY_GROUP, SECURITY_GROUP_RULE, SUBNET, Reference
from atoll.gateway.bring.service_client import BringFailed, BringRefused, RemoteResource, ServiceClient
from atoll.gateway.bring.site_bound import credible, is_external
from atoll.gateway.bring.undo import UndoLog
from atoll.gateway.request.paths import segment
from atoll.identifiers import default_group

if TYPE_CHECKING:
    from atoll.gateway.bring.context import BringContext

COPIED: Mapping[str, tuple[str, ...]] = {
    "networks": (
        *("id", "name", "description", "project_id", "admin_state_up", "mtu", "port_security_enabled", "dns_domain"),
        *("qos_policy_id", "vlan_transparent", "qinq", "pvlan", "project_default"),
    ),
    "subnets": (
        *("id", "name", "description", "project_id", "network_id", "ip_version", "cidr", "gateway_ip", "enable_dhcp", "allocation_pools"),
        *("dns_nameservers", "host_routes", "ipv6_address_mode", "ipv6_ra_mode", "service_types", "dns_publish_fixed_ip", "leak_routes"),
    ),
    "security_groups": ("id", "name", "description", "project_id", "stateful"),
    "security_group_rules": (
        *("id", "security_group_id", "project_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max"),
        *("remote_ip_prefix", "remote_group_id", "remote_address_group_id", "description"),
    ),
}
"""Attributes that a copy is created with, by collection."""

_ALIAS = "another name of `project_id`"
_HARDWARE = "the hardware of each site"

OWN: Mapping[str, Mapping[str, str]] = {
    "networks": {
        "tenant_id": _ALIAS,
        "shared": "grants are made one by one (`grants`)",
        "provider:network_type": _HARDWARE,
        "provider:segmentation_id": _HARDWARE,
        "router:external": "an external network stays at its site",
        "ha": "Neutron sets it on networks of its own",
        "is_default": "each site has a default external network of its own",
    },
    "subnets": {"tenant_id": _ALIAS, "prefixlen": "it follows from the prefix"},
    "security_groups": {"tenant_id": _ALIAS},
    "security_group_rules": {"tenant_id": _ALIAS},
}
"""Attributes that a copy does not get, with the reason, by collection. References are in the table of `resolve.references`."""

_FLAGS = frozenset(("vlan_transparent", "qinq", "pvlan", "project_default", "leak_routes"))
"""Attributes of extensions that few sites have; sent only if they are true."""


async def bring_network(client: ServiceClient, found: RemoteResource, undo_log: UndoLog, context: BringContext) -> None:
    """Create a network and its subnets.

    If the user's project does not own the network, it gets the access that the owner has granted elsewhere. The attributes that tie a
    network to the hardware of its site (provider attributes, segments) are this site's own.

    Args:
        client: the client of the user's request.
        found: the network at another site.
        undo_log: records the resources that are created.
        context: the parts that bringing needs.

    Raises:
        Disagreement: sites have different resources under this id.
        BringRefused: the network is external, or refers to a resource that can't be brought.
        BringFailed: Neutron refuses.
        Unreachable: a service does not answer.
    """
    network: dict[str, Any] = found.body
    identifier = network["id"]
    if is_external(Reference(NETWORK, identifier), network):
        raise BringRefused(f"external network {identifier} is at {found.site} and stays there: it leads out of its own site")
    here, elsewhere = await context.holders.agreed(NETWORK, identifier, await client.project())
    query = urlencode({"network_id": identifier})
    subnets = (await client.get(found.site, "network", f"/v2.0/subnets?{query}") or {}).get("subnets") or []
    await client.check(NETWORK, network, found.site)
    for subnet in subnets:
        await client.check(SUBNET, subnet, found.site)
    path = f"/v2.0/networks/{segment(identifier)}"
    creation = CopyCreation(NETWORK, identifier, found.site, "network", path, lasting(NETWORK, network))
    body = {"network": copied(network, "networks")}
    answer = await undo_log.create(creation, "/v2.0/networks", body, absent=here is None, exists=True)
    if answer is not None:
        # Neutron replaces a missing gateway with the default one, so `None` must be sent.
        lacking = [subnet for subnet in subnets if subnet["id"] not in answer["network"].get("subnets", ())]
        bodies = [copied(subnet, "subnets") | {"gateway_ip": subnet["gateway_ip"]} for subnet in lacking]
        if bodies:
            await client.make("POST", "network", "/v2.0/subnets", {"subnets": bodies})
        await _tag(client, "networks", [network])
        await _tag(client, "subnets", subnets)
    await context.grants.ensure(client, Reference(NETWORK, identifier), elsewhere)


async def bring_subnet(client: ServiceClient, found: RemoteResource, undo_log: UndoLog, context: BringContext) -> None:
    """Create the network that a subnet belongs to, with all its subnets; see `bring_network`."""
    network = Reference(NETWORK, str(found.body["network_id"]))
    holders = credible(network, await client.elsewhere(network), context.speaks_for)
    if not holders:
        raise BringFailed(f"{found.site} does not show the network of subnet {found.body['id']}")
    await bring_network(client, holders[0], undo_log, context)


async def bring_security_groups(client: ServiceClient, found: RemoteResource, undo_log: UndoLog, context: BringContext) -> None:
    """Create security groups, their rules, and the groups that these name.

    The group `default` of a project exists at each site under the same id; it gets the rules of the other sites (`default_groups`).

    Args:
        client: the client of the user's request.
        found: the groups at another site. They may be several, because Nova accepts a name, which is not unique.
        undo_log: records the resources that are created.
        context: the parts that bringing needs.

    Raises:
        Disagreement: sites have different resources under this id.
        BringRefused: a rule refers to a resource that can't be brought.
        BringFailed: Neutron refuses.
        Unreachable: a service does not answer.
    """
    groups: dict[str, dict[str, Any]] = {}
    wanted = list(found.body)
    while wanted:
        group = wanted.pop()
        if group["id"] in groups:
            continue
        if group["id"] == default_group(group["project_id"]):
            await context.default_groups.adopt(group["project_id"], client, undo_log, context)
            continue
        groups[group["id"]] = group
        wanted += await named_groups(client, found.site, group)
    new = [group for group in groups.values() if await _make_group(client, RemoteResource(found.site, group), undo_log, context)]
    await _tag(client, "security-groups", new)
    for group in new:
        rules = [copied(rule, "security_group_rules") for rule in group["security_group_rules"]]
        if rules:  # Neutron accepts rules of one group at a time
            await client.make("POST", "network", "/v2.0/security-group-rules", {"security_group_rules": rules})


async def named_groups(client: ServiceClient, site: str, group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the other groups that the rules of a group name.

    Args:
        client: the client of the user's request.
        site: the site that has the group.
        group: the group, as that site shows it.

    Raises:
        BringRefused: a rule refers to a resource that can't be brought.
    """
    for rule in group["security_group_rules"]:
        await client.check(SECURITY_GROUP_RULE, rule, site)
    names = sorted({rule["remote_group_id"] for rule in group["security_group_rules"]} - {None, group["id"]})
    answers = [await client.get(site, "network", f"/v2.0/security-groups/{segment(name)}") for name in names]
    for name, answer in zip(names, answers, strict=True):
        if answer is None and await client.look(client.sites.here, Reference(SECURITY_GROUP, name)) is None:
            # Without that group, the rule would admit other traffic.
            raise BringRefused(
                f"a rule of security group {group['id']} names security group {name}, which {site} does not show to this project"
            )
    return [answer["security_group"] for answer in answers if answer is not None]


async def _make_group(client: ServiceClient, found: RemoteResource, undo_log: UndoLog, context: BringContext) -> bool:
    """Create a group without rules; return `False` if it existed."""
    group: dict[str, Any] = found.body
    here, elsewhere = await context.holders.agreed(SECURITY_GROUP, group["id"], await client.project())
    body = {"security_group": copied(group, "security_groups")}
    path = f"/v2.0/security-groups/{segment(group['id'])}"
    creation = CopyCreation(SECURITY_GROUP, group["id"], found.site, "network", path, lasting(SECURITY_GROUP, group))
    answer = await undo_log.create(creation, "/v2.0/security-groups", body, absent=here is None, exists=True)
    if answer is not None:
        # Neutron creates rules that allow all outgoing traffic, and an earlier request may have left some of the rules.
        for rule in answer["security_group"]["security_group_rules"]:
            await client.make("DELETE", "network", f"/v2.0/security-group-rules/{segment(rule['id'])}")
    await context.grants.ensure(client, Reference(SECURITY_GROUP, group["id"]), elsewhere)
    return answer is not None


async def _tag(client: ServiceClient, collection: str, things: Iterable[dict[str, Any]]) -> None:
    for thing in things:
        if thing.get("tags"):
            await client.make("PUT", "network", f"/v2.0/{collection}/{segment(thing['id'])}/tags", {"tags": thing["tags"]})


def copied(thing: Mapping[str, Any], collection: str) -> dict[str, Any]:
    """Return the attributes of a resource with which its copy is created.

    Args:
        thing: the resource, as Neutron shows it.
        collection: a key of `COPIED`.
    """
    said = {name: thing.get(name) for name in COPIED[collection]}
    return {name: value for name, value in said.items() if value is not None and (value or name not in _FLAGS)}
