"""Makes the image: once for each kernel and set of programs, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.errors import AtollError
from atoll.files import make_directory
from atoll.guest import disk, initramfs, programs, space
from atoll.guest.kernel import Given, Say, Source, find

DIRECTORY = "guest"
"""Where in the user's cache directory images and fetched kernels are."""

FORMAT = "raw"
"""As Glance and QEMU call it."""

LEAST_MIB = 96
"""The memory that a guest needs, in MiB: the kernel alone unpacks itself to 52 MiB, 16 MiB above the bottom."""


@dataclass(frozen=True)
class Built:
    """An image.

    Attributes:
        path: the file.
        kernel: where its kernel is from.
        made: False if it was there already.
    """

    path: Path
    kernel: str
    made: bool


def build(cache: Path, given: Given | None, say: Say) -> Built:
    """Make the image of this machine's programs, unless it is in the cache already.

    Args:
        cache: the user's cache directory.
        given: the kernel; None: the first one that there is.
        say: told what takes long.

    Raises:
        AtollError: `image.requirement`: something must be installed first; `image.kernel`: the kernel doesn't serve; `state.space`: the
            file system is too full; `image.failed`.
    """
    programs.check()
    directory = cache / DIRECTORY
    make_directory(directory)
    with _locked(directory):
        source = find(given, directory, say)
        path = directory / f"atoll-guest-{key(source)[:16]}.img"
        if not path.exists():
            _make(source, path, say)
            return Built(path, str(source), made=True)
    return Built(path, str(source), made=False)


def key(source: Source) -> str:
    """What the image depends on: the same key, the same image."""
    digest = hashlib.sha256()
    digest.update(f"{source.identity()}\n".encode())
    here = Path(__file__).parent
    code = {path.name: path for path in here.glob("*.py")}  # how it is made, and with which modules and command line
    for place, path in sorted((code | initramfs.parts()).items()):
        digest.update(f"{place} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def copy(image: Path, target: Path, umask: int) -> None:
    """Put a copy of an image where a person wants it, whole or not at all.

    Args:
        image: of the cache.
        target: the file; one that is there is replaced.
        umask: the person's own.

    Raises:
        AtollError: `image.failed`: it can't be written.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{target.name}-", dir=target.parent, delete=False) as temporary:
            made = Path(temporary.name)
        try:
            shutil.copyfile(image, made)
            made.chmod(0o666 & ~umask)
            made.replace(target)
        finally:
            made.unlink(missing_ok=True)
    except OSError as error:
        message = f"{target} can't be written: {(error.strerror or str(error)).lower()}"
        raise AtollError("image.failed", message, "give another FILE") from None


def _make(source: Source, target: Path, say: Say) -> None:
    space.check(target.parent)
    say(f"making the guest image with {source}")
    with tempfile.TemporaryDirectory(prefix=".made-", dir=target.parent) as name, source.opened() as kernel:
        work = Path(name)
        (work / "tree").mkdir()
        initramfs.write(kernel, work / "tree", work / "initrd")
        disk.write(kernel.image, work / "initrd", work / "disk.img")
        (work / "disk.img").replace(target)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Be the only one who makes something here; what killed ones left half made is removed."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for path in directory.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
