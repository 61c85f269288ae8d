"""Images: directories that hold a base or a launch image, with everything that identifies it.

    IMAGE/image          the description and its digest
          disk           the content of each part, a sparse file
          disk.pages     the digests of the part's pages
          memory, …      further parts

The file `image`:

    offset  bytes  field
         0      8  "ATOLLIMG"
         8      2  version, u16: 1
        10      2  number of parts, u16: 1 to 8
        12      4  0
        16      n  the description (`description`)
      16+n     32  digest of the description
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.cloudlet import page_list
from atoll.cloudlet.description import HEAD, MOST_PARTS, PART, ImageDescription, parse
from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.guarded import open_regular
from atoll.cloudlet.page_list import SUFFIX, PageList
from atoll.errors import AtollError
from atoll.files import flush

DESCRIPTION = "image"
"""Name of the file, in an image's directory, with the image's description."""

_MAGIC = b"ATOLLIMG"
_HEADER = struct.Struct("<8sHHI")
_DIGEST = 32


@dataclass(frozen=True)
class OpenPart:
    """A part of an open image.

    Attributes:
        name: the part's name.
        size: the part's size in bytes.
        descriptor: the descriptor of the part's file, open for reading.
        list: the digests of the part's pages.
    """

    name: str
    size: int
    descriptor: int
    list: PageList


@dataclass(frozen=True)
class Image:
    """An image whose files are open.

    Attributes:
        path: the image's directory.
        description: the image's identity.
        parts: the open parts, in the order of the description.
    """

    path: Path
    description: ImageDescription
    parts: tuple[OpenPart, ...]

    def part(self, name: str) -> OpenPart | None:
        """Return a part; `None` if the image has no part of that name."""
        return next((part for part in self.parts if part.name == name), None)


def pack(description: ImageDescription) -> bytes:
    """Return the content of the file `image`."""
    return _HEADER.pack(_MAGIC, 1, len(description.parts), 0) + description.pack() + description.digest


def unpack(data: bytes, where: str) -> ImageDescription:
    """Parse the content of the file `image`.

    Args:
        data: the file's whole content.
        where: the file's name, for errors.

    Raises:
        AtollError: `cloudlet.invalid`: the bytes are not a description of an image.
    """
    if data[:8] != _MAGIC or len(data) < _HEADER.size + _DIGEST:
        raise invalid(where, "this is not an image", "expected a directory that `atoll cloudlet base` or `apply` made")
    _, version, parts, zero = _HEADER.unpack_from(data)
    if version != 1 or zero:
        raise invalid(where, f"version {version} of the format", "expected version 1")
    description = parse(data[_HEADER.size : -_DIGEST], parts, where)
    if description.digest != data[-_DIGEST:]:
        raise invalid(where, "a damaged description", "make the image again")
    return description


def describe(path: Path) -> ImageDescription:
    """Return the description of an image, read from its directory.

    Args:
        path: the image's directory.

    Raises:
        AtollError: `cloudlet.invalid`: the directory holds no image; `cloudlet.unusable`: the description can't be read.
    """
    file = path / DESCRIPTION
    try:
        with os.fdopen(open_regular(file), "rb") as opened:
            data = opened.read(_HEADER.size + HEAD + MOST_PARTS * PART.size + _DIGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise invalid(str(path), "this is not an image", "expected a directory that `atoll cloudlet base` or `apply` made") from None
    except OSError as error:
        raise unusable(file, error) from None
    return unpack(data, str(file))


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """Open an image, and check that the sizes of its files and the digests of its lists are those of its description.

    The content of the parts is not read; see `inspection.check_content`.

    Args:
        path: the image's directory.

    Raises:
        AtollError: `cloudlet.invalid`: the directory holds no image, or a damaged one; `cloudlet.unusable`: a file can't be read.
    """
    description = describe(path)
    with ExitStack() as stack:
        try:
            parts = [_open(path, part.name, part.size, stack) for part in description.parts]
        except OSError as error:
            raise unusable(error.filename or path, error) from None
        for part, opened_ in zip(description.parts, parts, strict=True):
            if opened_.list.root() != part.root:
                raise invalid(f"{path / part.name}{SUFFIX}", "a damaged list of digests", "make the image again")
        yield Image(path, description, tuple(parts))


def finish(directory: Path, description: ImageDescription, target: Path) -> None:
    """Turn a directory with all parts into an image: flush the files, write the description, and rename the directory.

    Args:
        directory: the directory with all parts and their lists.
        description: the image's description.
        target: the image's final name, on the same file system, which must not exist.

    Raises:
        AtollError: `cloudlet.exists`: `target` exists.
        OSError: the disk fails.
    """
    names = [f"{part.name}{suffix}" for part in description.parts for suffix in ("", SUFFIX)]
    file = directory / DESCRIPTION
    file.write_bytes(pack(description))
    for name in (*names, DESCRIPTION):
        flush(directory / name)
    for path in directory.iterdir():
        if path.name not in {*names, DESCRIPTION}:
            path.unlink()
    flush(directory)
    refuse_existing(target)
    directory.rename(target)
    flush(target.parent)


def refuse_existing(target: Path) -> None:
    """Refuse a path that exists.

    Raises:
        AtollError: `cloudlet.exists`: the path exists.
    """
    if os.path.lexists(target):
        hint = f"remove it first: `rm -r {target}`" if target.name not in {"", ".."} else "give the name of a new one"
        raise AtollError("cloudlet.exists", f"{target} exists: expected a new name", hint)


def _open(path: Path, name: str, size: int, stack: ExitStack) -> OpenPart:
    descriptor = open_regular(path / name)
    stack.callback(os.close, descriptor)
    found = os.fstat(descriptor).st_size
    if found != size:
        raise invalid(str(path / name), f"the file has {found} bytes", f"expected {size}: make the image again")
    list_ = page_list.load(path / f"{name}{SUFFIX}", size)
    stack.callback(list_.close)
    return OpenPart(name, size, descriptor, list_)
