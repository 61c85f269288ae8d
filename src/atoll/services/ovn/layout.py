"""Where the programs of OVN find one another, and what they are called with."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from atoll.services.contract import Settings

PATIENCE_S = 10
"""Seconds that a daemon may take for an answer."""

INTEGRATION_BRIDGE = "br-int"
"""Where guests' interfaces are; ovn-controller makes it."""

EXTERNAL_BRIDGE = "br-ex"
"""The way out of the cloud: its own port is in the site's network."""

PHYSICAL_NETWORK = "public"
"""What Neutron calls the network behind `EXTERNAL_BRIDGE`."""

METADATA_ADDRESS = "169.254.169.254"
"""Where guests of every network reach the metadata service, and beside it a name server. DHCP tells them the way."""

AGENTS = "agents"
"""Below a site's data: see `agents_state`."""


def directory(settings: Settings) -> Path:
    """Where the sockets are. Not beside those of the bus, which tries whatever it finds there."""
    return settings.sockets / "ovs"


def database(settings: Settings) -> str:
    """The address of the site's OVSDB server, for whatever speaks its protocol."""
    return f"unix:{database_socket(settings)}"


def database_socket(settings: Settings) -> Path:
    """The socket that it listens on, where ovs-vsctl(8) and its like look for it."""
    return directory(settings) / "db.sock"


def agents_state(settings: Settings) -> Path:
    """Where Neutron's agents keep what they know: the pid files and the configuration of programs that they start."""
    return settings.data / AGENTS


def ask(settings: Settings, program: str, *command: str) -> str | None:
    """What a daemon answers to a command of ovs-appctl(8), which finds it by its pid file; None if it does not answer."""
    asked = ["ovn-appctl", f"--timeout={PATIENCE_S}", "-t", program, *command]
    done = subprocess.run(asked, env=os.environ | environment(settings), capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def environment(settings: Settings) -> dict[str, str]:
    """What tells all programs of Open vSwitch and OVN to keep their sockets in the site's own directory."""
    return dict.fromkeys(("OVS_RUNDIR", "OVN_RUNDIR"), str(directory(settings)))


def command(settings: Settings, program: str, *arguments: str) -> list[str]:
    """How one of the daemons is started: in the foreground, logging to standard error alone."""
    level = "info" if settings.debug else "warn"
    return [program, "--no-chdir", "--pidfile", f"-vconsole:{level}", "-vsyslog:off", "-vfile:off", *arguments]


def forget_port(settings: Settings, interface: str) -> None:
    """Take an interface off the bridge that guests' are on, if it is there."""
    _tell_switch(settings, "--if-exists", "del-port", INTEGRATION_BRIDGE, interface)


def _tell_switch(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["ovs-vsctl", f"--db={database(settings)}", f"--timeout={PATIENCE_S}", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def reopen_port(settings: Settings, interface: str) -> None:
    """Have the switch let go of an interface that it has open, and open the one that comes to have its name.

    Where the switch is in user space it goes on reading a device that is gone, and takes no notice of a new one of the same name. What
    its database says of the interface stays: whose it is, its tag, its limits.

    Args:
        settings: of the site.
        interface: its device is gone. If the switch does not have it, or not open, nothing is done.
    """
    told = _tell_switch(settings, "--if-exists", "get", "Interface", interface, "ofport")
    if not told.stdout.strip().isdigit():
        return
    for kind in (_NO_TYPE, '""'):  # a type that there isn't closes it, the usual one opens it; each waits for the switch
        _tell_switch(settings, "set", "Interface", interface, f"type={kind}")


_NO_TYPE = "none"


def raise_port(settings: Settings, interface: str) -> None:
    """Bring an interface up for good that the switch is just opening.

    Where the switch is in user space it has the interface take all packets, and with that sets all flags to what it knows of them
    (`update_flags` of lib/netdev-linux.c): if somebody brought the interface up meanwhile, it is down from then on.

    Args:
        settings: of the site.
        interface: if the switch does not open it in time, it is only brought up; if it has no device, as with a guest that is off, not even
            that.
    """
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return
    # The kernel would answer who asks for an address of the site, in the name of an interface from which it takes nothing (`guest_filter`).
    with suppress(OSError):
        Path(f"/proc/sys/net/ipv4/conf/{interface}/arp_ignore").write_text("8", encoding="ascii")
    _tell_switch(settings, "wait-until", "Interface", interface, "ofport>0")
    subprocess.run(["ip", "link", "set", interface, "up"], check=False, capture_output=True)


def chassis(settings: Settings) -> str:
    """What OVN calls the site's switch: a UUID that the site's name decides."""
    return str(uuid5(NAMESPACE_URL, f"atoll:{settings.cloud}/{settings.site}"))


def answers(path: Path) -> bool:
    """True if somebody listens on a Unix socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        return True
    return False
