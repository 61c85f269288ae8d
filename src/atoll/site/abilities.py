"""Capabilities of this process and features of this kernel that real guests need. The probes try them and leave nothing behind.

Root in a container often lacks some of them. Without these probes, the first guest would fail without naming the cause.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_TRIAL_S = 20.0
_STATUS = Path("/proc/self/status")

_LIBVIRT = "libvirt sets the user and the capabilities of QEMU"


@dataclass(frozen=True)
class Capability:
    """A Linux capability that guests need.

    Attributes:
        number: the capability's bit, as in `linux/capability.h`.
        purpose: the reason why guests need it, for messages.
        networks: the data planes that need it.
    """

    number: int
    purpose: str
    networks: tuple[str, ...] = ("ovn", "ovs")


CAPABILITIES = {
    "CAP_DAC_OVERRIDE": Capability(1, _LIBVIRT),
    "CAP_KILL": Capability(5, "dnsmasq runs as another user, and is ended", ("ovs",)),
    "CAP_SETGID": Capability(6, _LIBVIRT),
    "CAP_SETUID": Capability(7, _LIBVIRT),
    "CAP_SETPCAP": Capability(8, _LIBVIRT),
    "CAP_NET_BIND_SERVICE": Capability(10, "metadata is served at port 80"),
    "CAP_NET_ADMIN": Capability(12, "guests have interfaces, and their networks routes"),
    "CAP_NET_RAW": Capability(13, "Open vSwitch in user space reads interfaces as raw packets"),
    "CAP_SYS_ADMIN": Capability(21, "libvirt and networks have namespaces and mounts of their own"),
}
"""All capabilities that a site with guests needs; guests were tested with these alone."""


@dataclass(frozen=True)
class Feature:
    """A feature of the kernel.

    Attributes:
        name: the feature's name for messages, in the plural.
        trial: a command that uses the feature, in namespaces that end with the command.
        hint: the remedy if the command fails.
    """

    name: str
    trial: tuple[str, ...]
    hint: str

    def refusal(self) -> str | None:
        """Run the trial, and return the last line of its standard error, or its exit status; `None` if it succeeded."""
        try:
            done = subprocess.run(self.trial, capture_output=True, text=True, errors="replace", check=False, timeout=_TRIAL_S)
        except subprocess.TimeoutExpired:
            return f"{self.trial[0]} did not end within {_TRIAL_S:.0f} s"
        except OSError as error:
            return f"{self.trial[0]}: {error.strerror}"
        if done.returncode == 0:
            return None
        return done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"


_IN_NETWORK = ("unshare", "--net", "ip")
_CONTAINER = "run as root of the machine, or give the container CAP_SYS_ADMIN and no seccomp or AppArmor profile that forbids it"

FEATURES = (
    Feature("network namespaces", ("unshare", "--net", "true"), _CONTAINER),
    Feature("mount and host name namespaces", ("unshare", "--mount", "--uts", "true"), _CONTAINER),
    Feature("bind mounts", ("unshare", "--mount", "mount", "--bind", "/proc", "/proc"), _CONTAINER),
    Feature(
        "TAP devices (/dev/net/tun)",
        (*_IN_NETWORK, "tuntap", "add", "atoll-probe", "mode", "tap"),
        "`modprobe tun`; a container needs `--device /dev/net/tun`",
    ),
    Feature("veth pairs", (*_IN_NETWORK, "link", "add", "atoll-one", "type", "veth", "peer", "name", "atoll-other"), "`modprobe veth`"),
)
"""The features that guests on Open vSwitch need, each after those that its trial uses."""


def missing_capabilities(networks: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the capabilities that guests need and this process lacks, each with its name and purpose.

    Args:
        networks: the data planes, `ovn` or `ovs`.
    """
    found = re.search(r"(?m)^CapEff:\s*([0-9a-f]+)$", _STATUS.read_text(encoding="ascii", errors="replace"))
    effective = int(found[1], 16) if found else -1  # a kernel that does not report capabilities is assumed to grant all
    for name, capability in CAPABILITIES.items():
        if not effective >> capability.number & 1 and not set(networks).isdisjoint(capability.networks):
            yield name, capability.purpose


def complaint(networks: Collection[str], features: Collection[Feature] = FEATURES) -> tuple[str, str] | None:
    """Return the reason why this process or this kernel can't run guests, and a hint; `None` if it can.

    Args:
        networks: the data planes, `ovn` or `ovs`.
        features: the required features of the kernel.
    """
    missing = dict(missing_capabilities(networks))
    if missing:
        purposes = "; ".join(dict.fromkeys(missing.values()))
        return f"root lacks {', '.join(missing)} here: {purposes}", f"run as root of the machine, or give the container {' '.join(missing)}"
    for feature in features:
        refusal = feature.refusal()
        if refusal is not None:
            return f"this machine has no {feature.name}: {refusal}", feature.hint
    return None
