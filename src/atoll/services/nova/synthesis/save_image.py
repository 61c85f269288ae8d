"""Save images of libvirt around the memory of a guest: the file from which libvirt starts a guest that goes on where it was stopped.

    offset  bytes  field
         0     16  "LibvirtQemudSave"
        16      4  version, u32: 2
        20      4  length n of the definition, u32
        24      4  whether the guest ran, u32
        28      4  format, u32: 6 means `sparse`, QEMU's `mapped-ram`, in which each page of memory has a fixed place
        32      4  offset of libvirt's own additions in the definition, u32; 0 means none
        36     56  0
        92      n  the guest's definition in XML, padded with zeros
      92+n         QEMU's stream: pages of memory and the states of devices, at places that count from the beginning of the file

Numbers are little-endian. libvirt writes 64 KiB of padding, so that the definition of another server fits in the same place. The
definition in an overlay's memory is never read: it is replaced by that of the server before libvirt sees the file.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from atoll.services.nova.synthesis.overlays import OverlayRefusal

MAGIC = b"LibvirtQemudSave"
"""The first bytes of a complete save image."""

SPARSE = 6
"""The number of the format `sparse`."""

HEADER = struct.Struct("<16s5I56x")
"""The head of a save image."""

MOST_DEFINITION = 1 << 20
"""Greatest length of a definition in bytes."""

_VERSION = 2


def room(file: Path) -> int:
    """Return the bytes of a save image that are reserved for the definition.

    Args:
        file: the save image.

    Raises:
        OverlayRefusal: the file is not a save image in the format `sparse`.
    """
    with file.open("rb") as opened:
        head, size = opened.read(HEADER.size), os.fstat(opened.fileno()).st_size
    if len(head) == HEADER.size:
        magic, version, length, _, kind, _ = HEADER.unpack(head)
        if (magic, version, kind) == (MAGIC, _VERSION, SPARSE) and 0 < length <= MOST_DEFINITION and HEADER.size + length < size:
            return int(length)
    raise OverlayRefusal("the overlay's memory is not one that `atoll cloudlet capture` wrote: expected libvirt's format sparse")


def define(file: Path, xml: str) -> None:
    """Make a definition the one of a save image; an empty definition erases the present one.

    Args:
        file: the save image.
        xml: the definition.

    Raises:
        OverlayRefusal: the file is not a save image in the format `sparse`, or has too little room for the definition.
    """
    length, text = room(file), xml.encode()
    if len(text) >= length:
        raise OverlayRefusal(f"the overlay's memory has room for a definition of {length} bytes: expected {len(text) + 1} bytes")
    with file.open("r+b") as opened:
        opened.write(HEADER.pack(MAGIC, _VERSION, length, 0, SPARSE, 0) + text.ljust(length, b"\0"))
