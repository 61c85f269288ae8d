"""Launch images that another site sends: read from its cache by its gateway, and verified by the overlay's signed header."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ed25519
from small_machines import PAGE, Machine, quiet, random_pages

from atoll.cloudlet import base, image, launch_stream, synthesis
from atoll.cloudlet.cache import LaunchCache
from atoll.cloudlet.keys import SigningKey
from atoll.errors import AtollError
from atoll.gateway.overlays import launch_files

LIMIT = 1 << 24
NAME = "1" * 64
STRANGER = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"s" * 32))


class Sites:
    """A site with the launch image of an overlay in its cache, and one that gets it from there."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        self.machine = machine
        self.cache = directory / "cache"
        self.work = directory / "work"
        self.work.mkdir()
        self.overlay = directory / "overlay-file"
        self.overlay.write_bytes(machine.overlay())
        LaunchCache(self.cache, LIMIT, by_content=False)
        self.launch = self.cache / NAME
        base.make_base({"disk": machine.parts["disk"]}, self.launch, "", machine_type(machine), quiet)

    def sent(self) -> bytes:
        with launch_files.held(self.cache, NAME) as file:
            assert file is not None
            return b"".join(file.record(*found) for found in file.ranges()) + file.last_record()

    def verify(self, stream: bytes, **more: Any) -> str | None:
        (self.work / "stream").write_bytes(stream)
        places = {name: str(self.work / name) for name in ("stream", "target")}
        given = {**places, "overlay": str(self.overlay), "directory": str(self.work), "title": "the overlay", "max_bytes": LIMIT}
        keys, named = [self.machine.key.trusted.name], image.describe(self.machine.base).digest.hex()
        return synthesis.run({**given, "keys": keys, "base": named, **more})

    def refused(self, stream: bytes, expected: str, **more: Any) -> None:
        with pytest.raises(AtollError, match=expected) as caught:
            self.verify(stream, **more)
        assert "\n" not in caught.value.message
        assert [path.name for path in self.work.iterdir()] == ["stream"], "nothing half made is left"


def machine_type(machine: Machine) -> str:
    return image.describe(machine.base).machine


@pytest.fixture
def sites(tmp_path, key) -> Sites:
    seeded = random.Random(1)
    pages = random_pages(seeded, 400)
    machine = Machine(tmp_path, key, {"disk": b"".join(pages)})
    pages[3], pages[7] = seeded.randbytes(PAGE), pages[0]
    pages[20:300] = [bytes(PAGE)] * 280
    machine.guest(disk=b"".join(pages))
    return Sites(tmp_path, machine)


def test_disk_arrives_as_it_is_and_without_its_holes(sites):
    sent = sites.sent()
    assert len(sent) < 130 * PAGE
    assert sites.verify(sent) == sites.machine.key.trusted.name
    assert (sites.work / "target").read_bytes() == sites.machine.content("disk")
    assert (sites.work / "target").stat().st_blocks * 512 < 130 * PAGE
    assert sorted(path.name for path in sites.work.iterdir()) == ["stream", "target"]


def test_any_flipped_bit_is_found(sites):
    sent = bytearray(sites.sent())
    for place in (*range(16), len(sent) // 2, len(sent) - 17, len(sent) - 16, len(sent) - 1):
        sent[place] ^= 4
        sites.refused(bytes(sent), "the launch image of another site|no space left|the disk")
        sent[place] ^= 4
    assert sites.verify(bytes(sent))


def record(offset: int, data: bytes, length: int | None = None) -> bytes:
    packed = zstandard.ZstdCompressor().compress(data)
    return launch_stream.RECORD.pack(offset, len(data) if length is None else length, len(packed)) + packed


def test_hostile_records(sites):
    size, page = 400 * PAGE, b"x" * PAGE
    end = launch_stream.RECORD.pack(size, 0, 0)
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    rows = {
        "cut": sites.sent()[:-1],
        "empty": b"",
        "other disk": record(0, page) + end,
        "only a hole": end,
        "beyond the end": record(size, page) + end,
        "overlap": record(PAGE, page) + record(0, page) + end,
        "same twice": record(0, page) + record(0, page) + end,
        "more behind": sites.sent() + b"x",
        "too long": record(0, b"x" * (launch_stream.PIECE + 1)) + end,
        "bomb": launch_stream.RECORD.pack(0, PAGE, len(bomb)) + bomb + end,
        "shorter": record(0, page, PAGE + 1) + end,
        "no zstd": launch_stream.RECORD.pack(0, PAGE, 4) + b"junk" + end,
        "two frames": launch_stream.RECORD.pack(0, PAGE, 2 * len(record(0, page)) - 32) + 2 * record(0, page)[16:] + end,
        "giant": launch_stream.RECORD.pack(2**64 - 1, 0, 0),
        "giant length": struct.pack("<QII", 0, 2**32 - 1, 2**32 - 1) + b"x",
    }
    for name, stream in rows.items():
        try:
            sites.refused(stream, "the launch image of another site")
        except AssertionError as error:
            raise AssertionError(name) from error


def test_bound_of_the_disk_and_a_full_file_system(sites, monkeypatch):
    sites.refused(sites.sent(), "the disk: 2 MiB: expected at most 0", max_bytes=PAGE)
    monkeypatch.setattr(synthesis, "SPARE_BYTES", 1 << 60)
    sites.refused(sites.sent(), "too little space")


def test_overlay_of_another_key_or_base_verifies_nothing(sites):
    sites.refused(sites.sent(), "none of the trusted keys signed", keys=[STRANGER.trusted.name])
    sites.refused(sites.sent(), "the overlay was made for the base", base="e" * 64)


def test_image_that_is_read_is_not_deleted(sites):
    with launch_files.held(sites.cache, NAME) as file:
        assert file is not None
        assert LaunchCache(sites.cache, LIMIT, by_content=False).remove(bytes.fromhex(NAME)) is False
    assert LaunchCache(sites.cache, LIMIT, by_content=False).remove(bytes.fromhex(NAME)) is True


def test_image_that_is_deleted_half_made_or_a_link_is_not_read(sites, tmp_path):
    def read() -> object:
        with launch_files.held(sites.cache, NAME) as file:
            return file

    descriptor = os.open(sites.launch, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert read() is None
    os.close(descriptor)
    assert read() is not None
    (sites.launch / "disk").rename(tmp_path / "elsewhere")
    (sites.launch / "disk").symlink_to(tmp_path / "elsewhere")
    assert read() is None
    sites.launch.rename(sites.cache / f".gone-{NAME}")
    assert read() is None
    sites.launch.symlink_to(sites.cache / f".gone-{NAME}")
    assert read() is None
