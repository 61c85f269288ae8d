"""The commands for a whole cloud: up, down, destroy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from atoll.cloud import Cloud, dump_cloud
from atoll.cloud.changes import without_sites
from atoll.cloud.hypervisor_defaults import with_default_hypervisors
from atoll.cloud.network_services import complaints_of_network_services
from atoll.errors import AtollError
from atoll.files import write_private
from atoll.mesh import certificates
from atoll.runtime.client import Event, SupervisorClient, connect, ensure_supervisor
from atoll.runtime.listeners import Listeners
from atoll.runtime.spec import Plan, Process
from atoll.services import ROUTER, SERVICES, code_key, template_key
from atoll.services.neutron import network_services
from atoll.site import cache, databases, guests, wan
from atoll.site.bus import check_sockets
from atoll.site.clients import clouds_yaml
from atoll.site.composition import Rendered, compose, load_secrets, load_settings, opened, render, write
from atoll.site.departure import depart, departing
from atoll.site.gateway import introduce
from atoll.site.gateway_client import announce_departure, reload_members
from atoll.site.limits import check_files, check_memory
from atoll.site.machine import Machine, fake_by_default, obstacle, probe
from atoll.site.revocation import check_not_revoked
from atoll.site.sites import applied_cloud, check_known, known_sites, wanted_cloud
from atoll.site.state import State, check_space, locked, translated

Observer = Callable[[Event], None]

ENDED = ("failed", "stopped", "done")
"""The states of processes that have ended."""


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
        cloud, why = _settled(state, wanted())
        machine = _machine(cache_directory, cloud)
        code, key = code_key(), template_key()
        directory = cache_directory / "templates" / key
        sites = _render(state, cloud, directory, machine)
        names = _chosen(cloud, only, running_sites(state))
        chosen = [site for site in sites if site.name in names]
        for site in cloud.sites:
            if site.name in names:
                check_not_revoked(state, site)
        _preflight(state, cache_directory, cloud, chosen, compose(chosen, state, directory, code))
        with cache.held(cache_directory, key) as templates:
            _retire_other_code(state, code, observe)
            networks = wan.ensure(state, cloud, connect(state.root))
            _write(state, cloud, sites, code)
            control = ensure_supervisor(state.root)
            wan.tie(state, cloud, control)
            wan.power_on(state, names)
            plan = compose(chosen, state, templates.directory, code, networks)
            _stop_others(control, names, plan, observe)
            started = start_plan(control, plan, observe)
            templates.sweep((*(service.name for service in SERVICES), *network_services.templates()))
        state.joining_file.unlink(missing_ok=True)
        return Outcome(cloud, started, machine, why)


def check_startable(state: State, cache_directory: Path, cloud: Cloud) -> None:
    """Check that a new cloud could start: its ports, the memory, the disk, and the abilities of the machine.

    Args:
        state: the state directory, locked by the caller.
        cache_directory: the user's cache directory, for templates.
        cloud: the cloud.

    Raises:
        AtollError: as for `up`, with nothing changed.
    """
    cloud, _why = _settled(state, cloud)
    directory = cache_directory / "templates" / template_key()
    sites = _render(state, cloud, directory, _machine(cache_directory, cloud))
    _preflight(state, cache_directory, cloud, sites, compose(sites, state, directory, code_key()))


def _machine(cache_directory: Path, cloud: Cloud) -> Machine | None:
    return probe(cache_directory) if any(site.runs_guests for site in cloud.sites) else None


def running_sites(state: State) -> set[str]:
    """Return the names of the sites with a running process."""
    control = connect(state.root) if state.root.exists() else None
    statuses = control.status() if control else []
    return {_site_of(status.name) for status in statuses if status.kind == "service" and status.state not in ENDED}


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


def _settled(state: State, cloud: Cloud) -> tuple[Cloud, str]:
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


def _render(state: State, cloud: Cloud, templates: Path, machine: Machine | None = None) -> list[Rendered]:
    secrets: dict[str, dict[str, str]] = {}
    # Existing sites first: new sites get the same administrator's password.
    for site in sorted(cloud.full_sites, key=lambda each: not state.site(each.name).exists()):
        admin = next((known["admin"] for known in secrets.values()), None)
        secrets[site.name] = load_secrets(state.site(site.name), admin)
    return [render(cloud, site, state.site(site.name), templates, secrets[site.control or site.name], machine) for site in cloud.sites]


def _preflight(state: State, cache_directory: Path, cloud: Cloud, sites: Sequence[Rendered], plan: Plan) -> None:
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
        cold = [site for site in sites if not site.settings.control and site.settings.site not in map(_site_of, ready)]
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
    sites = [load_settings(state.site(name)) for name in {_site_of(process) for process in processes} if name in existing]
    ports = [(site, name, port) for site in sites for name, port in site.ports.items() if not site.control]
    return {(site.listens_at(name), port) for site, name, port in ports if name != ROUTER.name or f"{site.site}/{name}" in processes}


def _retire_other_code(state: State, code: str, observe: Observer) -> None:
    """End the supervisor and the fork servers if the code that they have loaded is not the installed code."""
    with suppress(FileNotFoundError):
        if state.code_file.read_text(encoding="utf-8") == code:
            return
    control = connect(state.root)
    if control:
        _stop(control, None, observe)
        guests.power_off(map(state.site, state.existing_sites()))  # their networks end with the WAN
        control.shutdown()
        wan.close(state)


def _write(state: State, cloud: Cloud, sites: Sequence[Rendered], code: str) -> None:
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
    others = [name for name in services if _site_of(name) in sites and name not in planned]
    if others:
        _stop(control, others, observe)


def start_plan(control: SupervisorClient, plan: Plan, observe: Observer) -> tuple[str, ...]:
    """Apply a plan, and return the names of the processes that were started.

    Raises:
        AtollError: `site.failed`, with the cause; `state.busy`, `port.*`.
    """
    asked = {process.name for process in plan.processes}
    failed: list[Event] = []
    started: set[str] = set()
    try:
        for event in control.start(plan):
            observe(event)
            if event.process in asked and event.detail != "unchanged":
                started.add(event.process)
            if event.state == "failed":
                failed.append(event)
    except AtollError as error:
        if error.kind.code != "site.failed" or not failed:
            raise
        raise _explained(failed) from error
    return tuple(sorted(started))


def _explained(failed: Sequence[Event]) -> AtollError:
    """Return the error for the first failure that is not a consequence of another, with that process's log as the hint."""
    causes = [event for event in failed if not event.detail.startswith("needs ")] or list(failed)
    cause = causes[0]
    lines = [line.strip() for line in cause.detail.splitlines() if line.strip()] or ["no reason was given"]
    why = lines[0] if len(lines) == 1 else f"{lines[0].rstrip(':')}: {lines[-1]}"
    more = f" (and {len(failed) - 1} more with it)" if len(failed) > 1 else ""
    return AtollError("site.failed", f"{cause.process} did not start{more}: {why}", f"`atoll logs {cause.process}`")


