"""Checks of the hypervisors and data planes of a cloud's sites: whether they can be combined, and can run real guests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll.cloud.model import Site

DATA_PLANES = {"libvirt": ("ovn", "ovs"), "fake": ("fake",)}
"""For each hypervisor, the data planes that work with it, the default first."""


def complaints_of_guests(sites: Sequence[Site], *, emulated: bool) -> Iterator[tuple[int, str]]:
    """Yield the errors in the hypervisors of a cloud's sites, each as the index of the site and the message.

    Args:
        sites: all sites of the cloud.
        emulated: whether each site has a network of its own.
    """
    controls = {site.control for site in sites}
    others: list[str] = []
    for index, site in enumerate(sites):
        fitting = DATA_PLANES.get(site.compute or "")
        if fitting and site.network and site.network not in fitting:
            expected = " or ".join(f"`network: {name}`" for name in fitting)
            yield index, f"`compute: {site.compute}` does not work with `network: {site.network}`: expected {expected}"
        if site.network in DATA_PLANES["libvirt"] and site.compute is None:
            yield index, f"expected `compute: libvirt` beside `network: {site.network}`"
        if not site.runs_guests:
            continue
        if site.kind == "compute" or site.name in controls:
            yield (
                index,
                "a compute site shares its control site's network, and such sites can't run guests yet: expected `compute: fake` for both",
            )
        if not site.services.nova:
            yield index, f"{site.name} runs no Nova: expected no `compute`"
        if others and not emulated:
            text = f"{others[0]} runs guests too, and without a topology both share one network: expected a `topology`, or `compute: fake`"
            yield index, text
        others.append(site.name)
