"""The guests of a site as processes of this machine: they outlive the services that manage them, and go when the site itself goes.

What libvirt knows of them is read from its files, for when this is asked libvirt runs no more.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from atoll.services import Settings, network_services
from atoll.services.ovn import guest_filter

GRACE_S = 10.0
"""Seconds that guests have to shut down in good order once their power button was pressed; those of them that listen take three."""

_END_S = 5.0


@dataclass(frozen=True)
class Guest:
    """A guest that runs.

    Attributes:
        name: as libvirt calls it, such as `instance-00000001`.
        pid: of its QEMU.
        monitor: the socket of QEMU's monitor.
    """

    name: str
    pid: int
    monitor: Path


def running(site: Path) -> list[Guest]:
    """The guests of a site.

    Args:
        site: its directory.
    """
    found = []
    for file in sorted((site / "run" / "libvirt" / "qemu").glob("*.pid")):
        with suppress(OSError, ValueError):
            pid = int(file.read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            # The pid may be another's by now, after a power cut of the machine itself.
            if f"guest={file.stem}," in command:
                monitors = (site / "data" / "libvirt" / "lib" / "qemu").glob(f"domain-*-{file.stem[:20]}*/monitor.sock")
                found.append(Guest(file.stem, pid, next(monitors, Path(os.devnull))))
    return found


def power_off(sites: Iterable[Path], grace_s: float = GRACE_S) -> None:
    """Press the power button of all guests, and end those that take no notice; their disks are written out in either case.

    Args:
        sites: the directories of sites whose libvirt has stopped.
        grace_s: how long they may take.
    """
    sites = tuple(sites)
    _end_daemons(sites)
    guests = [guest for site in sites for guest in running(site)]
    if not guests:
        return
    with ExitStack() as stack:
        watched = {guest.pid: stack.enter_context(_Watched(guest.pid)) for guest in guests}
        for guest in guests:
            _press_power_button(guest)
        _await(watched.values(), grace_s)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for each in watched.values():
                each.signal(signum)
            _await(watched.values(), _END_S)


def kill(sites: Iterable[Path]) -> None:
    """End all guests at once, as a power cut would."""
    sites = tuple(sites)
    _end_daemons(sites)
    for site in sites:
        for guest in running(site):
            with suppress(ProcessLookupError):
                os.kill(guest.pid, signal.SIGKILL)


def _end_daemons(sites: Iterable[Path]) -> None:
    """End what agents have started that did not end with them, and take away what the switch left in this machine's own network."""
    for site in sites:
        network_services.end_daemons(site)
        with suppress(OSError, ValueError, KeyError, TypeError):  # it has no settings any more
            settings = Settings.load(site)
            if settings.outside and not settings.forwards:
                guest_filter.remove(settings)


class _Watched:
    """A process that is not our child, by a descriptor that can't come to mean another one."""

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


def _press_power_button(guest: Guest) -> None:
    """Ask QEMU over its own protocol (docs/interop/qmp-spec.txt of QEMU): a greeting, the capabilities, then commands."""
    with suppress(OSError, ValueError), ExitStack() as stack:
        # The path may be longer than an address of a socket, which libvirt sees by a shorter one.
        directory = os.open(guest.monitor.parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, directory)
        monitor = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        monitor.settimeout(1.0)
        monitor.connect(f"/proc/self/fd/{directory}/{guest.monitor.name}")
        with monitor.makefile("rw", encoding="utf-8") as lines:
            lines.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                lines.write(json.dumps({"execute": command}) + "\n")
                lines.flush()
                lines.readline()
