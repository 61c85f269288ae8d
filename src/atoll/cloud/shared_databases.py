"""The sites that share one database: which sites belong together, and the checks of their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from atoll.cloud.databases import SHAREABLE

if TYPE_CHECKING:
    from atoll.cloud.model import Site
    from atoll.cloud.trust import Homed

MOST_SITES = 64
"""Greatest number of sites that can share a database: the default stride of a log (docs/stores.md)."""


def sharing(sites: Sequence[Site], name: str) -> tuple[Site, ...]:
    """Return the full sites that share a database with a site, the owner first; empty if the site shares with no other.

    Args:
        sites: all sites of the cloud.
        name: the name of a full site, the owner or another.
    """
    owner = next((site.database.of or site.name for site in sites if site.name == name), name)
    others = [site for site in sites if site.database.of == owner]
    return (*(site for site in sites if site.name == owner), *others) if others else ()


def complaints_of_shared(sites: Sequence[Site], trust: Mapping[str, str], homed: Sequence[Homed]) -> Iterator[tuple[int, str, str]]:
    """Yield the errors in the shared databases of a cloud, each as the index of the site, the field, and the message.

    Args:
        sites: all sites of the cloud.
        trust: the trust in each site whose trust is stated.
        homed: the domains and projects that only some sites administer.
    """
    for index, site in enumerate(sites):
        if site.database.of:
            if text := _complaint_of_owner(sites, site):
                yield index, "database", text
                continue
            yield from ((index, field, text) for field, text in _differences(site, _named(sites, site.database.of), trust))
        if group := sharing(sites, site.name):
            yield from ((index, field, text) for field, text in _obstacles(sites, site))
            names = {each.name for each in group}
            for each in homed:
                if site is group[0] and names & set(each.sites) and not names <= set(each.sites):
                    text = f"{each.key} is homed at {', '.join(each.sites)}: expected all or none of {', '.join(sorted(names))}"
                    yield index, "database", f"these sites share one Keystone, and {text}"


def _named(sites: Sequence[Site], name: str) -> Site:
    return next(site for site in sites if site.name == name)


def _complaint_of_owner(sites: Sequence[Site], site: Site) -> str:
    """Return the error in the name of the site whose databases a site shares; empty if there is none."""
    name = site.database.of or ""
    owner = next((each for each in sites if each.name == name), None)
    if owner is None or owner.kind != "full" or owner is site:
        others = [each.name for each in sites if each.database.engine == SHAREABLE and not each.database.of and each is not site]
        expected = f"expected one of {', '.join(others)}" if others else "expected a full site with `database: {start: redis}`"
        return f"no other full site is called {name}: {expected}"
    if owner.database.of:
        return f"{name} shares the databases of {owner.database.of}: expected `{{of: {owner.database.of}}}`"
    if owner.database.engine != SHAREABLE:
        return f"{name} has its databases in {owner.database.engine}, which sites can't share: expected `{SHAREABLE}` at {name}"
    if len(sharing(sites, name)) > MOST_SITES:
        return f"more than {MOST_SITES} sites share the databases of {name}: expected at most {MOST_SITES}"
    return ""


def _differences(site: Site, owner: Site, trust: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the fields in which a site must equal the owner of its databases, and does not."""
    if site.durability != owner.durability:
        yield "durability", f"{owner.name}, whose databases {site.name} shares, has `{owner.durability}`: expected the same"
    if site.services != owner.services:
        yield "services", f"{owner.name}, whose databases {site.name} shares, runs other services: expected the same"
    if trust.get(site.name, "full") != trust.get(owner.name, "full"):
        yield "database", f"{site.name} and {owner.name} share one Keystone: expected the same `trust` in both"


def _obstacles(sites: Sequence[Site], site: Site) -> Iterator[tuple[str, str]]:
    """Yield the fields of a site that do not work with a shared database."""
    if site.bus != "zenoh":
        yield "bus", "sites that share a database are on one bus: expected `zenoh`"
    if site.compute == "libvirt" or site.network not in {None, "fake"}:
        yield "compute", "sites that share a database have one Neutron, and OVN can't span sites yet: expected `compute: fake`"
    if site.network_services:
        yield "network_services", "network services do not work with a shared database yet: expected none"
    if any(each.control == site.name for each in sites):
        yield "database", f"{site.name} has compute sites, which do not work with a shared database yet: expected full sites"
