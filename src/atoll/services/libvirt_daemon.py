"""libvirtd of a site, which starts and watches its guests.

Its directories are fixed when it is compiled, so each site's has a mount namespace in which they are the site's own. Guests are no children
of it: they go on when it is stopped or killed, and it finds them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from atoll.namespaces import private_hostname, private_mounts
from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.ovn import layout

PROGRAMS = ("libvirtd", "qemu-system-x86_64", "qemu-img", "genisoimage")
"""What must be installed for guests. The last one makes config drives."""


def socket(settings: Settings) -> Path:
    """Where libvirt's clients find it."""
    return settings.sockets / "libvirt" / "libvirt-sock"


def uri(settings: Settings) -> str:
    """The same as libvirt's clients are told it."""
    return f"qemu+unix:///system?socket={socket(settings)}"


def configuration(settings: Settings) -> dict[str, str]:
    """Render libvirtd.conf and qemu.conf."""
    daemon: dict[str, str | int] = {
        "auth_unix_rw": "none",  # the socket is in a directory for its owner alone
        "auth_unix_ro": "none",
        "log_level": 2 if settings.debug else 3,
        "log_outputs": f"{2 if settings.debug else 3}:stderr",
        # It asks for the features of interfaces that /sys shows, which are of other networks.
        "log_filters": "4:util.netdev",
        "host_uuid": str(uuid5(NAMESPACE_URL, f"atoll-host:{settings.cloud}/{settings.site}")),
    }
    qemu: dict[str, str | int] = {
        "user": "root",
        "group": "root",
        "remember_owner": 0,
        "security_driver": "none",
        "stdio_handler": "file",  # there is no virtlogd
        # A guest's memory must not go to a core file. libvirt would raise the limit to its default, which fails without CAP_SYS_RESOURCE
        # because the fork server has set the hard limit to 0.
        "max_core": 0,
    }
    text = _render(qemu) + "namespaces = []\ncgroup_controllers = []\n"
    return {"libvirt/libvirtd.conf": _render(daemon), "libvirt/qemu.conf": text}


def _render(options: Mapping[str, str | int]) -> str:
    return "".join(f'{name} = "{value}"\n' if isinstance(value, str) else f"{name} = {value}\n" for name, value in options.items())


def run(child: Child) -> None:
    """Start it."""
    settings = Settings.load(child.arguments["directory"])
    own = settings.data / "libvirt"
    private_hostname(settings.site)  # what Nova calls the hypervisor
    private_mounts(
        {
            "/etc/libvirt": str(settings.etc / "libvirt"),
            "/run/libvirt": str(settings.sockets / "libvirt"),
            "/run/openvswitch": str(layout.directory(settings)),
            "/var/lib/libvirt": str(own / "lib"),
            "/var/cache/libvirt": str(own / "cache"),
            "/var/log/libvirt": str(settings.directory / "log" / "guests"),
        }
    )
    become(
        child,
        ["libvirtd", "--config", str(settings.etc / "libvirt" / "libvirtd.conf"), "--pid-file", str(settings.sockets / "libvirtd.pid")],
        lambda: layout.answers(socket(settings)),
    )


SERVICE = Service("libvirt", __name__, configuration, listens=(), forked_from=ROOT)
