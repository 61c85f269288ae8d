"""Paths, names and commands of the programs of Open vSwitch and OVN."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from atoll.services.contract import Settings

PATIENCE_S = 10
"""Seconds that a daemon may take to answer."""

INTEGRATION_BRIDGE = "br-int"
"""The bridge with guests' interfaces, which ovn-controller creates."""

EXTERNAL_BRIDGE = "br-ex"
"""The bridge to the networks outside of the cloud; its internal port is in the site's network."""

PHYSICAL_NETWORK = "public"
"""Neutron's name of the network behind `EXTERNAL_BRIDGE`."""

METADATA_ADDRESS = "169.254.169.254"
"""Address of the metadata service and of the name server on every network; DHCP announces the route to it."""

AGENTS = "agents"
"""Name of the directory that `agents_state` returns."""


def directory(settings: Settings) -> Path:
    """Return the directory of OVN's sockets. The bus has another directory, because it tries to connect to every socket there."""
    return settings.sockets / "ovs"


def database(settings: Settings) -> str:
    """Return the address of the site's OVSDB server."""
    return f"unix:{database_socket(settings)}"


def database_socket(settings: Settings) -> Path:
    """Return the socket of the OVSDB server, where ovs-vsctl(8) and similar programs look for it."""
    return directory(settings) / "db.sock"


def agents_state(settings: Settings) -> Path:
    """Return the directory in which Neutron's agents keep the pid files and the configuration of their programs."""
    return settings.data / AGENTS


def ask(settings: Settings, program: str, *command: str) -> str | None:
    """Return a daemon's answer to a command of ovs-appctl(8), which finds the daemon by its pid file; `None` without an answer."""
    asked = ["ovn-appctl", f"--timeout={PATIENCE_S}", "-t", program, *command]
    done = subprocess.run(asked, env=os.environ | environment(settings), capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which all programs of Open vSwitch and OVN keep their sockets in the site's own directory."""
    return dict.fromkeys(("OVS_RUNDIR", "OVN_RUNDIR"), str(directory(settings)))


def command(settings: Settings, program: str, *arguments: str) -> list[str]:
    """Return the command of a daemon: in the foreground, with its log on standard error alone."""
    level = "info" if settings.debug else "warn"
    return [program, "--no-chdir", "--pidfile", f"-vconsole:{level}", "-vsyslog:off", "-vfile:off", *arguments]


def forget_port(settings: Settings, interface: str) -> None:
    """Remove an interface from the integration bridge, if it is there."""
    _tell_switch(settings, "--if-exists", "del-port", INTEGRATION_BRIDGE, interface)


def _tell_switch(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["ovs-vsctl", f"--db={database(settings)}", f"--timeout={PATIENCE_S}", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def reopen_port(settings: Settings, interface: str) -> None:
    """Have the switch close an open interface, and open the next device of the same name.

    A switch in user space continues to read a removed device, and ignores a new one of the same name. The interface's record in the
    database (its owner, its tag, its limits) stays.

    Args:
        settings: the site's settings.
        interface: the name of an interface whose device is gone; an interface that the switch has not opened is left alone.
    """
    told = _tell_switch(settings, "--if-exists", "get", "Interface", interface, "ofport")
    if not told.stdout.strip().isdigit():
        return
    for kind in (_NO_TYPE, '""'):  # an unknown type closes the interface, the usual type opens it; each command waits for the switch
        _tell_switch(settings, "set", "Interface", interface, f"type={kind}")


_NO_TYPE = "none"


def raise_port(settings: Settings, interface: str) -> None:
    """Bring up an interface that the switch is just opening, so that it stays up.

    A switch in user space makes the interface promiscuous, and thereby resets all flags to the values that it has cached (`update_flags`
    of lib/netdev-linux.c): an interface that was brought up meanwhile goes down again.

    Args:
        settings: the site's settings.
        interface: the name of the interface. If the switch does not open the interface in time, it is only brought up; if it has no device,
            as for a guest that is off, nothing is done.
    """
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return
    # Else the kernel would answer ARP for the site's addresses on an interface from which it accepts nothing (`guest_filter`).
    with suppress(OSError):
        Path(f"/proc/sys/net/ipv4/conf/{interface}/arp_ignore").write_text("8", encoding="ascii")
    _tell_switch(settings, "wait-until", "Interface", interface, "ofport>0")
    subprocess.run(["ip", "link", "set", interface, "up"], check=False, capture_output=True)


def chassis(settings: Settings) -> str:
    """Return OVN's name of the site's switch: a UUID that depends on the site's name alone."""
    return str(uuid5(NAMESPACE_URL, f"atoll:{settings.cloud}/{settings.site}"))


def answers(path: Path) -> bool:
    """Return whether a process listens on a Unix socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        return True
    return False
