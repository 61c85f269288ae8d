"""The end of sites on a testbed: `down` stops them, `destroy` deletes them and releases the hosts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from atoll.cloud.changes import without_sites
from atoll.errors import AtollError
from atoll.files import write_private
from atoll.site.destroy import delete_all
from atoll.site.state import State, locked, translated
from atoll.testbed import membership
from atoll.testbed.document import read_provider
from atoll.testbed.membership import atoll
from atoll.testbed.provider import Provider
from atoll.testbed.record import FILE, KNOWN_HOSTS, PROVIDER_FILE, WORK, HostsRecord, Placed, load

Say = Callable[[str], None]


def down(state: State, names: Sequence[str]) -> list[str]:
    """Stop sites on their hosts, which stay reserved, and return the names of these sites.

    Args:
        state: the state directory on this machine.
        names: the names of the sites; none means all.

    Raises:
        AtollError: `site.unknown`; `testbed.unreachable`; `testbed.failed`: a host's Atoll could not stop its site.
    """
    record = _loaded(state, names)
    with locked(state, "down"):
        chosen = [name for name, each in record.placed.items() if each.member and (not names or name in names)]
        for name in chosen:
            record.placed[name].host.run(atoll(record.placed[name], "down"))
    return chosen


def destroy(state: State, cache: Path, names: Sequence[str], say: Say) -> list[str]:
    """Delete sites and their data on their hosts; if no site remains, release the hosts and delete the record.

    If a host can't be reached, its data are left there, a line says so, and the other sites are deleted all the same.

    Args:
        state: the state directory on this machine.
        cache: the user's cache directory.
        names: the names of the sites; none means all.
        say: called with lines about the progress.

    Returns:
        The names of the sites.

    Raises:
        AtollError: `site.unknown`; `testbed.failed`: a site could not be deleted, or the hosts could not be released.
    """
    record = _loaded(state, names)
    chosen = [name for name in record.placed if not names or name in names]
    with locked(state, "destroy"), translated(state.root):
        last = len(chosen) == len(record.placed)
        for name in chosen:
            say(f"{name}: deleting")
            _delete(record.placed[name], say, leave=not last)
            if not last:
                del record.placed[name]
                record.cloud = without_sites(record.cloud, [name])
                record.save()
        if last:
            _release(record, cache, say)
        else:
            write_private(state.clouds_file, membership.clouds_yaml(record))
    with suppress(OSError):
        state.root.rmdir()
    return chosen


def clear(state: State, cache: Path, say: Say) -> None:
    """Delete all sites and constraints, but keep the hosts reserved for another cloud.

    Args:
        state: the state directory on this machine.
        cache: the user's cache directory.
        say: called with lines about the progress.

    Raises:
        AtollError: `testbed.failed`: a site could not be deleted.
    """
    record = _loaded(state, ())
    with locked(state, "destroy"), translated(state.root):
        for placed in record.placed.values():
            _delete(placed, say, leave=False)
        _relax(record, _provider(record, cache, say), say)
        record.placed = {}
        record.save()


def _loaded(state: State, names: Sequence[str]) -> HostsRecord:
    record = load(state)
    if record is None:
        raise AtollError("cloud.not_found", f"there is no cloud on a testbed in {state.root}", "start one with `atoll up --provider`")
    record.check_known(names)
    return record


def _delete(placed: Placed, say: Say, *, leave: bool) -> None:
    if not placed.program:
        return
    steps = f"{atoll(placed, 'site', 'leave', placed.host.site, '--yes')} >&2; " if leave else ""
    # An interrupted join also leaves files there. The code stays, for the next cloud on this host.
    gone = f"rm -f {placed.directory}/cloud.yaml {placed.directory}/password; rmdir {placed.directory} 2>/dev/null; exit 0"
    try:
        placed.host.run(f"{steps}{atoll(placed, 'destroy', '--yes')} && {{ {gone}; }}")
    except AtollError as error:
        if error.kind.code != "testbed.unreachable":
            raise
        say(f"warning: {error.message}: the data of {placed.host.site} are left there")


def _provider(record: HostsRecord, cache: Path, say: Say) -> Provider:
    file = record.state.root / PROVIDER_FILE
    return Provider(file, read_provider(file), record.state.root / WORK, cache, say)


def _relax(record: HostsRecord, provider: Provider, say: Say) -> None:
    """Remove the constraints of the links, if EnOSlib may have made any."""
    if not record.constrained:
        return
    try:
        provider.relax(record.pythons)
    except AtollError as error:
        say(f"warning: the constraints of the links may be left: {error.message}")
    record.constrained = False


def _release(record: HostsRecord, cache: Path, say: Say) -> None:
    state = record.state
    provider = _provider(record, cache, say)
    _relax(record, provider, say)
    say(f"releasing the hosts of {provider.document.provider}")
    provider.release()
    for name in (FILE, PROVIDER_FILE, KNOWN_HOSTS):
        (state.root / name).unlink(missing_ok=True)
    shutil.rmtree(state.root / WORK, ignore_errors=True)
    delete_all(state)
