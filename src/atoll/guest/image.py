"""The build of the guest image, once for each kernel and set of programs; an interrupted build leaves nothing behind."""

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
"""The name of the directory of images and fetched kernels, below the user's cache directory."""

FORMAT = "raw"
"""The format's name in Glance and QEMU."""

LEAST_MIB = 96
"""Least memory of a guest, in MiB: the kernel alone unpacks to 52 MiB, 16 MiB above the bottom."""


@dataclass(frozen=True)
class Built:
    """A guest image in the cache.

    Attributes:
        path: the image's file.
        kernel: a description of the kernel's source.
        made: whether the image was built now; False if the cache held it already.
    """

    path: Path
    kernel: str
    made: bool


def build(cache: Path, given: Given | None, say: Say) -> Built:
    """Build the image from this machine's programs, unless the cache holds it, and return it.

    Args:
        cache: the user's cache directory.
        given: the kernel; `None` means the first one that `kernel.find` finds.
        say: called with messages about steps that take long.

    Raises:
        AtollError: `image.requirement`: a program or package is missing; `image.kernel`: the kernel is not suitable; `state.space`: the
            file system has too little space; `image.failed`: a program failed.
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
    """Return a digest of everything that the image is built from: equal keys mean equal images."""
    digest = hashlib.sha256()
    digest.update(f"{source.identity()}\n".encode())
    here = Path(__file__).parent
    code = {path.name: path for path in here.glob("*.py")}  # the build itself, its modules and the kernel's command line
    for place, path in sorted((code | initramfs.parts()).items()):
        digest.update(f"{place} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def copy(image: Path, target: Path, umask: int) -> None:
    """Copy an image to a file atomically: if the copy fails, an existing file is unchanged.

    Args:
        image: an image of the cache.
        target: the file.
        umask: the user's own umask, which determines the mode of the file.

    Raises:
        AtollError: `image.failed`: the image can't be written.
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
        raise AtollError("image.failed", message, "name another FILE") from None


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
    """Lock the directory against other builds, and remove what interrupted builds have left."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for path in directory.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
