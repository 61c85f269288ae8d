"""Captures a running guest of a site as the files of a base or an overlay: its disk, its memory and its hardware.

The guest's interfaces are detached first, because a guest keeps the MAC address that is in its memory. Then libvirt saves the memory and
the states of devices, which stops the guest: Nova shows the server as SHUTOFF, and starts it again with its interfaces on request. The disk
is read while the guest is stopped, so that disk and memory are of the same moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from lxml import etree

from atoll.cloudlet.handoff import flatten
from atoll.cloudlet.image import refuse_existing
from atoll.cloudlet.resume import HARDWARE
from atoll.cloudlet.synthesis import DISK, copy_sparse
from atoll.errors import AtollError
from atoll.files import make_directory
from atoll.services import Settings
from atoll.services.nova import libvirtd
from atoll.services.nova.synthesis.hardware import Hardware
from atoll.services.nova.synthesis.saving import failed, save

try:
    import libvirt
except ImportError:  # a machine without real guests
    libvirt = None

MEMORY = "memory"
"""Name of the file with the memory and the states of devices."""

LEAST = (11_002_000, 9_000_000)
"""First versions of libvirt and of QEMU that save each page of memory at a fixed place, as libvirt's numbers."""

_NOVA = "{http://openstack.org/xmlns/libvirt/nova/1.1}"


@dataclass(frozen=True)
class Capture:
    """The outcome of `capture`: a guest's files, and its machine.

    Attributes:
        server: the server's id.
        path: the directory with the files.
        hardware: the machine of the guest.
    """

    server: str
    path: Path
    hardware: Hardware


def capture(settings: Settings, server: str, target: Path, report: Callable[[str, int, int], None], connection: Any = None) -> Capture:
    """Capture a running guest, and stop it.

    Args:
        settings: the settings of the guest's site.
        server: the server's id or name.
        target: the directory to make.
        report: called with the progress.
        connection: a connection to the site's libvirt; `None` means a new one.

    Raises:
        AtollError: `server.unknown`; `cloudlet.exists`: the directory exists; `cloudlet.capture`: the guest can't be captured, and goes on
            unless it was stopped already; `state.space`; `cloudlet.unusable`. Nothing is left of the files.
    """
    refuse_existing(target)
    connection = connection or _connect(settings)
    _check_versions(connection)
    domain = _find(connection, server)
    identifier = str(domain.UUIDString())
    instances = settings.data / "instances"
    saved = instances / identifier / "capture"
    try:
        make_directory(target)
        report("saving", 0, 2)
        found = save(domain, saved)
        _move(saved, target / MEMORY)
        (target / HARDWARE).write_bytes(found.pack())
        report("saving", 1, 2)
        flatten(instances / identifier / DISK, target / DISK, instances / "_base", live=False)
        _check_stopped(domain)
        report("saving", 2, 2)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    finally:
        saved.unlink(missing_ok=True)
    return Capture(identifier, target, found)


def _connect(settings: Settings) -> Any:
    if libvirt is None:
        raise failed("Python's libvirt is missing: expected a site with real guests", "`scripts/guests`")
    try:
        return libvirt.open(libvirtd.uri(settings))
    except libvirt.libvirtError:
        raise failed(f"libvirt of {settings.site} does not answer: expected a running site with real guests", "`atoll status`") from None


def _check_versions(connection: Any) -> None:
    found = connection.getLibVersion(), connection.getVersion()
    if found[0] < LEAST[0] or found[1] < LEAST[1]:
        library, qemu = (f"{number // 1_000_000}.{number // 1000 % 1000}" for number in found)
        message = (
            f"QEMU {qemu} and libvirt {library} can't save memory at fixed places: expected QEMU 9.0 and libvirt 11.2, as in Debian 13"
        )
        raise failed(message, "capture the disk alone: see docs/how-to/make-an-overlay.md")


def _find(connection: Any, server: str) -> Any:
    """Return the running domain of a server.

    Users choose the names of their servers, also one that looks like the id of another user's server. So an id is no name.

    Raises:
        AtollError: `server.unknown`: there is none, or several have the name; `cloudlet.capture`: it does not run.
    """
    domains = connection.listAllDomains()
    identifier = _identifier(server)
    found = [each for each in domains if (each.UUIDString() == identifier if identifier else _name(each) == server)]
    if len(found) != 1:
        number = len(found) or "no"
        raise AtollError("server.unknown", f"{number} servers of this site are called {server}: expected one", "give the server's id")
    if not found[0].isActive():
        raise failed(f"{server} does not run: expected a running server", f"`openstack server start {server}`")
    return found[0]


def _identifier(server: str) -> str:
    """Return the id that an argument is, in libvirt's form; empty if it is a name."""
    with suppress(ValueError):
        return str(UUID(server))
    return ""


def _check_stopped(domain: Any) -> None:
    if domain.isActive():
        raise failed("the server was started again while its disk was read", "run the same command again")


def _name(domain: Any) -> str | None:
    found = etree.fromstring(domain.XMLDesc(0)).findtext(f"metadata/{_NOVA}instance/{_NOVA}name")
    return None if found is None else str(found)


def _move(source: Path, target: Path) -> None:
    """Move a file with its holes, also to another file system."""
    with suppress(OSError):
        source.rename(target)
        return
    with source.open("rb") as opened, target.open("xb") as copy:
        copy_sparse(opened.fileno(), copy.fileno())
