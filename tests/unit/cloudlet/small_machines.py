"""Virtual machines for tests, as files of a few pages."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

from atoll.cloudlet import apply, base, encode, header, image, source
from atoll.cloudlet.apply import Applied
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.workers import Workers

PAGE = 4096
CPU, TYPE = "Haswell-v1", "pc-q35-9.2"


def quiet(_step: str, _done: int, _total: int) -> None:
    """Ignore reports of progress."""


def random_pages(seeded: random.Random, count: int) -> list[bytes]:
    return [seeded.randbytes(PAGE) for _ in range(count)]


class Machine:
    """A base image, and the files of a guest."""

    def __init__(self, directory: Path, key: SigningKey, parts: dict[str, bytes]) -> None:
        self.directory, self.key = directory, key
        self.base = directory / "base"
        self.parts: dict[str, Path] = {}
        files = {}
        for name, content in parts.items():
            files[name] = directory / f"base.{name}"
            files[name].write_bytes(content)
        base.make_base(files, self.base, CPU if "memory" in parts else "", TYPE, quiet)

    def guest(self, **parts: bytes) -> None:
        """Write the guest's files."""
        self.parts = {}
        for name, content in parts.items():
            self.parts[name] = self.directory / f"guest.{name}"
            self.parts[name].write_bytes(content)

    def content(self, name: str) -> bytes:
        return self.parts[name].read_bytes()

    def overlay(self, name: str = "overlay", jobs: int = 1) -> bytes:
        """Make an overlay, and return its bytes."""
        target = self.directory / name
        target.unlink(missing_ok=True)
        with Workers(jobs) as workers:
            self.made = encode.make_overlay(encode.Task(self.base, self.parts, target), self.key, workers, quiet)
        return target.read_bytes()

    def apply(self, overlay: bytes, target: Path, base_: Path | None = None) -> Applied:
        """Apply an overlay from memory."""
        return self.apply_from(source.FileSource(BytesIO(overlay), "overlay"), target, base_)

    def apply_from(self, given: source.Source, target: Path, base_: Path | None = None) -> Applied:
        found = header.read_header(given.read, [self.key.trusted], given.name)
        return apply.apply(given, found, base_ or self.base, target, quiet)

    def check(self, target: Path) -> None:
        """Check that an image is the guest, bit by bit, and complete."""
        for name in self.parts:
            assert (target / name).read_bytes() == self.content(name), name
        with image.opened(target) as opened:
            assert sorted(part.name for part in opened.parts) == sorted(self.parts)
            base.check_content(opened, quiet)
