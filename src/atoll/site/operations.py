"""What is done to single sites of a cloud while the others go on: stop, start, kill, add, remove."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from atoll.cloud import Cloud
from atoll.cloud.changes import NewSite, with_site
from atoll.errors import AtollError
from atoll.runtime.control import Control, Event, connect
from atoll.site import guests, wan
from atoll.site.lifecycle import Observer, Outcome, bring_up, destroy, running_sites
from atoll.site.sites import check_known, known_sites, wanted_cloud
from atoll.site.state import State, locked, translated


def start(state: State, cache_directory: Path, names: Sequence[str], observe: Observer) -> Outcome:
    """Bring sites up, stopped ones or killed ones; the others stay as they are.

    Args:
        state: where the cloud is kept.
        cache_directory: where templates are kept.
        names: of the sites.
        observe: told what happens meanwhile.

    Raises:
        AtollError: `site.unknown`, and as for `bring_up`.
    """
    check_known(state, names)
    return bring_up(state, cache_directory, lambda: wanted_cloud(state, None), observe, only=names, command="site start")


def stop(state: State, names: Sequence[str], observe: Observer) -> tuple[str, ...]:
    """Stop sites in good order. What they hold stays, and so does their network.

    Args:
        state: where the cloud is kept.
        names: of the sites.
        observe: told what happens meanwhile.

    Returns:
        The names of those that ran.

    Raises:
        AtollError: `site.unknown`, `state.*`, `runtime.unreachable`.
    """
    return _end(state, names, observe, by_force=False)


def kill(state: State, names: Sequence[str], observe: Observer) -> tuple[str, ...]:
    """Kill all processes of sites at once, as a power cut would; in a topology their links go first, so that nothing says goodbye.

    Nothing brings them back but `start`, or `up`.

    Args:
        state: where the cloud is kept.
        names: of the sites.
        observe: told what happens meanwhile.

    Returns:
        The names of those that ran.

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


def _killed(state: State, control: Control, names: Sequence[str], processes: Sequence[str]) -> Iterator[Event]:
    wan.power_off(state, names)
    try:
        return control.kill(processes)
    except AtollError:
        wan.power_on(state, names)  # they live on
        raise


def add(state: State, cache_directory: Path, new: NewSite, observe: Observer) -> Outcome:
    """Add a site to a cloud that runs, and bring it up; one that is there already is brought up.

    Args:
        state: where the cloud is kept.
        cache_directory: where templates are kept.
        new: the site.
        observe: told what happens meanwhile.

    Raises:
        AtollError: `cloud.invalid`: nothing was changed; `site.not_running`: the cloud is down; and as for `bring_up`.
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
    """Take sites out of a cloud, with everything they hold; those that are not there are none.

    Args:
        state: where the cloud is kept.
        names: of the sites.
        observe: told what happens meanwhile.

    Returns:
        The names of the sites that are gone.

    Raises:
        AtollError: `cloud.not_found`; `cloud.invalid`: nothing would be left, or sites with no way between them; and as for `destroy`.
    """
    check_known(state, ())
    going = [name for name in known_sites(state) if name in names]
    if going and len(going) == len(known_sites(state)):
        message = f"{', '.join(going)}: nothing of the cloud would be left: expected a site to remain"
        raise AtollError("cloud.invalid", message, "`atoll destroy` deletes all of it")
    return destroy(state, going, observe) if going else ()


def links_of(cloud: Cloud, name: str) -> list[str]:
    """The names of the links of a site; none without a topology."""
    return [":".join(link) for link in cloud.network.links if name in link] if cloud.network else []


def described(cloud: Cloud, name: str) -> dict[str, object]:
    """One site, for those who ask for JSON: what and where it is, and its links."""
    site = next(each for each in cloud.sites if each.name == name)
    return {
        "name": name,
        "kind": site.kind,
        "control": site.control,
        "address": site.host,
        "url": cloud.control_of(site).url,
        "links": links_of(cloud, name),
    }
