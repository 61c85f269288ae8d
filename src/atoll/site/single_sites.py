"""Operations on single sites of a cloud while the others keep running: stop, start, kill, add, remove."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from atoll.cloud import Cloud
from atoll.cloud.changes import NewSite, with_site
from atoll.errors import AtollError
from atoll.runtime.client import Event, SupervisorClient, connect
from atoll.site import guests, wan
from atoll.site.destroy import destroy
from atoll.site.processes import Observer, running_sites
from atoll.site.sites import check_known, known_sites, wanted_cloud
from atoll.site.state import State, locked, translated
from atoll.site.up import Outcome, bring_up


def start(state: State, cache_directory: Path, names: Sequence[str], observe: Observer) -> Outcome:
    """Start stopped or killed sites; the others do not change.

    Args:
        state: the state directory.
        cache_directory: the user's cache directory, for templates.
        names: names of the sites.
        observe: called with the events of processes.

    Raises:
        AtollError: `site.unknown`, and as for `bring_up`.
    """
    check_known(state, names)
    return bring_up(state, cache_directory, lambda: wanted_cloud(state, None), observe, only=names, command="site start")


def stop(state: State, names: Sequence[str], observe: Observer) -> tuple[str, ...]:
    """Stop the processes of sites gracefully. The sites' data and networks stay.

    Args:
        state: the state directory.
        names: names of the sites.
        observe: called with the events of processes.

    Returns:
        The names of the given sites that ran.

    Raises:
        AtollError: `site.unknown`, `state.*`, `runtime.unreachable`.
    """
    return _end(state, names, observe, by_force=False)


def kill(state: State, names: Sequence[str], observe: Observer) -> tuple[str, ...]:
    """Kill all processes of sites immediately, as a power cut would.

    In a topology, the sites' links are cut first, so that no packet leaves. Only `start` or `up` starts the sites again.

    Args:
        state: the state directory.
        names: names of the sites.
        observe: called with the events of processes.

    Returns:
        The names of the given sites that ran.

    Raises:
        AtollError: `site.unknown`, `state.*`, `runtime.unreachable`, `wan.*`.
    """
    return _end(state, names, observe, by_force=True)


def _end(state: State, names: Sequence[str], observe: Observer, *, by_force: bool) -> tuple[str, ...]:
    state.check()
    check_known(state, names)
    with locked(state, "site kill" if by_force else "site stop"), translated(state.root):
        control = connect(state.root)
        if control is None:
            return ()
        running = running_sites(state)
        going = [status.name for status in control.status() if status.name.partition("/")[0] in names and "/" in status.name]
        for event in _killed(state, control, names, going) if by_force else control.stop(going):
            observe(event)
        (guests.kill if by_force else guests.power_off)([state.site(name) for name in names])
        return tuple(dict.fromkeys(name for name in names if name in running))


def _killed(state: State, control: SupervisorClient, names: Sequence[str], processes: Sequence[str]) -> Iterator[Event]:
    wan.power_off(state, names)
    try:
        return control.kill(processes)
    except AtollError:
        wan.power_on(state, names)  # the sites still run
        raise


def add(state: State, cache_directory: Path, new: NewSite, observe: Observer) -> Outcome:
    """Add a site to a running cloud and start it; a site that exists already is only started.

    Args:
        state: the state directory.
        cache_directory: the user's cache directory, for templates.
        new: the site.
        observe: called with the events of processes.

    Raises:
        AtollError: `cloud.invalid`, with nothing changed; `site.not_running`: the cloud is down; and as for `bring_up`.
    """
    check_known(state, ())
    if connect(state.root) is None:
        raise AtollError("site.not_running", f"the cloud is not running: expected it up, so that {new.name} can join", "`atoll up`")
    return bring_up(state, cache_directory, lambda: _grown(state, new), observe, only=[new.name], command="site add")


def _grown(state: State, new: NewSite) -> Cloud:
    cloud = wanted_cloud(state, None)
    try:
        return with_site(cloud, new)
    except AtollError as error:
        hint = error.hint or "nothing was changed; see `atoll site add --help`"
        raise AtollError(error.kind.code, f"{new.name} can't be added: {error.message}", hint) from None


def remove(state: State, names: Sequence[str], observe: Observer) -> tuple[str, ...]:
    """Remove sites from a cloud, with their data; unknown names are ignored.

    Args:
        state: the state directory.
        names: names of the sites.
        observe: called with the events of processes.

    Returns:
        The names of the removed sites.

    Raises:
        AtollError: `cloud.not_found`; `cloud.invalid`: no site would remain, or the remaining sites would not be connected; and as for
            `destroy`.
    """
    check_known(state, ())
    going = [name for name in known_sites(state) if name in names]
    if going and len(going) == len(known_sites(state)):
        message = f"{', '.join(going)}: no site of the cloud would be left: expected at least one to remain"
        raise AtollError("cloud.invalid", message, "`atoll destroy` deletes all of it")
    return destroy(state, going, observe) if going else ()
