"""libvirtd of a site, which starts and watches its guests.

libvirtd's directories are fixed when it is compiled, so each site's libvirtd has a mount namespace in which they are the site's own.
Guests are not its children: they go on when it is stopped or killed, and it finds them again.

QEMU, which a guest may break out into, runs as an unprivileged user, under a filter of system calls, and in that mount namespace: of the
state directory it sees its site's guests, and none of the databases, keys and passwords, whatever user it might become. libvirt passes it
interfaces and logs as open files, and makes QEMU's user the owner of a guest's disks for as long as the guest runs.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from atoll.namespaces import private_hostname, private_mounts, show_only
from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.neutron.ovn import layout

PROGRAMS = ("libvirtd", "qemu-system-x86_64", "qemu-img", "genisoimage")
"""The programs that guests need; genisoimage makes config drives."""


ACCOUNTS = ("libvirt-qemu", "qemu")
"""Users that distributions create for QEMU."""

NOBODYS_ID = "+64055"
"""The user and group if none of `ACCOUNTS` exists: the number that Debian has reserved for QEMU."""

KVM = Path("/dev/kvm")

PASSABLE = 0o711
"""Mode of directories that QEMU must traverse; their parent directories are closed to all but their owner."""


def account() -> tuple[str, str]:
    """Return the user and the group that QEMU runs as, as qemu.conf names them; the group is the one that may use KVM."""
    user = NOBODYS_ID
    for name in reversed(ACCOUNTS):
        with suppress(KeyError):
            pwd.getpwnam(name)
            user = name
    with suppress(OSError):
        found = KVM.stat()
        if found.st_gid:
            return user, f"+{found.st_gid}"
    return user, NOBODYS_ID if user == NOBODYS_ID else f"+{pwd.getpwnam(user).pw_gid}"


def socket(settings: Settings) -> Path:
    """Return the socket that libvirt's clients connect to."""
    return settings.sockets / "libvirt" / "libvirt-sock"


def uri(settings: Settings) -> str:
    """Return the URI of libvirtd for libvirt's clients."""
    return f"qemu+unix:///system?socket={socket(settings)}"


def configuration(settings: Settings) -> dict[str, str]:
    """Render libvirtd.conf and qemu.conf."""
    daemon: dict[str, str | int] = {
        "auth_unix_rw": "none",  # only its owner can enter the socket's directory
        "auth_unix_ro": "none",
        "log_level": 2 if settings.debug else 3,
        "log_outputs": f"{2 if settings.debug else 3}:stderr",
        # libvirtd queries the interfaces that /sys shows, which belong to other network namespaces.
        "log_filters": "4:util.netdev",
        "host_uuid": str(uuid5(NAMESPACE_URL, f"atoll-host:{settings.cloud}/{settings.site}")),
    }
    user, group = account()
    qemu: dict[str, str | int] = {
        "user": user,
        "group": group,
        "dynamic_ownership": 1,
        "seccomp_sandbox": 1,
        "remember_owner": 0,
        "security_driver": "none",
        "stdio_handler": "file",  # there is no virtlogd
        # A guest's memory must not go to a core file. libvirt would raise the limit to its default, which fails without CAP_SYS_RESOURCE
        # because the fork server has set the hard limit to 0.
        "max_core": 0,
    }
    text = _render(qemu) + "namespaces = []\ncgroup_controllers = []\n"
    return {"libvirt/libvirtd.conf": _render(daemon), "libvirt/qemu.conf": text}


def open_instances(settings: Settings) -> None:
    """Let QEMU's user traverse the directories of guests that this process, which is Nova's, has created or creates from now on.

    The directories are below the site's directory, which is closed to all other users; only libvirtd's mount namespace has another path to
    them.
    """
    os.umask(0o066)
    for directory in (settings.data / "instances").iterdir():
        if directory.is_dir():
            directory.chmod(PASSABLE)


def _render(options: Mapping[str, str | int]) -> str:
    return "".join(f'{name} = "{value}"\n' if isinstance(value, str) else f"{name} = {value}\n" for name, value in options.items())


COMMAND = ("libvirtd", "--config", "/etc/libvirt/libvirtd.conf", "--pid-file", "/run/libvirt/libvirtd.pid")
"""The command of libvirtd; `move_in` makes its paths the site's own."""


def move_in(settings: Settings) -> None:
    """Give this process, which must have only one thread, a mount namespace with the site's directories where libvirtd expects them.

    QEMU sees no other part of the state directory in that namespace.
    """
    lib, cache = settings.data / "libvirt" / "lib", settings.data / "libvirt" / "cache"
    logs, instances = settings.directory / "log" / "guests", settings.data / "instances"
    places = {
        "/etc/libvirt": settings.etc / "libvirt",
        "/run/libvirt": settings.sockets / "libvirt",
        "/run/openvswitch": layout.directory(settings),
        "/var/lib/libvirt": lib,
        "/var/cache/libvirt": cache,
        "/var/log/libvirt": logs,
    }
    for directory in (*places.values(), instances):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for directory in (lib, instances):
        directory.chmod(PASSABLE)
    private_mounts({place: str(directory) for place, directory in places.items()})
    show_only(map(str, (*places.values(), instances)))
    os.chdir("/")


def run(child: Child) -> None:
    """Become libvirtd, and report readiness once it listens."""
    settings = Settings.load(child.arguments["directory"])
    private_hostname(settings.site)  # Nova's name of the hypervisor
    move_in(settings)
    become(child, COMMAND, lambda: layout.answers(socket(settings)))


SERVICE = Service("libvirt", __name__, configuration, listens=(), forked_from=ROOT)
