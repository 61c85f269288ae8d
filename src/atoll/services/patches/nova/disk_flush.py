"""Guests' disks that are flushed to the machine's disk before the guest starts.

Nova creates a guest's files (a disk over the image's, a config drive) and the image's own file in its cache, and flushes none of them.
QEMU flushes what the guest flushes, but not data that were written before the guest started. The server is then durably ACTIVE, and after a
loss of power its disk may be an empty file. Worse, the cached image may lack a part for all guests that are started from it later. So all
of these files are flushed before `Guest.launch` (nova/virt/libvirt/guest.py). Every new disk goes through it: that of a new guest, and of
one that was resized, rescued or rebuilt.
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
    """Flush all files of a guest's disk; files that are on the disk already cost nothing.

    Args:
        instances: the directory of all guests.
        cache: the name of the directory of cached images in `instances`.
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
    """Wrap `Guest.launch`, so that the disk of a guest is flushed before the guest starts.

    Args:
        launch: upstream's method.
    """

    @wraps(launch)
    def launched(started: Any, *arguments: Any, **keywords: Any) -> Any:
        flush_disks(Path(CONF.instances_path), CONF.image_cache.subdirectory_name, started.uuid)
        return launch(started, *arguments, **keywords)

    return launched


def install() -> None:
    """Have Nova flush guests' disks before it starts guests, in this process."""
    guest.Guest.launch = flushing(guest.Guest.launch)
