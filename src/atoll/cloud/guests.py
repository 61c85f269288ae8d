"""Which sites run real guests, and which can't."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll.cloud.model import Cloud, Site

DATA_PLANES = {"libvirt": ("ovn", "ovs"), "fake": ("fake",)}
"""The data planes that go with a hypervisor, the default first: a real guest's interface must be plugged somewhere, a record's can't be."""


def complaints_of_guests(sites: Sequence[Site], *, emulated: bool) -> Iterator[tuple[int, str]]:
    """What is wrong with the hypervisors of a cloud's sites: the index of a site, and the text.

    Args:
        sites: all of them.
        emulated: True if each has a network of its own.
    """
    controls = {site.control for site in sites}
    others: list[str] = []
    for index, site in enumerate(sites):
        fitting = DATA_PLANES.get(site.compute or "")
        if fitting and site.network and site.network not in fitting:
            expected = " or ".join(f"`network: {name}`" for name in fitting)
            yield index, f"`compute: {site.compute}` and `network: {site.network}` don't go together: expected {expected}"
        if site.network in DATA_PLANES["libvirt"] and site.compute is None:
            yield index, f"expected `compute: libvirt` beside `network: {site.network}`"
        if not site.runs_guests:
            continue
        if site.kind == "compute" or site.name in controls:
            yield (
                index,
                "a compute site and its control site share one network, which guests can't have yet: expected `compute: fake` for both",
            )
        if not site.services.nova:
            yield index, f"{site.name} runs no Nova: expected no `compute`"
        if others and not emulated:
            text = f"{others[0]} runs guests too, and without a topology both have one network: expected a `topology`, or `compute: fake`"
            yield index, text
        others.append(site.name)


def settled(cloud: Cloud, *, able: bool, fake: Collection[str]) -> Cloud:
    """A cloud whose sites all say which hypervisor they have.

    Args:
        cloud: as somebody wrote it down.
        able: True if this machine and user can run guests.
        fake: the names of sites that exist, and had no guests until now.
    """
    controls = {site.control for site in cloud.sites}
    alone = cloud.topology is not None or len(cloud.full_sites) == 1

    def choice(site: Site) -> str:
        if site.compute is not None:
            return site.compute
        can = site.kind == "full" and site.name not in controls and site.services.nova and site.network != "fake"
        return "libvirt" if able and alone and can and site.name not in fake else "fake"

    sites = tuple(_with(site, choice(site)) for site in cloud.sites)
    return cloud.model_copy(update={"sites": sites})


def _with(site: Site, compute: str) -> Site:
    if site.kind == "compute":
        return site if site.compute else site.model_copy(update={"compute": compute})
    # What is set counts as said, and so is written down.
    return site.model_copy(update={"compute": compute, "network": site.network or DATA_PLANES[compute][0]})
