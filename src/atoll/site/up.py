"""The start and the update of a cloud's sites."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from atoll.cloud import Cloud, dump_cloud
from atoll.errors import AtollError
from atoll.files import write_private
from atoll.mesh import certificates
from atoll.runtime.client import SupervisorClient, connect, ensure_supervisor
from atoll.runtime.spec import Plan
from atoll.services import SERVICES, code_key, template_key
from atoll.services.neutron import network_services
from atoll.site import cache, guests, wan
from atoll.site.clients import clouds_yaml
from atoll.site.composition import Rendered, compose, render_sites, write
from atoll.site.gateway import introduce
from atoll.site.machine import Machine
from atoll.site.preflight import check_plan, machine_for, with_defaults
from atoll.site.processes import Observer, running_sites, site_of, start_plan, stop_processes
from atoll.site.revocation import check_not_revoked
from atoll.site.sites import wanted_cloud
from atoll.site.state import State, locked, translated


@dataclass(frozen=True)
class Outcome:
    """The result of `up`.

    Attributes:
        cloud: the cloud that is up.
        started: names of the processes that were started, as `site/service`; empty if all were running already.
        machine: abilities of this machine for guests; `None` if no site runs guests.
        obstacle: reason why sites have the fake driver by default instead of guests; empty if there is none.
    """

    cloud: Cloud
    started: tuple[str, ...]
    machine: Machine | None = None
    obstacle: str = ""


def up(state: State, cache_directory: Path, file: Path | None = None, observe: Observer = lambda _event: None) -> Outcome:
    """Start all sites of a cloud; running processes whose configuration is unchanged continue.

    Args:
        state: the state directory.
        cache_directory: the user's cache directory, for templates.
        file: the cloud's YAML; `None` means the cloud as last applied, or the default.
        observe: called with the events of processes.

    Raises:
        AtollError: `cloud.*`, `state.*`, `port.*`, with nothing changed; `site.failed`: a process did not become ready.
    """
    return bring_up(state, cache_directory, lambda: wanted_cloud(state, file), observe)


def bring_up(  # noqa: PLR0913 - the last two serve single sites
    state: State,
    cache_directory: Path,
    wanted: Callable[[], Cloud],
    observe: Observer,
    *,
    only: Collection[str] | None = None,
    command: str = "up",
) -> Outcome:
    """Start sites of a cloud, and update sites that run already.

    Args:
        state: the state directory.
        cache_directory: the user's cache directory, for templates.
        wanted: a function that returns the cloud; called twice, the second time under the lock.
        observe: called with the events of processes.
        only: names of the sites to bring up, besides the running ones; `None` means all.
        command: name of the verb, for messages of other commands that find the lock taken.

    Raises:
        AtollError: as for `up`; `site.not_running`: the control site of one of the sites neither runs nor is started with it.
    """
    state.check()
    wanted()  # before the lock, which creates the directory: invalid input leaves nothing behind
    with locked(state, command), translated(state.root):
        state.check()
        cloud, why = with_defaults(state, wanted())
        machine = machine_for(cache_directory, cloud)
        code, key = code_key(), template_key()
        directory = cache_directory / "templates" / key
        sites = render_sites(state, cloud, directory, machine)
        names = _chosen(cloud, only, running_sites(state))
        chosen = [site for site in sites if site.name in names]
        for site in cloud.sites:
            if site.name in names:
                check_not_revoked(state, site)
        check_plan(state, cache_directory, cloud, chosen, compose(chosen, state, directory, code))
        with cache.held(cache_directory, key) as templates:
            _retire_other_code(state, code, observe)
            networks = wan.ensure(state, cloud, connect(state.root))
            write_sites(state, cloud, sites, code)
            control = ensure_supervisor(state.root)
            wan.tie(state, cloud, control)
            wan.power_on(state, names)
            plan = compose(chosen, state, templates.directory, code, networks)
            _stop_others(control, names, plan, observe)
            started = start_plan(control, plan, observe)
            templates.sweep((*(service.name for service in SERVICES), *network_services.templates()))
        state.joining_file.unlink(missing_ok=True)
        return Outcome(cloud, started, machine, why)


def _chosen(cloud: Cloud, only: Collection[str] | None, running: Collection[str]) -> set[str]:
    """Return the names of the sites to bring up or to keep up."""
    if only is None:
        return set(cloud.site_names)
    names = {name for name in cloud.site_names if name in only or name in running}
    for site in cloud.sites:
        if site.name in only and site.control and site.control not in names:
            message = f"{site.control}, the control site of {site.name}, is not running"
            raise AtollError("site.not_running", message, f"`atoll site start {site.control} {site.name}`")
    return names


def _retire_other_code(state: State, code: str, observe: Observer) -> None:
    """End the supervisor and the fork servers if the code that they have loaded is not the installed code."""
    with suppress(FileNotFoundError):
        if state.code_file.read_text(encoding="utf-8") == code:
            return
    control = connect(state.root)
    if control:
        stop_processes(control, None, observe)
        guests.power_off(map(state.site, state.existing_sites()))  # their networks end with the WAN
        control.shutdown()
        wan.close(state)


def write_sites(state: State, cloud: Cloud, sites: Sequence[Rendered], code: str) -> None:
    """Write the files of a cloud and of its rendered sites, with their certificates.

    Args:
        state: the state directory.
        cloud: the cloud, which is then the one last applied.
        sites: the sites.
        code: the key of the installed code.
    """
    state.stamp()
    authority = certificates.authority(state.authority, cloud.name)
    for site in sites:
        write(site)
        authority.certify(site.settings.tls, site.name, site.settings.own_address, unique=bool(site.settings.control))
    introduce([site.settings for site in sites])
    write_private(state.cloud_file, dump_cloud(cloud))
    write_private(state.clouds_file, clouds_yaml([site.settings for site in sites if not site.settings.control]))
    write_private(state.code_file, code)


def _stop_others(control: SupervisorClient, sites: Collection[str], plan: Plan, observe: Observer) -> None:
    """Stop processes of these sites that the plan no longer contains, such as the agent of a removed network service."""
    planned = {process.name for process in plan.processes}
    services = [status.name for status in control.status() if status.kind == "service"]
    others = [name for name in services if site_of(name) in sites and name not in planned]
    if others:
        stop_processes(control, others, observe)
