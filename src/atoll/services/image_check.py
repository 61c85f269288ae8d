"""Images that were cut short are not booted.

What lies beyond the end of a file QEMU reads as zeros, so that the beginning of a qcow2 image is converted without a word, and its guest
finds half of its disk empty. Nova looks at the header alone (`fetch_to_raw` in nova/virt/images.py). So images are checked before they are
converted; for those that are raw nothing tells how long they should be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from nova import exception
from nova.privsep.qemu import QEMU_IMG_LIMITS
from nova.virt import images
from oslo_concurrency import processutils

_BROKEN = 2

_NOT_BROKEN = (0, 1, 3, 63)
"""What qemu-img(1) says of an image that is whole, of one that it can't open, of one with space that nobody uses, and of a format that it
can't check. What it can't open it won't convert either, and says why."""


class BrokenImage(exception.ImageUnacceptable):  # type: ignore[misc]
    """An image that its own format contradicts."""

    msg_fmt = "the image is broken, or was cut short: %(reason)s"


def check(file: str, image_format: str) -> None:
    """Make sure that an image is whole.

    Args:
        file: the image.
        image_format: as QEMU calls it.

    Raises:
        BrokenImage: it isn't.
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
    """`convert_image`, of images that are whole.

    Args:
        convert_image: upstream's.
    """

    @wraps(convert_image)
    def converted(source: str, dest: str, in_format: str, *arguments: Any, **keywords: Any) -> Any:
        if in_format not in (None, "raw"):
            check(source, in_format)
        return convert_image(source, dest, in_format, *arguments, **keywords)

    return converted


def install() -> None:
    """Have nova-compute, in this process, check images."""
    images.convert_image = checking(images.convert_image)
