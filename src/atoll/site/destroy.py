"""The deletion of sites with their data, and of a whole cloud."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from atoll.cloud import Cloud, dump_cloud
from atoll.cloud.changes import without_sites
from atoll.errors import AtollError
from atoll.files import write_private
from atoll.site import databases, wan
from atoll.site.clients import clouds_yaml
from atoll.site.composition import load_settings
from atoll.site.departure import depart, departing
from atoll.site.down import stop_sites
from atoll.site.gateway import introduce
from atoll.site.gateway_client import announce_departure, reload_members
from atoll.site.processes import Observer
from atoll.site.sites import applied_cloud, check_known, known_sites
from atoll.site.state import State, locked, translated


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
        stop_sites(state, names if remaining else (), observe)
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
