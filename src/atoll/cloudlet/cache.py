"""A cache of launch images on a site's disk, bounded in bytes: the least recently used images are deleted first.

    CACHE/DIGEST            a launch image, named by its digest in hexadecimal, or by another name of 32 bytes
          .DIGEST.partial   an image that is being made from an overlay
          .DIGEST.new       an image that is being made from a disk
          .gone-DIGEST      an image that is being deleted
          lock              a file that is locked while the cache is changed

To delete an image, the cache first renames it, and flushes the rename to the disk. After a crash at any point, an image with its own name
is whole; images with other names are incomplete, and the next change of the cache deletes them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atoll.cloudlet.failures import unusable
from atoll.cloudlet.guarded import require_own
from atoll.cloudlet.image import DESCRIPTION, opened
from atoll.errors import AtollError
from atoll.files import flush, make_directory

_NAME = re.compile(r"[0-9a-f]{64}")
_PARTIAL = re.compile(r"\.[0-9a-f]{64}\.(?:partial|new)")
_GONE = ".gone-"


class LaunchCache:
    """A cache of launch images.

    Args:
        directory: the directory of the cache, which is made if necessary.
        limit: the greatest size of the cache on the disk, in bytes.
        by_content: whether the name of an image is its digest. Otherwise the caller chooses 32 bytes as the name, for instance bytes that
            can be computed only from data that authorised users have.

    Raises:
        AtollError: `cloudlet.unusable`: the directory can't be made.
    """

    def __init__(self, directory: Path, limit: int, *, by_content: bool = True) -> None:
        self._directory = directory
        self._limit = limit
        self._by_content = by_content
        try:
            make_directory(directory)
        except OSError as error:
            raise unusable(directory, error) from None

    def path(self, digest: bytes) -> Path:
        """Return the directory of a launch image, which need not exist."""
        return self._directory / digest.hex()

    @contextmanager
    def held(self, digest: bytes) -> Iterator[Path | None]:
        """Yield the directory of a launch image; `None` if the cache lacks the image. While the context lasts, the image is not deleted.

        Args:
            digest: the digest of the image.

        Raises:
            AtollError: `cloudlet.invalid`: the image is incomplete; `cloudlet.unusable`: the image belongs to another user, or can't be
                read.
        """
        path = self.path(digest)
        try:
            descriptor = _locked(path, fcntl.LOCK_SH)
        except OSError as error:
            raise AtollError("cloudlet.unusable", unusable(path, error).message, f"`rm -r {path}`") from None
        try:
            if descriptor is None or not path.is_dir():
                yield None
                return
            _check(path, descriptor, digest if self._by_content else None)
            with suppress(OSError):
                os.utime(path / DESCRIPTION, ns=(time.time_ns(),) * 2)
            yield path
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def digests(self) -> list[bytes]:
        """Return the digests of all launch images, the least recently used first."""
        return [bytes.fromhex(path.name) for path in sorted(self._images(), key=_used)]

    def size(self) -> int:
        """Return the bytes that the cache occupies."""
        return sum(occupied(path) for path in (*self._images(), *self._partials()))

    @property
    def limit(self) -> int:
        """The greatest size of the cache on the disk, in bytes."""
        return self._limit

    def remove(self, digest: bytes) -> bool:
        """Delete an image; return False if it is in use or was deleted before.

        Args:
            digest: the digest of the image.

        Raises:
            OSError: the disk fails.
        """
        with self._changing():
            return self._delete(self.path(digest))

    def make_room(self, needed: int, keep: bytes | None = None) -> list[bytes]:
        """Delete the remains of interrupted commands and, if necessary, the least recently used images.

        Args:
            needed: the bytes that must be free below the cache's limit afterwards.
            keep: the digest of an image whose unfinished copy must not be deleted; `None` means none.

        Returns:
            The digests of the deleted images.

        Raises:
            AtollError: `state.space`: `needed` exceeds the limit, or images in use leave too little space; `cloudlet.unusable`: the disk
                fails.
        """
        if needed > self._limit:
            message = f"{self._directory}: an image of {needed} bytes does not fit into a cache of {self._limit} bytes"
            raise AtollError("state.space", message, "give a larger limit")
        try:
            with self._changing():
                return self._evict(needed, self.path(keep) if keep else None)
        except OSError as error:
            raise unusable(error.filename or self._directory, error) from None

    def _evict(self, needed: int, keep: Path | None) -> list[bytes]:
        gone: list[bytes] = []
        for path in self._directory.glob(f"{_GONE}*"):
            shutil.rmtree(path)
        kept = f".{keep.name}.partial" if keep else ""
        partials = [path for path in self._partials() if path.name != kept]
        candidates = [*partials, *sorted(self._images(), key=_used)]
        used = self.size()
        for path in candidates:
            if used + needed <= self._limit:
                break
            size = occupied(path)
            if self._delete(path):
                used -= size
                gone += [bytes.fromhex(path.name)] if _NAME.fullmatch(path.name) else []
        if used + needed > self._limit:
            message = f"{self._directory}: images in use leave less than {needed} bytes below the cache's limit of {self._limit} bytes"
            raise AtollError("state.space", message, "give a larger limit")
        return gone

    def _delete(self, path: Path) -> bool:
        """Delete an image; return False if it is in use."""
        descriptor = _locked(path, fcntl.LOCK_EX)
        if descriptor is None:
            return False
        try:
            aside = path.with_name(_GONE + path.name.strip("."))
            path.rename(aside)
            flush(self._directory)
            shutil.rmtree(aside)
        finally:
            os.close(descriptor)
        return True

    def _images(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if _NAME.fullmatch(path.name)]

    def _partials(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if _PARTIAL.fullmatch(path.name)]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _check(path: Path, descriptor: int, digest: bytes | None) -> None:
    """Check that an image belongs to the user, and that its name, the sizes of its files and the digests of its lists are right.

    Args:
        path: the directory of the image.
        descriptor: the open directory.
        digest: the digest that is the image's name; `None` if the name is not a digest.

    Raises:
        AtollError: as for `LaunchCache.held`.
    """
    try:
        require_own(path, descriptor)
        with opened(path) as image:
            found = image.description.digest
    except AtollError as error:
        raise AtollError(error.kind.code, error.message, f"`rm -r {path}`, and run the same command again") from None
    if digest is not None and found != digest:
        raise AtollError("cloudlet.invalid", f"{path} does not hold the image of its name", f"`rm -r {path}`")


def occupied(directory: Path) -> int:
    """Return the bytes that a directory's files occupy on the disk; files that vanish meanwhile count as 0."""
    total = 0
    with suppress(FileNotFoundError):
        for path in directory.iterdir():
            with suppress(FileNotFoundError):
                total += path.stat().st_blocks * 512
    return total


def _used(path: Path) -> int:
    """Return the time of an image's last use, in nanoseconds."""
    try:
        return (path / DESCRIPTION).stat().st_mtime_ns
    except OSError:
        return 0


def _locked(path: Path, kind: int) -> int | None:
    """Lock a directory without waiting, and return its descriptor; `None` if it does not exist, or another process has locked it.

    Raises:
        OSError: the path is a link or a file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
