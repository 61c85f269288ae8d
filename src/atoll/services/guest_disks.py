"""Disks of guests that are on the machine's disk before the guest starts.

Nova makes a guest's files (a disk over the image's, a config drive) and the image's own file in its cache, and flushes none of them. QEMU
flushes what the guest flushes, but not what was there before it started. The server is then ACTIVE, durably, and after a loss of power its
disk may be an empty file; and, worse, the image in the cache may lack a part for all guests that are started from it later. So they are
flushed before `Guest.launch` (nova/virt/libvirt/guest.py), through which every new disk goes: that of a new guest, and that of one that
was resized, rescued or rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from nova.conf import CONF
from nova.virt.libvirt import guest

from atoll.files import flush


def flush_disks(instances: Path, cache: str, server: str) -> None:
    """Have what a guest's disk consists of on the machine's disk. What is there already costs nothing.

    Args:
        instances: the directory of all guests.
        cache: the name of the directory of images in it.
        server: the server's id.

    Raises:
        OSError: the disk fails.
    """
    for directory in (instances / server, instances / cache):
        if directory.is_dir():
            for path in directory.iterdir():
                if path.is_file():
                    flush(path)
            flush(directory)
    flush(instances)


def flushing(launch: Callable[..., Any]) -> Callable[..., Any]:
    """`Guest.launch`, which starts no guest whose disk may be lost with the machine's power.

    Args:
        launch: upstream's.
    """

    @wraps(launch)
    def launched(started: Any, *arguments: Any, **keywords: Any) -> Any:
        flush_disks(Path(CONF.instances_path), CONF.image_cache.subdirectory_name, started.uuid)
        return launch(started, *arguments, **keywords)

    return launched


def install() -> None:
    """Have Nova, in this process, flush guests' disks before it starts guests."""
    guest.Guest.launch = flushing(guest.Guest.launch)
