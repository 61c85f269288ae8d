"""Removal of a compute site from its control site, or of a site from the Nova that it shares with others, before it is destroyed.

The site's servers are deleted, then its services; with that, Nova removes the host, and Placement its resources. A site that shares a
database also leaves the availability zone of its name, and its endpoints in Keystone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from atoll.cloud import Site
from atoll.errors import AtollError
from atoll.runtime.client import connect
from atoll.services import Settings
from atoll.services.keystone.bootstrap import endpoints_of
from atoll.site.clients import admin_session
from atoll.site.composition import load_settings
from atoll.site.sites import applied_cloud
from atoll.site.state import State

PATIENCE_S = 60.0
"""Greatest number of seconds for the deletion of all servers of a site; the control site deletes them alone."""

_POLL_S = 0.2


def departing(state: State, names: Sequence[str]) -> dict[str, Settings]:
    """Return the departing sites that another site must remove, with the settings of that site.

    These are compute sites whose control site stays, and sites that share the database of a site that stays.

    Args:
        state: the state directory of the cloud.
        names: names of the departing sites; none means all.

    Raises:
        AtollError: `site.needed`: a control site departs, and one of its compute sites stays, or the owner of a shared database; or
            `site.not_running`: the site that stays is down.
    """
    found = {}
    for site in _applied_sites(state) if names else ():
        if site.control in names and site.name not in names:
            message = f"{site.control} is the control site of {site.name}, which cannot do without it"
            raise AtollError("site.needed", message, f"`atoll destroy {site.control} {site.name}`")
        owner = site.database.of
        if owner in names and site.name not in names:
            message = f"{owner} has the databases of {site.name}, which can't do without them"
            raise AtollError("site.needed", message, f"`atoll destroy {owner} {site.name}`")
        other = site.control or owner
        if other and site.name in names and other not in names:
            _check_runs(state, other, site.name, "control site" if site.control else "owner of the databases")
            found[site.name] = load_settings(state.site(other))
    return found


def _applied_sites(state: State) -> tuple[Site, ...]:
    # A cloud whose file can't be read can still be destroyed.
    with suppress(AtollError):
        if cloud := applied_cloud(state):
            return cloud.sites
    return ()


def _check_runs(state: State, control: str, name: str, role: str) -> None:
    server = connect(state.root)
    ready = {status.name for status in server.status() if status.state == "ready"} if server else set()
    if f"{control}/nova" not in ready and state.site(name).exists():
        message = f"{control}, the {role} of {name}, is not running: expected it up, so that it can remove {name}"
        raise AtollError("site.not_running", message, f"`atoll up`, or `atoll destroy {control} {name}`")


def depart(control: Settings, host: str, session: Any = None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Delete the servers and the services of a stopped site at its control site, or at the owner of the database that it shares.

    Args:
        control: settings of the control site or owner, which runs.
        host: name of the stopped site.
        session: a keystoneauth session; `None` means a new one of the site's administrator.
        sleep: waits for a number of seconds.

    Raises:
        AtollError: `site.failed`: the control site did not answer, or failed to delete the servers or the service.
    """
    from keystoneauth1.exceptions import ClientException  # noqa: PLC0415 - rarely needed

    session = session or admin_session(control)
    compute = _Compute(session, control.url("compute", "/v2.1"))
    try:
        for service in compute.get(f"/os-services?host={host}&binary=nova-compute")["services"]:
            # Unless the service is forced down, Nova would wait for the host to delete its servers.
            session.put(f"{compute.url}/os-services/{service['id']}", json={"forced_down": True}, headers=compute.headers)
            _delete_servers(compute, host, sleep)
            session.delete(f"{compute.url}/os-services/{service['id']}", headers=compute.headers)
        if host in control.sharing:
            _leave(compute, control, host)
    except (ClientException, TimeoutError) as error:
        why = str(error).splitlines()[0]
        hint = f"find the cause with `atoll status {control.site}`, and destroy {host} again"
        role = "owner of the databases" if host in control.sharing else "control site"
        raise AtollError("site.failed", f"{control.site}, the {role} of {host}, has not removed it: {why}", hint) from error


class _Compute:
    """The compute API, in a version where services have UUIDs and can be forced down."""

    def __init__(self, session: Any, url: str) -> None:
        self.headers = {"OpenStack-API-Version": "compute 2.53"}
        self.session = session
        self.url = url

    def get(self, path: str) -> Any:
        return self.session.get(self.url + path, headers=self.headers).json()


def _leave(compute: _Compute, owner: Settings, site: str) -> None:
    """Delete what else a site has in a shared Nova and Keystone: its other services, its availability zone and its endpoints."""
    for service in compute.get(f"/os-services?host={site}")["services"]:
        compute.session.delete(f"{compute.url}/os-services/{service['id']}", headers=compute.headers)
    for aggregate in compute.get("/os-aggregates")["aggregates"]:
        if aggregate["name"] == site and not aggregate["hosts"]:
            compute.session.delete(f"{compute.url}/os-aggregates/{aggregate['id']}", headers=compute.headers)
    identity = owner.url("identity", "/v3")
    known = {endpoint["id"] for endpoint in compute.session.get(f"{identity}/endpoints").json()["endpoints"]}
    for endpoint in known.intersection(endpoints_of(site)):
        compute.session.delete(f"{identity}/endpoints/{endpoint}")


def _delete_servers(compute: _Compute, host: str, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    asked: set[str] = set()
    while found := {server["id"] for server in compute.get(f"/servers?all_tenants=1&host={host}")["servers"]}:
        for server in found - asked:
            compute.session.delete(f"{compute.url}/servers/{server}", headers=compute.headers, raise_exc=False)
        asked |= found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(found)} servers of {host} are still there after {PATIENCE_S:.0f} s")
        sleep(_POLL_S)
