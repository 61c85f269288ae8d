"""Descriptions of images: the parts of a virtual machine, and the digest that identifies the image.

    offset  bytes  field
         0     64  CPU model, UTF-8, padded with zeros; empty if the image has no memory
        64     64  machine type, UTF-8, padded with zeros
       128     56  for each part, in the order of their names:
                     16  name, ASCII, padded with zeros
                      8  size in bytes, u64
                     32  digest of the part (`pages.part_root`)

Numbers are little-endian.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from blake3 import blake3

from atoll.cloudlet.failures import invalid
from atoll.cloudlet.pages import DIGEST, PAGE

MOST_PARTS = 8
"""Greatest number of parts of an image."""

MOST_BYTES = PAGE << 32
"""Greatest size of a part in bytes: 16 TiB, because page numbers have 32 bits."""

MEMORY = "memory"
"""The part that holds the guest's memory: an image with this part can only run on the image's CPU model."""

RESERVED = frozenset({"image", "state"})
"""Names that no part may have, because they are names of files that describe an image or an unfinished image."""

HEAD = 128
"""Number of bytes of a description before its parts."""

PART = struct.Struct("<16sQ32s")
_TEXTS = struct.Struct("<64s64s")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")
_CONTEXT = "atoll cloudlet 1 image"


@dataclass(frozen=True)
class Part:
    """A part of an image.

    Attributes:
        name: `disk`, `memory`, `device` (the state of the devices), or another name of up to 16 letters, digits and hyphens.
        size: the size of the part in bytes.
        root: the digest of the part.
    """

    name: str
    size: int
    root: bytes


@dataclass(frozen=True)
class ImageDescription:
    """The identity of an image.

    Attributes:
        parts: the parts of the image, in the order of their names.
        cpu: the CPU model; empty if the image has no memory.
        machine: the machine type of the hypervisor, with its version; may be empty.
    """

    parts: tuple[Part, ...]
    cpu: str = ""
    machine: str = ""

    def pack(self) -> bytes:
        """Return the description as bytes, without the number of parts."""
        texts = _TEXTS.pack(self.cpu.encode(), self.machine.encode())
        return texts + b"".join(PART.pack(part.name.encode(), part.size, part.root) for part in self.parts)

    @property
    def digest(self) -> bytes:
        """The digest of the whole image: content, CPU model and machine type."""
        return blake3(self.pack(), derive_key_context=_CONTEXT).digest()

    @property
    def size(self) -> int:
        """The sum of the parts' sizes, in bytes."""
        return sum(part.size for part in self.parts)

    def part(self, name: str) -> Part | None:
        """Return a part; `None` if the image has no part of that name."""
        return next((part for part in self.parts if part.name == name), None)

    def check(self, where: str) -> None:
        """Check the limits of the format.

        Args:
            where: the file's name, for the error.

        Raises:
            AtollError: `cloudlet.invalid`: the description exceeds a limit.
        """
        names = [part.name for part in self.parts]
        if not 1 <= len(names) <= MOST_PARTS or names != sorted(set(names)) or not all(_NAME.fullmatch(name) for name in names):
            raise invalid(where, f"the parts are {', '.join(names) or 'missing'}", f"expected 1 to {MOST_PARTS} different names in order")
        reserved = RESERVED.intersection(names)
        if reserved:
            raise invalid(
                where, f"a part is called {min(reserved)}", "expected another name: an image has a file of its own with that name"
            )
        for part in self.parts:
            if not 0 < part.size <= MOST_BYTES or len(part.root) != DIGEST:
                raise invalid(where, f"part {part.name} has {part.size} bytes", "expected 1 byte to 16 TiB")
        for text in (self.cpu, self.machine):
            if not text.isprintable() or len(text.encode()) > 64:
                raise invalid(where, f"CPU model or machine type {text!r}", "expected at most 64 bytes of printable text")
        if bool(self.cpu) != (MEMORY in names):
            raise invalid(where, f"CPU model {self.cpu!r}", f"expected one if, and only if, the image has a part {MEMORY}")


def parse(data: bytes, parts: int, where: str) -> ImageDescription:
    """Parse the description of an image.

    Args:
        data: exactly the description's bytes.
        parts: the number of the image's parts.
        where: the file's name, for errors.

    Raises:
        AtollError: `cloudlet.invalid`: the bytes are not a valid description.
    """
    if not 1 <= parts <= MOST_PARTS or len(data) != HEAD + parts * PART.size:
        raise invalid(where, f"{parts} parts in {len(data)} bytes", f"expected 1 to {MOST_PARTS} parts")
    cpu, machine = (_text(field, where) for field in _TEXTS.unpack_from(data))
    found = [Part(_text(name, where), size, root) for name, size, root in PART.iter_unpack(data[HEAD:])]
    description = ImageDescription(tuple(found), cpu, machine)
    description.check(where)
    return description


def _text(field: bytes, where: str) -> str:
    text = field.rstrip(b"\0")
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise invalid(where, f"malformed text {text[:16]!r}", "expected UTF-8, padded with zeros")
    return decoded
