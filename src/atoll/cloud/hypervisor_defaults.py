"""The default hypervisor of a site: libvirt if the machine and the cloud allow real guests, otherwise the fake driver."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from atoll.cloud.guests import DATA_PLANES

if TYPE_CHECKING:
    from atoll.cloud.model import Cloud, Site


def with_default_hypervisors(cloud: Cloud, *, able: bool, fake: Collection[str]) -> Cloud:
    """Return the cloud with the hypervisor and the data plane of every site filled in.

    Args:
        cloud: the cloud as its YAML describes it.
        able: whether this machine and this user can run guests.
        fake: the names of existing sites that use the fake driver; they keep it.
    """
    controls = {site.control for site in cloud.sites}
    alone = cloud.topology is not None or len(cloud.full_sites) == 1

    def choice(site: Site) -> str:
        if site.compute is not None:
            return site.compute
        can = site.kind == "full" and site.name not in controls and site.services.nova and site.network != "fake"
        can = can and not cloud.sharing(site.name)
        return "libvirt" if able and alone and can and site.name not in fake else "fake"

    sites = tuple(_with(site, choice(site)) for site in cloud.sites)
    return cloud.model_copy(update={"sites": sites})


def _with(site: Site, compute: str) -> Site:
    if site.kind == "compute":
        return site if site.compute else site.model_copy(update={"compute": compute})
    # pydantic treats a field that `model_copy` sets like one that the user set, so that it is written to the YAML.
    return site.model_copy(update={"compute": compute, "network": site.network or DATA_PLANES[compute][0]})
