"""The abilities of this machine for real guests: installed programs, KVM, and the data path of Open vSwitch."""

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
from atoll.services.neutron.ovn.translation import uses_two_zones
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
"""Greatest number of seconds until a guest with KVM prints its greeting: one or two if KVM works; without KVM, it hangs."""

_WORD = b"BusyBox"
"""A part of the greeting of the shell on the guest image's console."""

_FILE = "machine.json"


@dataclass(frozen=True)
class Machine:
    """The abilities of a machine for guests.

    Attributes:
        hypervisor: `kvm` or `qemu`, Nova's `virt_type`.
        datapath: `system` (the kernel's) or `netdev` (Open vSwitch's own), the type of its bridges.
        two_zones: whether OVN does source and destination NAT in two conntrack zones; see `atoll.services.neutron.ovn.translation`.
        mapped_ram: whether QEMU can keep a guest's memory in a file at fixed offsets (`mapped-ram`, QEMU 9.0 and newer).
    """

    hypervisor: str
    datapath: str
    two_zones: bool = False
    mapped_ram: bool = False


def obstacle(networks: Iterable[str] = ("ovn",)) -> AtollError | None:
    """Return the error that says why this machine or this user can't run guests; `None` if they can.

    Args:
        networks: the data planes, `ovn` or `ovs`.
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
    """Return whether the fake driver is the default hypervisor: $ATOLL_COMPUTE is `fake`."""
    return os.environ.get("ATOLL_COMPUTE") == "fake"


def probe(cache: Path) -> Machine:
    """Return the abilities of this machine; the result is cached until the version of the kernel, QEMU or OVN changes.

    A cached result is checked against this process, because another container of the same machine may have fewer abilities. If KVM could
    not be tried, the result is not cached.

    Args:
        cache: the user's cache directory.
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
    """Return the first line of a program's `--version`; empty if it is not installed."""
    with suppress(OSError):
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    return ""


def _ovn_uses_two_zones() -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        return uses_two_zones()
    return False


def _qemu_maps_ram() -> bool:
    """Return whether QEMU has the capability `mapped-ram`, by QMP commands on its standard input."""
    words = "".join(json.dumps({"execute": word}) + "\n" for word in ("qmp_capabilities", "query-migrate-capabilities", "quit"))
    command = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    with suppress(OSError, subprocess.SubprocessError):
        return '"mapped-ram"' in subprocess.run(command, input=words, capture_output=True, text=True, check=False, timeout=PROBE_S).stdout
    return False


def _kernel_has_switch() -> bool:
    """Return whether the kernel has Open vSwitch's module, or can load it."""
    from pyroute2 import GenericNetlinkSocket
    from pyroute2.netlink import genlmsg
    from pyroute2.netlink.exceptions import NetlinkError

    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--quiet", "openvswitch"], check=False, capture_output=True)
    with GenericNetlinkSocket() as netlink:
        try:
            netlink.bind("ovs_datapath", genlmsg)
        except NetlinkError:
            return False
    return True


def kvm_works(cache: Path) -> bool | None:
    """Return whether a guest runs with KVM: on some machines /dev/kvm exists, but guests that use it hang.

    Args:
        cache: the user's cache directory, for the guest image.

    Returns:
        `None` if KVM could not be tried, because no guest image can be built.
    """
    if not _may_use_kvm():
        return False
    try:
        image = build(cache, None, lambda _text: None).path
    except AtollError:
        return None
    return speaks(["-accel", "kvm", "-cpu", "host"], image, PROBE_S)


def speaks(options: Sequence[str], image: Path, within_s: float) -> bool:
    """Boot the guest image with options of QEMU, and return whether its console prints the greeting in time.

    Args:
        options: options of QEMU, with the accelerator.
        image: the guest image.
        within_s: seconds to wait.
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