def down(state: State, names: Sequence[str] = (), observe: Observer = lambda _event: None) -> tuple[str, ...]:
    """Stop sites and keep their data; with the last of them, the supervisor ends.

    Args:
        state: the state directory.
        names: names of the sites; none means all.
        observe: called with the events of processes.

    Returns:
        The names of the sites that ran.

    Raises:
        AtollError: `site.unknown`, `state.*`, `runtime.unreachable`.
    """
    state.check()
    if names or known_sites(state):
        check_known(state, names)
    if not state.root.exists():
        return ()
    with locked(state, "down"), translated(state.root):
        return _down(state, names, observe)


def _down(state: State, names: Sequence[str], observe: Observer) -> tuple[str, ...]:
    control = connect(state.root)
    if control is None:
        return ()
    services = [status.name for status in control.status() if status.kind == "service"]
    going = [name for name in services if not names or _site_of(name) in names]
    sites = tuple(dict.fromkeys(map(_site_of, going)))
    _stop(control, going, observe)
    guests.power_off(map(state.site, sites))
    if len(going) == len(services):
        control.shutdown()
        wan.close(state)
    return sites


def _stop(control: SupervisorClient, names: Sequence[str] | None, observe: Observer) -> None:
    for event in control.stop(None if names is None else list(names)):
        observe(event)


