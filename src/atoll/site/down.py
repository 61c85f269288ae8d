"""The stop of a cloud's sites, which keep their data."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.runtime.client import connect
from atoll.site import guests, wan
from atoll.site.processes import Observer, site_of, stop_processes
from atoll.site.sites import check_known, known_sites
from atoll.site.state import State, locked, translated


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
        return stop_sites(state, names, observe)


def stop_sites(state: State, names: Sequence[str], observe: Observer) -> tuple[str, ...]:
    """Stop sites, as `down` does, under a lock that the caller holds; return the names of the sites that ran."""
    control = connect(state.root)
    if control is None:
        return ()
    services = [status.name for status in control.status() if status.kind == "service"]
    going = [name for name in services if not names or site_of(name) in names]
    sites = tuple(dict.fromkeys(map(site_of, going)))
    stop_processes(control, going, observe)
    guests.power_off(map(state.site, sites))
    if len(going) == len(services):
        control.shutdown()
        wan.close(state)
    return sites
