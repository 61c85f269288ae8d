"""The contents of `expanded`, as far as the plain API's policies allow the caller to see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neutron import manager, policy, quota
from neutron.quota import resource_registry
from neutron_lib import constants, context
from neutron_lib.plugins import constants as plugins
from neutron_lib.plugins import directory

Resource = dict[str, Any]


def visible(reader: context.Context, collection: str, resource: str, items: Iterable[Resource]) -> list[Resource]:
    """Return the resources that a caller may see, each without the attributes that it may not see.

    The rules are those of upstream's hook for lists of the plain API (`PolicyHook.after` in
    neutron/pecan_wsgi/hooks/policy_enforcement.py), which also decides on attributes by the first resource of a list.
    """
    allowed = [item for item in items if policy.check(reader, f"get_{resource}", item, pluralized=collection)]
    if not allowed:
        return []
    attributes = manager.NeutronManager.get_controller_for_resource(collection).resource_info

    def shown(name: str) -> bool:
        # Neutron's attribute tables contain only one of the two names of the project.
        about = attributes.get("tenant_id" if name == "project_id" else name)
        rule = f"get_{resource}:{name}"
        return bool(about and about["is_visible"] and policy.check(reader, rule, allowed[0], might_not_exist=True, pluralized=collection))

    names = {name for name in allowed[0] if shown(name)}
    return [{name: value for name, value in item.items() if name in names} for item in allowed]


def networks(reader: context.Context, ids: Iterable[str]) -> dict[str, Resource]:
    """Return the networks that the caller may see, by id."""
    found = directory.get_plugin().get_networks(reader, filters={"id": sorted(ids)})
    return {network["id"]: network for network in visible(reader, "networks", "network", found)}


def expand(reader: context.Context, ports: list[Resource], *, with_port: bool, new: bool = False) -> None:
    """Add the attribute `expanded`, with these keys, to each port.

    | key | meaning |
    |---|---|
    | `port` | the port as the service sees it; only if a service token came with the request |
    | `network` | its network, or `null` if the caller may not see it |
    | `subnets` | the subnets of its fixed IPs |
    | `dhcp_ports` | `fixed_ips` of the ports of DHCP servers on its network |
    | `floating_ips` | the floating IPs that are associated with it |

    Args:
        reader: the context whose rights decide.
        ports: the ports that the core plug-in returned; they are changed in place.
        with_port: whether `reader` is a user other than the caller.
        new: whether the ports were just created.
    """
    nets = networks(reader, {port["network_id"] for port in ports}) if ports else {}
    subnet_ids = sorted({ip["subnet_id"] for port in ports for ip in port["fixed_ips"]})
    subnets = {each["id"]: each for each in visible(reader, "subnets", "subnet", _subnets(reader, subnet_ids))}
    servers = _dhcp_ports(reader, sorted({each["network_id"] for each in subnets.values()}))
    floating = [] if new else _floating_ips(reader, [port["id"] for port in ports])
    seen = {each["id"]: each for each in visible(reader, "ports", "port", ports)} if with_port else {}
    for port in ports:
        wanted = {ip["subnet_id"] for ip in port["fixed_ips"]}
        port["expanded"] = {
            **({"port": dict(seen[port["id"]])} if port["id"] in seen else {}),
            "network": nets.get(port["network_id"]),
            "subnets": [subnets[each] for each in subnet_ids if each in wanted and each in subnets],
            "dhcp_ports": [{"fixed_ips": each["fixed_ips"]} for each in servers if each["network_id"] == port["network_id"]],
            "floating_ips": [each for each in floating if each["port_id"] == port["id"]],
        }


def name_groups(reader: context.Context, ports: list[Resource]) -> None:
    """Add `expanded` to each port: its `security_groups`, each with `id` and `name`, if the caller may see both port and group.

    Args:
        reader: the context whose rights decide.
        ports: the ports that the core plug-in returned; they are changed in place.
    """
    seen = {port["id"]: port.get("security_groups", []) for port in visible(reader, "ports", "port", ports)}
    ids = sorted({group for groups in seen.values() for group in groups})
    fields = ["id", "name", "project_id", "tenant_id", "shared"]  # without the rules, which take more statements
    found = directory.get_plugin().get_security_groups(reader, filters={"id": ids}, fields=fields) if ids else []
    named = {
        group["id"]: {name: group[name] for name in ("id", "name") if name in group}
        for group in visible(reader, "security_groups", "security_group", found)
    }
    for port in ports:
        port["expanded"] = {"security_groups": [named[each] for each in seen.get(port["id"], []) if each in named]}


def _subnets(reader: context.Context, ids: list[str]) -> list[Resource]:
    found: list[Resource] = directory.get_plugin().get_subnets(reader, filters={"id": ids}) if ids else []
    return found


def _dhcp_ports(reader: context.Context, network_ids: list[str]) -> list[Resource]:
    """Return the ports of the DHCP servers on networks, as far as the caller may see them."""
    if not network_ids:
        return []
    filters = {"network_id": network_ids, "device_owner": [constants.DEVICE_OWNER_DHCP]}
    return visible(reader, "ports", "port", directory.get_plugin().get_ports(reader, filters=filters))


def _floating_ips(reader: context.Context, port_ids: list[str]) -> list[Resource]:
    routers = directory.get_plugin(plugins.L3)
    if routers is None or not port_ids:
        return []
    return visible(reader, "floatingips", "floatingip", routers.get_floatingips(reader, filters={"port_id": port_ids}))


def port_quota(caller: context.Context) -> dict[str, int] | None:
    """Return the quota of ports of the caller's project: `limit` (-1 for none) and `used`, both counts of ports.

    `GET /v2.0/quotas/PROJECT` shows it to all users of the project as well.

    Returns:
        The quota; `None` if the caller has no project.
    """
    project = caller.project_id
    if project is None:
        return None
    limits = quota.QUOTAS.get_driver().get_project_quotas(caller, {"port": resource_registry.get_resource("port")}, project)
    used = directory.get_plugin().get_ports_count(caller, filters={"project_id": [project]})
    return {"limit": limits["port"], "used": used}
