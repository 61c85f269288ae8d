"""Brings networks with their subnets, and security groups with their rules, through Neutron's extension `given-id`.

A network's part at each site is local for now: the same prefixes, and addresses that each site hands out by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from atoll.gateway.bring.asking import Asker, Failed, Found
from atoll.gateway.bring.means import Means
from atoll.gateway.bring.references import NETWORK, SECURITY_GROUP, Reference
from atoll.gateway.bring.undo import Made
from atoll.gateway.request.paths import segment

LOG = logging.getLogger(__name__)

_NETWORK = (
    *("id", "name", "description", "project_id", "admin_state_up", "mtu", "port_security_enabled"),
    *("router:external", "dns_domain"),
)
_SUBNET = (
    *("id", "name", "description", "project_id", "network_id", "ip_version", "cidr", "enable_dhcp", "allocation_pools", "dns_nameservers"),
    *("host_routes", "ipv6_address_mode", "ipv6_ra_mode", "service_types", "dns_publish_fixed_ip"),
)
_GROUP = ("id", "name", "description", "project_id", "stateful")
_RULE = (
    *("id", "security_group_id", "project_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max"),
    *("remote_ip_prefix", "description"),
)


async def bring_network(asker: Asker, found: Found, made: Made, means: Means) -> None:
    """Make a network and its subnets. A project that does not own it gets the access that its owner grants it elsewhere.

    What ties it to the hardware of its site (provider attributes, segments, QoS policy) is this site's own.

    Args:
        asker: of the request.
        found: where it is.
        made: takes note.
        means: of bringing.

    Raises:
        Disagreement: sites have different things under this id.
        Failed: Neutron refuses.
        Unreachable: a service does not answer.
    """
    network: dict[str, Any] = found.body
    identifier = network["id"]
    _here, elsewhere = await means.holders.agreed(NETWORK, identifier, await asker.project())
    answer = await asker.make("POST", "network", "/v2.0/networks", {"network": _chosen(network, _NETWORK)}, exists=True)
    if answer is not None:
        made.note("network", f"/v2.0/networks/{segment(identifier)}")
        means.ledger.bring(NETWORK, identifier, found.site)
        if network.get("router:external"):
            await _close(asker, identifier)
        query = urlencode({"network_id": identifier})
        subnets = (await asker.get(found.site, "network", f"/v2.0/subnets?{query}") or {}).get("subnets") or []
        # Without a gateway and with the usual one are different things, so None must be said here.
        bodies = [_chosen(subnet, _SUBNET) | {"gateway_ip": subnet["gateway_ip"]} for subnet in subnets]
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

    Args:
        asker: of the request.
        found: where they are; Nova accepts a name, which several may have.
        made: takes note.
        means: of bringing.

    Raises:
        Disagreement: sites have different things under this id.
        Failed: Neutron refuses.
        Unreachable: a service does not answer.
    """
    groups: dict[str, dict[str, Any]] = {}
    same: dict[str, str] = {}
    wanted = list(found.body)
    while wanted:
        group = wanted.pop()
        if group["id"] in groups or group["id"] in same:
            continue
        if group["name"] == "default" and (own := await _own_default(asker)) is not None:
            same[group["id"]] = own  # Each site makes its own, and has one for each project.
            continue
        groups[group["id"]] = group
        wanted += await _remote(asker, found.site, group)
    new = [group for group in groups.values() if await _make_group(asker, Found(found.site, group), made, means)]
    await _tag(asker, "security-groups", new)
    known = {name: name for name in groups} | same
    for group in new:
        rules = list(_rules(group, known))
        if rules:  # Neutron takes those of one group at a time.
            await asker.make("POST", "network", "/v2.0/security-group-rules", {"security_group_rules": rules})


async def _remote(asker: Asker, site: str, group: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups that a group's rules name."""
    names = {rule["remote_group_id"] for rule in group["security_group_rules"]} - {None, group["id"]}
    answers = [await asker.get(site, "network", f"/v2.0/security-groups/{segment(name)}") for name in sorted(names)]
    return [answer["security_group"] for answer in answers if answer is not None]


async def _own_default(asker: Asker) -> str | None:
    query = urlencode({"name": "default", "project_id": await asker.project()})
    answer = await asker.get(asker.sites.here, "network", f"/v2.0/security-groups?{query}")
    groups = (answer or {}).get("security_groups")
    return str(groups[0]["id"]) if groups else None


async def _make_group(asker: Asker, found: Found, made: Made, means: Means) -> bool:
    """Make a group without any rule; False if it was there."""
    group: dict[str, Any] = found.body
    _here, elsewhere = await means.holders.agreed(SECURITY_GROUP, group["id"], await asker.project())
    answer = await asker.make("POST", "network", "/v2.0/security-groups", {"security_group": _chosen(group, _GROUP)}, exists=True)
    if answer is not None:
        made.note("network", f"/v2.0/security-groups/{segment(group['id'])}")
        means.ledger.bring(SECURITY_GROUP, group["id"], found.site)
        for rule in answer["security_group"]["security_group_rules"]:  # Neutron lets everything out by default.
            await asker.make("DELETE", "network", f"/v2.0/security-group-rules/{segment(rule['id'])}")
    await means.grants.ensure(asker, Reference(SECURITY_GROUP, group["id"]), elsewhere)
    return answer is not None


def _rules(group: dict[str, Any], known: dict[str, str]) -> Iterable[dict[str, Any]]:
    for rule in group["security_group_rules"]:
        remote = rule["remote_group_id"]
        if rule.get("remote_address_group_id") or (remote is not None and remote not in known):
            LOG.warning("rule %s of security group %s names what can't be brought here, and is left out", rule["id"], group["id"])
            continue
        yield _chosen(rule, _RULE) | ({"remote_group_id": known[remote]} if remote else {})


async def _close(asker: Asker, identifier: str) -> None:
    """Delete the policy by which Neutron opens each new external network to all projects.

    Each project gets what the owner grants it, as of every other network.
    """
    own = Asker(asker.sites, await asker.sites.own_token("network"), asker.request_id)
    query = urlencode({"object_id": identifier, "action": "access_as_external", "target_tenant": "*"})
    policies = (await own.get(asker.sites.here, "network", f"/v2.0/rbac-policies?{query}") or {}).get("rbac_policies", ())
    for policy in policies:
        await asker.make("DELETE", "network", f"/v2.0/rbac-policies/{segment(policy['id'])}", gone=True)


async def _tag(asker: Asker, collection: str, things: Iterable[dict[str, Any]]) -> None:
    for thing in things:
        if thing.get("tags"):
            await asker.make("PUT", "network", f"/v2.0/{collection}/{segment(thing['id'])}/tags", {"tags": thing["tags"]})


def _chosen(thing: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: thing[name] for name in names if thing.get(name) is not None}
