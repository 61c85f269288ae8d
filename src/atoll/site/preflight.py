"""The checks before a start: everything that could prevent it is found before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from atoll.cloud import Cloud
from atoll.cloud.hypervisor_defaults import with_default_hypervisors
from atoll.cloud.network_services import complaints_of_network_services
from atoll.errors import AtollError
from atoll.runtime.client import connect
from atoll.runtime.listeners import Listeners
from atoll.runtime.spec import Plan, Process
from atoll.services import ROUTER, code_key, template_key
from atoll.services.neutron import network_services
from atoll.site import databases
from atoll.site.bus import check_sockets
from atoll.site.composition import Rendered, compose, load_settings, opened, render_sites
from atoll.site.limits import check_files, check_memory
from atoll.site.machine import Machine, fake_by_default, obstacle, probe
from atoll.site.processes import ENDED, site_of
from atoll.site.sites import applied_cloud
from atoll.site.state import State, check_space


def check_startable(state: State, cache_directory: Path, cloud: Cloud) -> None:
    """Check that a new cloud could start: its ports, the memory, the disk, and the abilities of the machine.

    Args:
        state: the state directory, locked by the caller.
        cache_directory: the user's cache directory, for templates.
        cloud: the cloud.

    Raises:
        AtollError: as for `up`, with nothing changed.
    """
    cloud, _why = with_defaults(state, cloud)
    directory = cache_directory / "templates" / template_key()
    sites = render_sites(state, cloud, directory, machine_for(cache_directory, cloud))
    check_plan(state, cache_directory, cloud, sites, compose(sites, state, directory, code_key()))


def machine_for(cache_directory: Path, cloud: Cloud) -> Machine | None:
    """Return the abilities of this machine for guests; `None` if no site of the cloud runs guests."""
    return probe(cache_directory) if any(site.runs_guests for site in cloud.sites) else None


def with_defaults(state: State, cloud: Cloud) -> tuple[Cloud, str]:
    """Return the cloud with default hypervisors filled in, and the reason why this machine can't run guests; empty if it can.

    Raises:
        AtollError: `guests.unavailable`: a site names libvirt, but guests are not possible; `network.unavailable`, `cloud.invalid`: a
            network service of a site is not possible.
    """
    asked = [site for site in cloud.sites if site.runs_guests]
    problem = obstacle(site.data_plane for site in asked) if asked else obstacle()
    if problem and asked:
        raise AtollError(problem.kind.code, f"{asked[0].name} is to run guests, but {problem.message}", problem.hint)
    applied = applied_cloud(state)
    known = {site.name: site for site in applied.sites} if applied else {}
    joining = state.joining_file.exists()  # the first start of a site whose command died: its directory has no guests yet
    fake = [name for name in state.existing_sites() if (not known[name].runs_guests if name in known else not joining)]
    able = not fake_by_default()
    could_have = with_default_hypervisors(cloud, able=able, fake=fake)
    cloud = with_default_hypervisors(cloud, able=able and problem is None, fake=fake)
    _check_network_services(cloud)
    databases.check_installed(cloud.sites)
    return cloud, problem.message if problem and cloud != could_have else ""


def _check_network_services(cloud: Cloud) -> None:
    for index, text in complaints_of_network_services(cloud.sites, emulated=cloud.topology is not None):
        raise AtollError("cloud.invalid", f"{cloud.sites[index].name}: {text}")
    for site in cloud.full_sites:
        for name, problem in network_services.obstacles(site.network_services, site.network or "fake"):
            raise AtollError("network.unavailable", f"{site.name} is to have the network service {name}, but {problem.text}", problem.hint)


def check_plan(state: State, cache_directory: Path, cloud: Cloud, sites: Sequence[Rendered], plan: Plan) -> None:
    """Check everything that could prevent the start of the plan, before anything is written."""
    for site in sites:
        check_sockets(site.settings.sockets)
    databases.check_unchanged(applied_cloud(state), state, [site.settings for site in sites])
    databases.check_servers([site.settings for site in sites])
    control = connect(state.root)
    statuses = control.status() if control else []
    ready = {status.name for status in statuses if status.state == "ready"}
    if not {process.name for process in plan.processes} <= ready:
        check_space(state.root, cache_directory)
        check_files(plan)
        cold = [site for site in sites if not site.settings.control and site.settings.site not in map(site_of, ready)]
        check_memory(len(cold), warm=any(status.kind == "fork_server" for status in statuses))
    if cloud.topology is not None:
        return  # the sites' own networks have no other listeners
    live = [status.name for status in statuses if status.state not in ENDED]
    held = _addresses(state, live)
    by_themselves = [Process(name, "", "", listen=(address,)) for site in sites for name, address in opened(site).items()]
    # The supervisor also binds all addresses or none, but only after everything has been written.
    trial = Listeners()
    try:
        wanted = (*plan.processes, *by_themselves)
        trial.bind(replace(each, listen=tuple(address for address in each.listen if address not in held)) for each in wanted)
    finally:
        trial.keep(())


def _addresses(state: State, processes: Sequence[str]) -> set[tuple[str, int]]:
    """Return the addresses that running sites listen on."""
    existing = state.existing_sites()
    sites = [load_settings(state.site(name)) for name in {site_of(process) for process in processes} if name in existing]
    ports = [(site, name, port) for site in sites for name, port in site.ports.items() if not site.control]
    return {(site.listens_at(name), port) for site, name, port in ports if name != ROUTER.name or f"{site.site}/{name}" in processes}
