"""A check that refuses truncated images.

QEMU reads zeros beyond the end of a file, so a truncated qcow2 image is converted without an error, and the guest finds a part of its disk
empty. Nova checks the header alone (`fetch_to_raw` in nova/virt/images.py). Here images are checked before they are converted; a raw image
does not record its length, so it cannot be checked.

Nova compares the size of an image's disk with the flavor's after it has converted the image. A caller that has no flavor to compare with
sets a limit first (`limited`): an image of a few kilobytes may be a disk of terabytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from nova import exception
from nova.privsep.qemu import QEMU_IMG_LIMITS
from nova.virt import images
from oslo_concurrency import processutils
from oslo_serialization import jsonutils

SPARE_BYTES = 100_000_000
"""Bytes that stay free on the file system when an image is converted under a limit."""

_MAX_BYTES: ContextVar[int | None] = ContextVar("max_bytes", default=None)

_BROKEN = 2

_NOT_BROKEN = (0, 1, 3, 63)
"""Exit codes of qemu-img(1) that do not mean a broken image.

They mean a sound image, one that cannot be opened, one with leaked space, and a format without checks. An image that cannot be opened
fails in its conversion, with a reason.
"""


class BrokenImage(exception.ImageUnacceptable):
    """Raised for an image that is inconsistent by its own format."""

    msg_fmt = "the image is broken, or was cut short: %(reason)s"


class LargeImage(exception.ImageUnacceptable):
    """Raised for an image whose disk is larger than the caller's limit, or than the file system has room for."""

    msg_fmt = "the image's disk is too large: %(reason)s"


@contextmanager
def limited(max_bytes: int) -> Iterator[None]:
    """Refuse to convert images to disks of more than `max_bytes` bytes, in this thread while the context lasts."""
    token = _MAX_BYTES.set(max_bytes)
    try:
        yield
    finally:
        _MAX_BYTES.reset(token)


def check_size(file: str, image_format: str, max_bytes: int, directory: str) -> None:
    """Check the size of an image's disk before it is converted to raw.

    Args:
        file: the path of the image.
        image_format: QEMU's name of its format.
        max_bytes: the greatest size of the disk in bytes.
        directory: the directory in which the disk will be stored.

    Raises:
        LargeImage: the disk is larger, or its data need more space than there is.
    """
    command = ("env", "LC_ALL=C", "qemu-img", "measure", "-f", image_format, "-O", "raw", "--output", "json", file)
    output, _ = processutils.execute(*command, prlimit=QEMU_IMG_LIMITS)
    measured = jsonutils.loads(output)
    size, needed = int(measured["fully-allocated"]), int(measured["required"])
    free = shutil.disk_usage(directory).free - SPARE_BYTES
    if size > max_bytes:
        raise LargeImage(image_id=file, reason=f"{size >> 20} MiB, expected at most {max_bytes >> 20}")
    if needed > free:
        raise LargeImage(image_id=file, reason=f"{needed >> 20} MiB of data, and {max(free, 0) >> 20} MiB are free")


def check(file: str, image_format: str) -> None:
    """Check that an image is complete and consistent.

    Args:
        file: the path of the image.
        image_format: QEMU's name of its format.

    Raises:
        BrokenImage: the image is broken.
    """
    command = ("env", "LC_ALL=C", "qemu-img", "check", "-f", image_format, file)
    try:
        processutils.execute(*command, prlimit=QEMU_IMG_LIMITS, check_exit_code=_NOT_BROKEN)
    except processutils.ProcessExecutionError as error:
        if error.exit_code != _BROKEN:
            raise
        found = [line for line in f"{error.stderr}\n{error.stdout}".splitlines() if "error" in line.lower()]
        raise BrokenImage(image_id=file, reason=f"qemu-img: {found[-1] if found else 'errors were found'}") from None


def checking(convert_image: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `convert_image` with a check of the image.

    Args:
        convert_image: upstream's function.
    """

    @wraps(convert_image)
    def converted(source: str, dest: str, in_format: str, *arguments: Any, **keywords: Any) -> Any:
        if in_format not in (None, "raw"):
            max_bytes = _MAX_BYTES.get()
            if max_bytes is not None:
                check_size(source, in_format, max_bytes, str(Path(dest).parent))
            check(source, in_format)
        return convert_image(source, dest, in_format, *arguments, **keywords)

    return converted


def install() -> None:
    """Have nova-compute check images, in this process."""
    images.convert_image = checking(images.convert_image)
