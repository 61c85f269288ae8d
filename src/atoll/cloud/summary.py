"""Descriptions of single sites as plain data."""

from __future__ import annotations

from atoll.cloud.model import Cloud


def links_of(cloud: Cloud, name: str) -> list[str]:
    """Return the names of the links of a site; none without a topology."""
    return [":".join(link) for link in cloud.network.links if name in link] if cloud.network else []


def summary_of_site(cloud: Cloud, name: str) -> dict[str, object]:
    """Return a site's description as plain data: kind, control site, address, URL and links."""
    site = next(each for each in cloud.sites if each.name == name)
    return {
        "name": name,
        "kind": site.kind,
        "control": site.control,
        "address": site.host,
        "url": cloud.control_of(site).url,
        "links": links_of(cloud, name),
    }