def _site_of(process: str) -> str:
    return process.partition("/")[0]


def destroy(state: State, names: Sequence[str] = (), observe: Observer = lambda _event: None) -> tuple[str, ...]:
    """Stop sites and delete their data.

    Args:
        state: the state directory, perhaps of another version.
        names: names of the sites; none means all sites, and then all other files of Atoll in the state directory are deleted too.
        observe: called with the events of processes.

    Returns:
        The names of the destroyed sites.

    Raises:
        AtollError: `site.unknown`, `state.*`, `runtime.unreachable`; `site.needed`: a site is the control site of one that stays;
            `site.not_running`, `site.failed`: a compute site can't be removed from its control site; `database.left`: all is gone but
            databases at a server that does not answer.
    """
    existing = destroyable(state)
    if names:
        check_known(state, names)
    leaving = departing(state, names)
    if names:
        _without(state, names)
    if not state.root.exists():
        return ()
    with locked(state, "destroy"), translated(state.root):
        remaining = [name for name in existing if names and name not in names]
        networks = wan.running(state) if leaving else {}
        if remaining:
            announce_departure(state, [name for name in names if name not in leaving])
        _down(state, names if remaining else (), observe)
        for name, control in leaving.items():
            wan.inside(networks.get(control.site), partial(depart, control, name))
        left = [_destroy(state.site(name)) for name in existing if name not in remaining]
        if remaining:
            _forget(state, names, remaining)
        else:
            delete_all(state)
    with suppress(OSError):
        state.root.rmdir()  # if it is empty
    if any(left):
        message = f"databases are left at their servers: {'; '.join(filter(None, left))}"
        raise AtollError("database.left", message, "remove them there; everything else is gone")
    return tuple(name for name in existing if name not in remaining)


def destroyable(state: State) -> list[str]:
    """Return the names of the sites that `destroy` would delete.

    Raises:
        AtollError: `state.unusable`: the directory is not a state directory of Atoll.
    """
    try:
        state.check()
    except AtollError as error:
        if error.kind.code != "state.version":
            raise
    with suppress(AtollError):
        return known_sites(state)
    return state.existing_sites()


def _destroy(directory: Path) -> str:
    """Delete a site's data, and return which of its databases at a server could not be removed; empty if none."""
    left = ""
    with suppress(AtollError):  # without settings there is no server to ask
        left = databases.remove(load_settings(directory))
    _delete(directory)
    return left


def _delete(directory: Path) -> None:
    # Renamed first, so that a half-deleted site is never mistaken for a site.
    doomed = directory.with_name(f".{directory.name}.destroyed")
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(FileNotFoundError):
        directory.rename(doomed)
        shutil.rmtree(doomed)


def _without(state: State, names: Sequence[str]) -> Cloud | None:
    """Return the cloud without some of its sites; `None` if no site remains.

    Raises:
        AtollError: `cloud.invalid`: the remaining sites are not a valid cloud.
    """
    cloud = applied_cloud(state)
    if cloud is None or set(cloud.site_names) <= set(names):
        return None
    return without_sites(cloud, names)


def _forget(state: State, names: Sequence[str], remaining: Sequence[str]) -> None:
    left = _without(state, names)
    if left:
        write_private(state.cloud_file, dump_cloud(left))
        wan.follow(state, left)
    settings = [load_settings(state.site(name)) for name in remaining if state.site(name).exists()]
    full = [each for each in settings if not each.control]
    write_private(state.clouds_file, clouds_yaml(full))
    introduce(full, gone=names)
    reload_members(state, [each.site for each in full])


def delete_all(state: State) -> None:
    """Delete Atoll's files in the state directory, and no others. No process of the cloud may run."""
    for directory in (state.root / "sites", state.logs, state.authority):
        shutil.rmtree(directory, ignore_errors=True)
    wan.close(state)
    wan.forget(state)
    files = (state.cloud_file, state.clouds_file, state.code_file, state.supervisor_log, state.joining_file)
    # The version file last: without it, the remainder of an interrupted `destroy` would not be recognised as Atoll's.
    for path in (*files, state.root / "supervisor.lock", state.root / "control.sock", state.version_file):
        path.unlink(missing_ok=True)
