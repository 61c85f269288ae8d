"""The guests of a site, as processes of this machine. They outlive the services that manage them, and are ended with the site.

Their state is read from libvirt's files, because libvirt no longer runs when these functions are called.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from atoll.services import Settings
from atoll.services.neutron import network_services
from atoll.services.neutron.ovn import guest_filter

GRACE_S = 10.0
"""Seconds that guests have to shut down after their power button was pressed; guests that react take three seconds."""

_END_S = 5.0
_MONITOR_S = 2.0


@dataclass(frozen=True)
class Guest:
    """A guest that runs on this machine.

    Attributes:
        name: the guest's name in libvirt, such as `instance-00000001`.
        pid: process id of its QEMU.
        monitor: path of the socket of QEMU's monitor.
    """

    name: str
    pid: int
    monitor: Path


def running(site: Path) -> list[Guest]:
    """Return the running guests of a site.

    Args:
        site: the site's directory.
    """
    found = []
    for file in sorted((site / "run" / "libvirt" / "qemu").glob("*.pid")):
        with suppress(OSError, ValueError):
            pid = int(file.read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            # After a power cut of the machine, another process may have the pid that the file names.
            if f"guest={file.stem}," in command:
                monitors = (site / "data" / "libvirt" / "lib" / "qemu").glob(f"domain-*-{file.stem[:20]}*/monitor.sock")
                found.append(Guest(file.stem, pid, next(monitors, Path(os.devnull))))
    return found


def power_off(sites: Iterable[Path], grace_s: float = GRACE_S) -> None:
    """Press the power button of all guests, then end the guests that still run. In either case, QEMU flushes their disks.

    Args:
        sites: directories of sites whose libvirt has stopped.
        grace_s: seconds that guests have to shut down.
    """
    sites = tuple(sites)
    _end_daemons(sites)
    guests = [guest for site in sites for guest in running(site)]
    if not guests:
        return
    with ExitStack() as stack:
        watched = {guest.pid: stack.enter_context(_Watched(guest.pid)) for guest in guests}
        asyncio.run(_press_power_buttons(guests))
        _await(watched.values(), grace_s)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for each in watched.values():
                each.signal(signum)
            _await(watched.values(), _END_S)


def kill(sites: Iterable[Path]) -> None:
    """End all guests immediately, as a power cut would."""
    sites = tuple(sites)
    _end_daemons(sites)
    for site in sites:
        for guest in running(site):
            with suppress(ProcessLookupError):
                os.kill(guest.pid, signal.SIGKILL)


def _end_daemons(sites: Iterable[Path]) -> None:
    """End daemons that agents have started and that outlived them, and remove the switch's rules from this machine's own network."""
    for site in sites:
        network_services.end_daemons(site)
        with suppress(OSError, ValueError, KeyError, TypeError):  # it has no settings any more
            settings = Settings.load(site)
            if settings.outside and not settings.forwards:
                guest_filter.remove(settings)


class _Watched:
    """A process that is not a child of this one, watched by a pidfd, which never refers to another process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._descriptor: int | None = None

    def __enter__(self) -> _Watched:
        with suppress(ProcessLookupError):
            self._descriptor = os.pidfd_open(self._pid)
        return self

    def __exit__(self, *_details: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def signal(self, signum: int) -> None:
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signum)

    def ended(self, timeout_s: float) -> bool:
        return self._descriptor is None or bool(select.select([self._descriptor], [], [], max(0.0, timeout_s))[0])


def _await(watched: Iterable[_Watched], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for each in watched:
        each.ended(deadline - time.monotonic())


async def _press_power_buttons(guests: Iterable[Guest]) -> None:
    from qemu.qmp import QMPClient, QMPError  # noqa: PLC0415 - only sites with guests need it

    logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())  # it would log a monitor that does not answer on standard error

    async def press(guest: Guest) -> None:
        # The path may be longer than the address of a socket may be; libvirt uses a shorter one.
        directory = os.open(guest.monitor.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            client = QMPClient(guest.name)
            await client.connect(f"/proc/self/fd/{directory}/{guest.monitor.name}")
            await client.execute("system_powerdown")
            await client.disconnect()
        finally:
            os.close(directory)

    async def try_to_press(guest: Guest) -> None:
        with suppress(OSError, EOFError, TimeoutError, QMPError):  # a guest that does not shut down is ended
            await asyncio.wait_for(press(guest), _MONITOR_S)

    await asyncio.gather(*map(try_to_press, guests))
