"""Revokes a site: a full site by a record that is replicated to all members, a compute site at its control site."""

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
    """Revoke a site's access to the cloud, for ever.

    Args:
        state: the state directory of the cloud.
        name: the name of the site.
        at: the site that is asked to publish the revocation of a full site; `None` means the first other
            full site that runs.

    Raises:
        AtollError: `site.unknown`, `site.not_running`, `mesh.refused`.
    """
    cloud = applied_cloud(state)
    site = next((each for each in cloud.sites if each.name == name), None) if cloud else None
    if site is not None and site.control:
        with locked(state, "site revoke"):
            _revoke_compute_site(state, site)
    else:
        gateway_client.ask_any(state, at, "revoke", but=name, revoked=name)


def _revoke_compute_site(state: State, site: Site) -> None:
    """Remove the site's certificate from the list of its control site, which the router and the gateway apply immediately."""
    assert site.control is not None
    control = load_settings(state.site(site.control))
    file = control.directory / compute_sites.FILE
    entries = [each.without_access() if each.name == site.name else each for each in compute_sites.load(file)]
    compute_sites.save(file, entries)
    poke(control.sockets / COMPUTES)


def check_not_revoked(state: State, site: Site) -> None:
    """Check that a compute site was not revoked.

    Raises:
        AtollError: `mesh.refused`: its control site has revoked it.
    """
    listed = compute_sites.load(state.site(site.control) / compute_sites.FILE) if site.control else ()
    if any(each.name == site.name and each.revoked for each in listed):
        hint = f"`atoll destroy {site.name}`; a new site of that name gets a new certificate"
        raise AtollError("mesh.refused", f"{site.name} was revoked: {site.control} no longer admits it", hint)
