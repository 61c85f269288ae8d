"""Merge all sites' answers that are not lists of resources: zones, usage, limits, statistics. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Body = dict[str, Any]
Bodies = Mapping[str, Body]
"""The answer of each site; this site's comes first."""


def availability_zones(bodies: Bodies, missing: Sequence[str]) -> Body:
    """Return the availability zones of Nova: each site is a zone, listed as unavailable if the site does not answer."""
    zones: dict[str, Body] = {}
    for body in bodies.values():
        for zone in body["availabilityZoneInfo"]:
            held = zones.setdefault(zone["zoneName"], zone)
            if held is not zone:
                held["zoneState"]["available"] = held["zoneState"]["available"] or zone["zoneState"]["available"]
                if held.get("hosts") and zone.get("hosts"):
                    held["hosts"] |= zone["hosts"]
    for site in missing:
        zones.setdefault(site, {"zoneName": site, "zoneState": {"available": False}, "hosts": None})
    return {"availabilityZoneInfo": list(zones.values())}


def hypervisor_statistics(bodies: Bodies, _missing: Sequence[str]) -> Body:
    """Return the sums of all sites' statistics."""
    return {"hypervisor_statistics": _sum([body["hypervisor_statistics"] for body in bodies.values()])}


_SUMMED_LIMITS = {
    "maxTotalInstances": "totalInstancesUsed",
    "maxTotalCores": "totalCoresUsed",
    "maxTotalRAMSize": "totalRAMUsed",
    "maxServerGroups": "totalServerGroupsUsed",
    "maxSecurityGroups": "totalSecurityGroupsUsed",
    "maxTotalFloatingIps": "totalFloatingIpsUsed",
}
"""Limits on the number of resources, each with its usage. The other limits are on the size of one resource, and are not summed."""


def limits(bodies: Bodies, _missing: Sequence[str]) -> Body:
    """Return the sums of the sites' limits and usage: each site grants its own quota, and -1 means no limit."""
    all_absolute = [body["limits"]["absolute"] for body in bodies.values()]
    first = next(iter(bodies.values()))
    absolute = dict(all_absolute[0])
    for most, used in _SUMMED_LIMITS.items():
        if most in absolute:
            granted = [each.get(most, 0) for each in all_absolute]
            absolute[most] = -1 if -1 in granted else sum(granted)
        if used in absolute:
            absolute[used] = sum(each.get(used, 0) for each in all_absolute)
    return {"limits": first["limits"] | {"absolute": absolute}}


def tenant_usage(bodies: Bodies, _missing: Sequence[str]) -> Body:
    """Return the usage of all sites by project, or of one project."""
    if all("tenant_usage" in body for body in bodies.values()):
        used = [body["tenant_usage"] for body in bodies.values() if body["tenant_usage"]]
        return {"tenant_usage": _usage(used) if used else {}}
    by_project: dict[str, list[Body]] = {}
    for body in bodies.values():
        for usage in body["tenant_usages"]:
            by_project.setdefault(usage["tenant_id"], []).append(usage)
    links = [link for body in bodies.values() for link in body.get("tenant_usages_links", ())][:1]
    return {"tenant_usages": [_usage(each) for each in by_project.values()]} | ({"tenant_usages_links": links} if links else {})


def _usage(parts: list[Body]) -> Body:
    whole = parts[0] | _sum([{name: value for name, value in part.items() if name.startswith("total_")} for part in parts])
    if any("server_usages" in part for part in parts):
        whole["server_usages"] = [usage for part in parts for usage in part.get("server_usages", ())]
    return whole | {"start": min(part["start"] for part in parts), "stop": max(part["stop"] for part in parts)}


def network_ip_availabilities(lists: Iterable[Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """Return the used and total IP addresses of networks: each site has all addresses of a network, and assigns them to its own ports."""
    by_network: dict[Any, list[Mapping[str, Any]]] = {}
    for items in lists:
        for item in items:
            by_network.setdefault(item.get("network_id"), []).append(item)
    return [_availability(parts) for parts in by_network.values()]


def _availability(parts: list[Mapping[str, Any]]) -> Body:
    whole = dict(parts[0]) | _addresses(parts)
    if "subnet_ip_availability" in whole:
        by_subnet: dict[Any, list[Mapping[str, Any]]] = {}
        for part in parts:
            for subnet in part.get("subnet_ip_availability", ()):
                by_subnet.setdefault(subnet.get("subnet_id"), []).append(subnet)
        whole["subnet_ip_availability"] = [dict(each[0]) | _addresses(each) for each in by_subnet.values()]
    return whole


def _addresses(parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return _sum([{name: value for name, value in part.items() if name.endswith("_ips")} for part in parts])


def network_ip_availability(bodies: Bodies, _missing: Sequence[str]) -> Body:
    """Return the used and total IP addresses of one network; see `network_ip_availabilities`."""
    return {"network_ip_availability": network_ip_availabilities([[body["network_ip_availability"]] for body in bodies.values()])[0]}


def _sum(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(part.get(name, 0) for part in parts) for name in parts[0]}


MERGERS: Mapping[str, Callable[[Bodies, Sequence[str]], Body]] = {
    "os-availability-zone": availability_zones,
    "hypervisor_statistics": hypervisor_statistics,
    "limits": limits,
    "os-simple-tenant-usage": tenant_usage,
    "network-ip-availabilities": network_ip_availability,
}
"""The functions that merge answers, by `Route.name`."""
