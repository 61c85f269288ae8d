"""Bases, applications and overlays, which `atoll cloudlet base` and `overlay` make from the image of a guest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from atoll.bench.cloudlet.guest import CloudletGuest
from atoll.bench.failure import failed

_PAGE = 4096  # bytes


@dataclass(frozen=True)
class MadeBase:
    """A base that was made of a disk.

    Attributes:
        disk: the raw disk that it was made from.
        directory: the directory of the base.
    """

    disk: Path
    directory: Path


@dataclass(frozen=True)
class MadeOverlay:
    """An overlay that was made of a disk.

    Attributes:
        disk: the raw disk that a server from the overlay must have.
        file: the overlay.
    """

    disk: Path
    file: Path

    def delete(self) -> None:
        """Delete the files of the overlay."""
        self.disk.unlink()
        self.file.unlink()


class OverlayMaker:
    """Makes bases and overlays of a guest. Each has a random page of its own, so that no site has seen it before.

    Args:
        guest: the guest.
        directory: an existing directory for the files.
        atoll: runs a command of `atoll`.

    Attributes:
        public: the file of the public key that overlays are signed with.
    """

    def __init__(self, guest: CloudletGuest, directory: Path, atoll: Callable[..., None]) -> None:
        self._guest, self._directory, self._atoll = guest, directory, atoll
        self._numbers = count(1)
        self.public, self._key = directory / "public.pem", directory / "key.pem"
        key = ed25519.Ed25519PrivateKey.generate()
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    @property
    def base_words(self) -> Sequence[str | Path]:
        """Options of `atoll cloudlet upload` for a base."""
        return ()

    @property
    def overlay_words(self) -> Sequence[str | Path]:
        """Options of `atoll cloudlet upload` for an overlay."""
        return ("--trust", self.public)

    def base(self) -> MadeBase:
        """Make a base: the guest's disk, with a random page at its end."""
        number = next(self._numbers)
        made = MadeBase(self._directory / f"base-{number}.raw", self._directory / f"base-{number}")
        copy(self._guest.disk, made.disk)
        append(made.disk, os.urandom(_PAGE))
        self._atoll("cloudlet", "base", str(made.directory), "--disk", str(made.disk))
        return made

    def overlay(self, base: MadeBase) -> MadeOverlay:
        """Make an overlay: the disk with the application, with a random page at its end."""
        number = next(self._numbers)
        made = MadeOverlay(self._directory / f"application-{number}.raw", self._directory / f"overlay-{number}")
        copy(self._guest.application or base.disk, made.disk)
        append(made.disk, (b"" if self._guest.application else code()) + os.urandom(_PAGE))
        given = ("--base", str(base.directory), "--disk", str(made.disk), "--key", str(self._key))
        self._atoll("cloudlet", "overlay", str(made.file), *given)
        return made

    def packed(self, overlay: MadeOverlay) -> Path:
        """Return the whole disk of an overlay as an image in compressed qcow2, the form in which operators publish images."""
        target = overlay.disk.with_suffix(".qcow2")
        convert(overlay.disk, target, "-c", "-f", "raw", "-O", "qcow2")
        return target


def code() -> bytes:
    """Return this project's own code, filled up to whole pages: the application of a guest that has none."""
    package = Path(__file__).parents[2]
    found = b"".join(path.read_bytes() for path in sorted(package.rglob("*.py")))
    return found + bytes(-len(found) % _PAGE)


def convert(source: Path, target: Path, *options: str) -> None:
    """Convert the image of a disk by qemu-img.

    Raises:
        AtollError: `bench.failed`: the image can't be read, or the disk is full.
    """
    done = subprocess.run(["qemu-img", "convert", *options, str(source), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise failed(f"{source}: qemu-img: {(done.stderr.strip().splitlines() or ['it failed without a message'])[-1][:300]}")


def copy(source: Path, target: Path) -> None:
    """Copy a file with its holes."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)], check=True)


def append(disk: Path, data: bytes) -> None:
    """Append data to a disk, from the next page on."""
    with disk.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.seek(-file.tell() % _PAGE, os.SEEK_CUR)
        file.write(data)


def write_at(disk: Path, place: int, data: bytes) -> None:
    """Write data to a disk at a place in bytes, which must be inside the disk."""
    with disk.open("r+b") as file:
        file.seek(place)
        file.write(data)
