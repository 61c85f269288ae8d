"""Shuts a site out of the cloud: a full site by a revocation that all members learn of, a compute site at its control site."""

from __future__ import annotations

from atoll.cloud import Site
from atoll.errors import AtollError
from atoll.mesh import compute_sites
from atoll.pokes import COMPUTES, poke
from atoll.site import gateway_client
from atoll.site.composition import load_settings
from atoll.site.sites import applied_cloud
from atoll.site.state import State, locked


def revoke(state: State, name: str, at: str | None = None) -> None:
    """Shut a site out, for ever.

    Args:
        state: where the cloud is kept.
        name: of the site.
        at: the site that is asked to publish the revocation of a full site; `None` means the first.

    Raises:
        AtollError: `site.unknown`, `site.not_running`, `mesh.refused`.
    """
    cloud = applied_cloud(state)
    site = next((each for each in cloud.sites if each.name == name), None) if cloud else None
    if site is not None and site.control:
        with locked(state, "site revoke"):
            _revoke_compute_site(state, site)
    else:
        gateway_client.ask(state, at, "POST", "/revoke", {"site": name})


def _revoke_compute_site(state: State, site: Site) -> None:
    """Take its certificate off the list of its control site, which router and gateway follow at once."""
    assert site.control is not None
    control = load_settings(state.site(site.control))
    file = control.directory / compute_sites.FILE
    entries = [each.without_access() if each.name == site.name else each for each in compute_sites.load(file)]
    compute_sites.save(file, entries)
    poke(control.sockets / COMPUTES)


def check_not_revoked(state: State, site: Site) -> None:
    """Refuse to bring up a compute site that was revoked.

    Raises:
        AtollError: `mesh.refused`.
    """
    listed = compute_sites.load(state.site(site.control) / compute_sites.FILE) if site.control else ()
    if any(each.name == site.name and each.revoked for each in listed):
        hint = f"`atoll destroy {site.name}`; a new site of that name gets a new certificate"
        raise AtollError("mesh.refused", f"{site.name} was revoked: {site.control} lets it in no more", hint)
