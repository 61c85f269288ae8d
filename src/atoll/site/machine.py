"""What this machine can do for real guests: whether all they need is installed, whether KVM works, whose data path Open vSwitch has."""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.guest.image import build
from atoll.services import GUEST_PROGRAMS
from atoll.services.ovn.translation import uses_two_zones
from atoll.site import abilities

PACKAGES = {
    "libvirtd": "libvirt-daemon-system",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "genisoimage": "genisoimage",
    "ovsdb-server": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovn-northd": "ovn-central",
    "ovn-controller": "ovn-host",
    "ovn-appctl": "ovn-common",
    "ovsdb-client": "openvswitch-switch",
    "dnsmasq": "dnsmasq-base",
    "dhcp_release": "dnsmasq-utils",
    "conntrack": "conntrack",
    "radvd": "radvd",
    "arping": "iputils-arping",
    "sysctl": "procps",
    "haproxy": "haproxy",
    "iptables": "iptables",
    "ip": "iproute2",
}
"""The Debian package of each program."""

PROBE_S = 10.0
"""How long a guest may take to say its first word with KVM. Where KVM works it takes a second or two; where it does not, for ever."""

_WORD = b"BusyBox"
"""How the shell on the guest image's console greets."""

_FILE = "machine.json"


@dataclass(frozen=True)
class Machine:
    """What guests get here.

    Attributes:
        hypervisor: `kvm` or `qemu`, Nova's `virt_type`.
        datapath: `system` (the kernel's) or `netdev` (Open vSwitch's own), the type of its bridges.
        two_zones: True if OVN translates sources and destinations in two zones; see `atoll.services.ovn.translation`.
        mapped_ram: True if QEMU can keep a guest's memory in a file at fixed offsets (`mapped-ram`, QEMU 9.0 and newer).
    """

    hypervisor: str
    datapath: str
    two_zones: bool = False
    mapped_ram: bool = False


def obstacle(networks: Iterable[str] = ("ovn",)) -> AtollError | None:
    """Why this machine or this user can't run guests; None if they can.

    Args:
        networks: what is to carry their packets: `ovn`, `ovs`.
    """
    networks = tuple(networks)
    if os.geteuid() != 0:
        return AtollError("guests.unavailable", "only root can run guests: they need interfaces and libvirt's own daemon", "run as root")
    needed = dict.fromkeys(program for network in networks for program in GUEST_PROGRAMS[network])
    missing = [program for program in needed if shutil.which(program) is None]
    packages = sorted({PACKAGES[program] for program in missing})
    if missing:
        return AtollError("guests.unavailable", f"not installed: {', '.join(missing)}", f"apt-get install {' '.join(packages)}")
    if find_spec("libvirt") is None:
        return AtollError("guests.unavailable", "Python's module libvirt is not installed", "`make guests`, which needs libvirt-dev")
    lacking = abilities.complaint(networks)
    return AtollError("guests.unavailable", *lacking) if lacking else None


def fake_by_default() -> bool:
    """True if the user wants records for guests wherever a cloud's file doesn't say otherwise: $ATOLL_COMPUTE is `fake`."""
    return os.environ.get("ATOLL_COMPUTE") == "fake"


def probe(cache: Path) -> Machine:
    """Find out what guests get; the answer is remembered until the kernel, QEMU or OVN is another one.

    A remembered answer holds only as long as this process has what it promises: another container of the same machine may have less. An
    answer that could not be tried is not remembered.

    Args:
        cache: the directory where it is remembered.
    """
    key = " ".join((platform.release(), _version_of("qemu-system-x86_64"), _version_of("ovn-northd")))
    path = cache / _FILE
    known = _known(path, key)
    if known is not None:
        kvm = known.hypervisor == "kvm" and _may_use_kvm()
        switch = known.datapath == "system" and _kernel_has_switch()
        return replace(known, hypervisor="kvm" if kvm else "qemu", datapath="system" if switch else "netdev")
    works = kvm_works(cache)
    switch = _kernel_has_switch()
    machine = Machine("kvm" if works else "qemu", "system" if switch else "netdev", _ovn_uses_two_zones(), _qemu_maps_ram())
    if works is not None:
        make_directory(cache)
        write_private(path, json.dumps({"key": key, **asdict(machine)}))
    return machine


def _known(path: Path, key: str) -> Machine | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Machine(**known) if known.pop("key") == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_use_kvm() -> bool:
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def _version_of(program: str) -> str:
    """The first line that a program says of its version; empty if it is not installed."""
    with suppress(OSError):
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    return ""


def _ovn_uses_two_zones() -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        return uses_two_zones()
    return False


def _qemu_maps_ram() -> bool:
    """Ask QEMU over its own protocol, which it speaks on its standard streams (docs/interop/qmp-spec.txt of QEMU)."""
    words = "".join(json.dumps({"execute": word}) + "\n" for word in ("qmp_capabilities", "query-migrate-capabilities", "quit"))
    command = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    with suppress(OSError, subprocess.SubprocessError):
        return '"mapped-ram"' in subprocess.run(command, input=words, capture_output=True, text=True, check=False, timeout=PROBE_S).stdout
    return False


def _kernel_has_switch() -> bool:
    """True if the kernel has Open vSwitch's module, or can load it."""
    from pyroute2 import GenericNetlinkSocket  # noqa: PLC0415 - who runs no guests needs none
    from pyroute2.netlink import genlmsg  # noqa: PLC0415
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--quiet", "openvswitch"], check=False, capture_output=True)
    with GenericNetlinkSocket() as netlink:
        try:
            netlink.bind("ovs_datapath", genlmsg)
        except NetlinkError:
            return False
    return True


def kvm_works(cache: Path) -> bool | None:
    """True if a guest really runs with KVM: there are machines that have /dev/kvm, and guests that use it hang.

    Args:
        cache: the user's cache directory, where the guest image is or comes to be.

    Returns:
        `None` if it could not be tried, for want of a guest image.
    """
    if not _may_use_kvm():
        return False
    try:
        image = build(cache, None, lambda _text: None).path
    except AtollError:
        return None
    return speaks(["-accel", "kvm", "-cpu", "host"], image, PROBE_S)


def speaks(options: Sequence[str], image: Path, within_s: float) -> bool:
    """True if the guest image, booted with these options of QEMU, says on its console in time that it runs.

    Args:
        options: of QEMU; they name the accelerator.
        image: the guest image.
        within_s: how long to wait.
    """
    drive = f"file={image},format=raw,if=virtio,snapshot=on"
    command = ["qemu-system-x86_64", *options, "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio", "-drive", drive]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as guest:
        try:
            return _says(guest, _WORD, time.monotonic() + within_s)
        finally:
            guest.kill()


def _says(guest: subprocess.Popen[bytes], word: bytes, deadline: float) -> bool:
    if guest.stdout is None:
        return False
    heard = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([guest.stdout], [], [], left)[0]:
        data = os.read(guest.stdout.fileno(), 65536)
        heard += data
        if word in heard:
            return True
        if not data:
            return False
    return False
