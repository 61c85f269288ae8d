"""Brings networks with their subnets, and security groups with their rules, through Neutron's extension `given-id`.

A network's part at each site is local for now: the same prefixes, and addresses that each site hands out by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from atoll.gateway.bring.asking import Asker, Failed, Found, Refusal, is_external
from atoll.gateway.bring.references import NETWORK, SECURITY_GROUP, SECURITY_GROUP_RULE, SUBNET, Reference
from atoll.gateway.bring.undo import Made
from atoll.gateway.request.paths import segment
from atoll.identifiers import default_group

if TYPE_CHECKING:
    from atoll.gateway.bring.means import Means

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
"""By collection, the attributes that a copy has from the start."""

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
    "subnets": {"tenant_id": _ALIAS, "prefixlen": "the prefix says it"},
    "security_groups": {"tenant_id": _ALIAS},
    "security_group_rules": {"tenant_id": _ALIAS},
}
"""By collection, the attributes that a copy has not, and why. References are in the table of `resolve.references`."""

_FLAGS = frozenset(("vlan_transparent", "qinq", "pvlan", "project_default", "leak_routes"))
"""Attributes of extensions that few sites have; they are said if they are true."""


async def bring_network(asker: Asker, found: Found, made: Made, means: Means) -> None:
    """Make a network and its subnets. A project that does not own it gets the access that its owner grants it elsewhere.

    What ties it to the hardware of its site (provider attributes, segments) is this site's own.

    Args:
        asker: of the request.
        found: where it is.
        made: takes note.
        means: of bringing.

    Raises:
        Disagreement: sites have different things under this id.
        Refusal: it is an external network, or names what can't be brought.
        Failed: Neutron refuses.
        Unreachable: a service does not answer.
    """
    network: dict[str, Any] = found.body
    identifier = network["id"]
    if is_external(Reference(NETWORK, identifier), network):
        raise Refusal(f"external network {identifier} is at {found.site} and stays there: it leads out of its own site")
    _here, elsewhere = await means.holders.agreed(NETWORK, identifier, await asker.project())
    query = urlencode({"network_id": identifier})
    subnets = (await asker.get(found.site, "network", f"/v2.0/subnets?{query}") or {}).get("subnets") or []
    await asker.check(NETWORK, network, found.site)
    for subnet in subnets:
        await asker.check(SUBNET, subnet, found.site)
    answer = await asker.make("POST", "network", "/v2.0/networks", {"network": copied(network, "networks")}, exists=True)
    if answer is not None:
        made.note("network", f"/v2.0/networks/{segment(identifier)}")
        means.ledger.bring(NETWORK, identifier, found.site)
        # Without a gateway and with the usual one are different things, so None must be said here.
        bodies = [copied(subnet, "subnets") | {"gateway_ip": subnet["gateway_ip"]} for subnet in subnets]
        if bodies:
            await asker.make("POST", "network", "/v2.0/subnets", {"subnets": bodies})
        await _tag(asker, "networks", [network])
        await _tag(asker, "subnets", subnets)
    await means.grants.ensure(asker, Reference(NETWORK, identifier), elsewhere)


async def bring_subnet(asker: Asker, found: Found, made: Made, means: Means) -> None:
    """Make the network that a subnet belongs to, and all its subnets; see `bring_network`."""
    network = await asker.get(found.site, "network", f"/v2.0/networks/{segment(found.body['network_id'])}")
    if network is None:
        raise Failed(f"{found.site} does not show the network of subnet {found.body['id']}")
    await bring_network(asker, Found(found.site, network["network"]), made, means)


async def bring_security_groups(asker: Asker, found: Found, made: Made, means: Means) -> None:
    """Make security groups, their rules, and the groups that those name.

    The group `default` of a project is at each site, under the same id; its rules are those of the other sites (`defaults`).

    Args:
        asker: of the request.
        found: where they are; Nova accepts a name, which several may have.
        made: takes note.
        means: of bringing.

    Raises:
        Disagreement: sites have different things under this id.
        Refusal: a rule names what can't be brought.
        Failed: Neutron refuses.
        Unreachable: a service does not answer.
    """
    groups: dict[str, dict[str, Any]] = {}
    wanted = list(found.body)
    while wanted:
        group = wanted.pop()
        if group["id"] in groups:
            continue
        if group["id"] == default_group(group["project_id"]):
            await means.defaults.adopt(group["project_id"], asker, made, means)
            continue
        groups[group["id"]] = group
        wanted += await named_groups(asker, found.site, group)
    new = [group for group in groups.values() if await _make_group(asker, Found(found.site, group), made, means)]
    await _tag(asker, "security-groups", new)
    for group in new:
        rules = [copied(rule, "security_group_rules") for rule in group["security_group_rules"]]
        if rules:  # Neutron takes those of one group at a time.
            await asker.make("POST", "network", "/v2.0/security-group-rules", {"security_group_rules": rules})


async def named_groups(asker: Asker, site: str, group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the groups that a group's rules name.

    Args:
        asker: of the request.
        site: where the group is.
        group: as that site shows it.

    Raises:
        Refusal: a rule names what can't be brought.
    """
    for rule in group["security_group_rules"]:
        await asker.check(SECURITY_GROUP_RULE, rule, site)
    names = sorted({rule["remote_group_id"] for rule in group["security_group_rules"]} - {None, group["id"]})
    answers = [await asker.get(site, "network", f"/v2.0/security-groups/{segment(name)}") for name in names]
    for name, answer in zip(names, answers, strict=True):
        if answer is None and await asker.look(asker.sites.here, Reference(SECURITY_GROUP, name)) is None:
            # The rule lets in what this group has; without the group it would let in something else.
            raise Refusal(f"a rule of security group {group['id']} names security group {name}, which {site} does not show to this project")
    return [answer["security_group"] for answer in answers if answer is not None]


async def _make_group(asker: Asker, found: Found, made: Made, means: Means) -> bool:
    """Make a group without any rule; False if it was there."""
    group: dict[str, Any] = found.body
    _here, elsewhere = await means.holders.agreed(SECURITY_GROUP, group["id"], await asker.project())
    body = {"security_group": copied(group, "security_groups")}
    answer = await asker.make("POST", "network", "/v2.0/security-groups", body, exists=True)
    if answer is not None:
        made.note("network", f"/v2.0/security-groups/{segment(group['id'])}")
        means.ledger.bring(SECURITY_GROUP, group["id"], found.site)
        for rule in answer["security_group"]["security_group_rules"]:  # Neutron lets everything out by default.
            await asker.make("DELETE", "network", f"/v2.0/security-group-rules/{segment(rule['id'])}")
    await means.grants.ensure(asker, Reference(SECURITY_GROUP, group["id"]), elsewhere)
    return answer is not None


async def _tag(asker: Asker, collection: str, things: Iterable[dict[str, Any]]) -> None:
    for thing in things:
        if thing.get("tags"):
            await asker.make("PUT", "network", f"/v2.0/{collection}/{segment(thing['id'])}/tags", {"tags": thing["tags"]})


def copied(thing: Mapping[str, Any], collection: str) -> dict[str, Any]:
    """Return the attributes of a resource that its copy has from the start.

    Args:
        thing: the resource, as Neutron shows it.
        collection: of `COPIED`.
    """
    said = {name: thing.get(name) for name in COPIED[collection]}
    return {name: value for name, value in said.items() if value is not None and (value or name not in _FLAGS)}
