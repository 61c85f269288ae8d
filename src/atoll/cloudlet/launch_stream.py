"""Reads the disk of a launch image that another site has sent; `atoll.overlay_images` describes the records."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import zstandard

from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.guarded import open_regular
from atoll.errors import AtollError
from atoll.overlay_images import PIECE, RECORD

_MOST_PACKED = PIECE + (PIECE >> 8) + 64  # bytes of a range that zstd can't compress


def unpack(stream: Path, target: Path, most: int, check_space: Callable[[], None]) -> None:
    """Write a disk from its records, with holes where no range is.

    Args:
        stream: the file with the records.
        target: the file to make.
        most: the greatest size of the disk in bytes.
        check_space: called for each record; raises an error if the file system is nearly full.

    Raises:
        AtollError: `cloudlet.invalid`: the records are malformed, or the disk is too large; `state.space` or `cloudlet.unusable`: a file
            can't be read or written. Nothing is left.
    """
    try:
        with os.fdopen(open_regular(stream), "rb") as source, target.open("xb") as made:
            try:
                _unpack(source, made, most, check_space)
            except (AtollError, OSError):
                target.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise unusable(error.filename or target, error) from None


def _unpack(source: BinaryIO, made: BinaryIO, most: int, check_space: Callable[[], None]) -> None:
    """Write the ranges in order; as none overlaps another one, no more than `most` bytes are written."""
    decompressor, end = zstandard.ZstdDecompressor(max_window_size=PIECE << 3), 0
    while True:
        head = source.read(RECORD.size)
        if len(head) != RECORD.size:
            raise _damaged("it ends in the middle")
        offset, length, packed = RECORD.unpack(head)
        if offset < end or offset + length > most or length > PIECE or packed > _MOST_PACKED:
            raise _damaged("a range in an impossible place")
        if length == packed == 0:
            made.truncate(offset)
            if source.read(1):
                raise _damaged("more bytes after its end")
            return
        check_space()
        made.seek(offset)
        made.write(_range(decompressor, source.read(packed), length))
        end = offset + length


def _range(decompressor: zstandard.ZstdDecompressor, data: bytes, length: int) -> bytes:
    try:
        if zstandard.get_frame_parameters(data).content_size == length:  # zstd would allocate the size that the frame claims
            return decompressor.decompress(data, max_output_size=length, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError:
        pass
    raise _damaged("a range that can't be decompressed")


def _damaged(why: str) -> AtollError:
    return invalid("the launch image of another site", why)
