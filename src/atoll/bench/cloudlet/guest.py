"""The guests that are measured, and the user data of their servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atoll.bench.cloudlet.parts import SESSION_MIB

_MIB = 1 << 20

SCRIPT = f"""#!/bin/sh
disk=$(awk '$2 == "/disk" {{ print $1 }}' /proc/mounts)
dd if=/dev/urandom of="$disk" bs=65536 count={SESSION_MIB * 16} seek=4096 conv=notrunc
sync
"""
"""User data of the project's guest: it writes the data of a session 256 MiB after the beginning of its disk, far behind its file system."""

_SESSION = "/var/lib/atoll-session"

CLOUD_CONFIG = f"""#cloud-config
write_files:
- path: /etc/systemd/system/atoll-bench.service
  content: |
    [Service]
    ExecStartPre=/bin/sh -c 'test -e {_SESSION} || dd if=/dev/urandom of={_SESSION} bs=65536 count={SESSION_MIB * 16} conv=fsync'
    ExecStart=/usr/bin/python3 -m http.server --directory /usr/share/doc 80
    [Install]
    WantedBy=multi-user.target
runcmd:
- [systemctl, daemon-reload]
- [systemctl, enable, --now, atoll-bench.service]
"""
"""User data of other guests, for cloud-init: an HTTP server that starts at each boot and, once, the data of a session."""


@dataclass(frozen=True)
class CloudletGuest:
    """A guest that is measured.

    Attributes:
        name: the name in the report.
        disk: its disk, raw.
        application: the disk of the same guest with an application, raw; `None` means that code is appended to the disk.
        script: the user data of its servers.
        memory_mib: least memory of its servers, in MiB.
    """

    name: str
    disk: Path
    application: Path | None
    script: str
    memory_mib: int

    @property
    def disk_gib(self) -> int:
        """Least disk of its servers, in GiB, with room for what the experiment appends."""
        size = max(each.stat().st_size for each in (self.disk, self.application or self.disk))
        return -(-(size + 16 * _MIB) // 2**30)

    @property
    def used_mib(self) -> float:
        """The amount of data on its disk, without holes, in MiB."""
        return round(self.disk.stat().st_blocks * 512 / _MIB, 1)
