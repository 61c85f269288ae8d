"""Removal of a compute site from its control site before it is destroyed.

The site's servers are deleted, then its compute service; with that, Nova removes the host, and Placement its resources.
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
from atoll.site.clients import admin_session
from atoll.site.composition import load_settings
from atoll.site.sites import applied_cloud
from atoll.site.state import State

PATIENCE_S = 60.0
"""Greatest number of seconds for the deletion of all servers of a site; the control site deletes them alone."""

_POLL_S = 0.2


def departing(state: State, names: Sequence[str]) -> dict[str, Settings]:
    """Return the departing compute sites whose control site stays, with the settings of that control site.

    Args:
        state: the state directory of the cloud.
        names: names of the departing sites; none means all.

    Raises:
        AtollError: `site.needed`: a control site departs, and one of its compute sites stays; `site.not_running`: a control site is down.
    """
    found = {}
    for site in _applied_sites(state) if names else ():
        if site.control in names and site.name not in names:
            message = f"{site.control} is the control site of {site.name}, which cannot do without it"
            raise AtollError("site.needed", message, f"`atoll destroy {site.control} {site.name}`")
        if site.control and site.name in names and site.control not in names:
            _check_runs(state, site.control, site.name)
            found[site.name] = load_settings(state.site(site.control))
    return found


def _applied_sites(state: State) -> tuple[Site, ...]:
    # A cloud whose file can't be read can still be destroyed.
    with suppress(AtollError):
        if cloud := applied_cloud(state):
            return cloud.sites
    return ()


def _check_runs(state: State, control: str, name: str) -> None:
    server = connect(state.root)
    ready = {status.name for status in server.status() if status.state == "ready"} if server else set()
    if f"{control}/nova" not in ready and state.site(name).exists():
        message = f"{control}, the control site of {name}, is not running: expected it up, so that it can remove {name}"
        raise AtollError("site.not_running", message, f"`atoll up`, or `atoll destroy {control} {name}`")


def depart(control: Settings, host: str, session: Any = None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Delete the servers and the compute service of a stopped compute site at its control site.

    Args:
        control: settings of the control site, which runs.
        host: name of the compute site.
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
    except (ClientException, TimeoutError) as error:
        why = str(error).splitlines()[0]
        hint = f"find the cause with `atoll status {control.site}`, and destroy {host} again"
        raise AtollError("site.failed", f"{control.site}, the control site of {host}, has not removed it: {why}", hint) from error


class _Compute:
    """The compute API, in a version where services have UUIDs and can be forced down."""

    def __init__(self, session: Any, url: str) -> None:
        self.headers = {"OpenStack-API-Version": "compute 2.53"}
        self.session = session
        self.url = url

    def get(self, path: str) -> Any:
        return self.session.get(self.url + path, headers=self.headers).json()


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
