"""Makes disks of servers from overlays, with the images that the caller can read, and the site's cache of bases and launch images.

All images are read as the caller. A base or a launch image of the cache is used only if the caller can read, at that moment, images with
the data from which it was made (`overlays`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Protocol
from uuid import uuid4

from atoll.identifiers import fetched_launch
from atoll.overlay_images import EMPTY
from atoll.services.nova.synthesis import overlays
from atoll.services.nova.synthesis.overlays import (
    DIGEST,
    Base,
    Overlay,
    OverlayRefusal,
    fetched_names,
    file_name,
    read_bases,
    read_overlay,
    trusted_keys,
)
from atoll.services.nova.synthesis.worker import WrongBase, work

LOG = logging.getLogger(__name__)

MOST_BASES = 4
"""Greatest number of images that are tried as the base of an overlay."""

MOST_WORKERS = 2
"""Greatest number of processes that apply overlays at the same time: each may take the memory and the processor time of a whole site."""

SPARE_BYTES = 100_000_000
"""Bytes that must remain free on the file system after an image was fetched."""


class Images(Protocol):
    """Images of Glance, as one caller can use them."""

    def with_property(self, name: str, value: str) -> list[Mapping[str, Any]]:
        """Return the images that the caller can read and that have a property."""

    def bring_base(self, overlay: str, wrong: Collection[str]) -> None:
        """Have another image that may be the base of an overlay brought to this site; raise `OverlayRefusal` if that fails."""

    def fetch_launch(self, overlay: str, keys: Sequence[str], path: Path, max_bytes: int) -> bool:
        """Fetch the unverified disk of a launch image of another site, of at most `max_bytes` bytes; return False if there is none."""

    def fetch(self, image: str, path: Path) -> None:
        """Fetch the data of an image into a new file."""

    def fetch_raw(self, image: str, path: Path, max_bytes: int) -> None:
        """Fetch a disk into a new file, in raw format and of at most `max_bytes` bytes."""

    def check_raw(self, image: str, path: Path) -> None:
        """Refuse a disk that QEMU could take for a format other than raw."""


@dataclass(frozen=True)
class Caller:
    """The creator of a server.

    Attributes:
        project: the server's project, as Keystone has confirmed it.
        metadata: the server's metadata.
    """

    project: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Disk:
    """The disk of a launch image.

    Attributes:
        name: the name of its file in Nova's cache of images.
        made: the file that was made, which the caller moves to that cache; `None` if the cache has the disk already.
        memory: the file of the memory and the states of devices, which the caller may move; `None` if the image has no memory.
        hardware: the file that describes the machine of an image with memory.
    """

    name: str
    made: Path | None
    memory: Path | None = None
    hardware: Path | None = None


Lock = Callable[[str], AbstractContextManager[Any]]
"""A function that returns the lock with a given name."""


class Disks:
    """Makes disks of launch images.

    Args:
        directory: the directory of the cache and of files that are being made.
        limit: the greatest size in bytes of the cache, and of a disk.
        nova_cache: the directory of Nova's cache of images.
        lock: returns locks by name.
        worker: carries out a task, as `worker.work` does.
    """

    def __init__(
        self, directory: Path, limit: int, nova_cache: Path, lock: Lock, worker: Callable[[Mapping[str, Any]], str | None] = work
    ) -> None:
        self._cache, self._work = directory / "cache", directory / "work"
        self._limit, self._nova_cache = limit, nova_cache
        self._lock, self._worker = lock, worker
        self._slots = BoundedSemaphore(MOST_WORKERS)

    def has(self, name: str) -> bool:
        """Return whether Nova's cache of images has a file of this name."""
        return (self._nova_cache / name).exists()

    def clean(self) -> None:
        """Delete the files that an interrupted nova-compute has left; its worker processes have died with it."""
        for path in (self._work, *self._cache.glob(".*")):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def disk(
        self, image: Mapping[str, Any], caller: Caller, images: Images, max_bytes: int | None, resume: Mapping[str, Any]
    ) -> Iterator[Disk]:
        """Make the disk of an overlay's launch image, unless Nova's cache of images has it; its files exist only while the context lasts.

        Args:
            image: the overlay's image, as the caller reads it now.
            caller: the creator of the server.
            images: the images of the caller.
            max_bytes: the greatest size of the disk in bytes; `None` if the flavor sets no limit.
            resume: the conditions for the memory of an overlay (`cloudlet.resume.Resume`), without its files.

        Raises:
            OverlayRefusal: no disk can be made; no file is left behind.
        """
        overlay = read_overlay(image)
        keys = trusted_keys(overlay, caller.project, caller.metadata)
        bases = [overlays.EMPTY_BASE] if overlay.base == EMPTY else _bases(images, overlay, caller)[:MOST_BASES]
        for base in bases:
            cached = self._cached_disk({key: base.launch(overlay, key) for key in keys})
            if cached is not None:
                yield cached
                return
        directory = self._work / uuid4().hex
        directory.mkdir(mode=0o700, parents=True)
        try:
            task = _Task(overlay, keys, images, min(max_bytes or self._limit, self._limit), directory, resume)
            with ExitStack() as stack:
                yield (self._of_site(task, bases, caller, stack) if bases else self._of_others(task, caller, stack))
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _of_site(self, task: _Task, bases: list[Base], caller: Caller, stack: ExitStack) -> Disk:
        """Make the disk from a base of this site, or of another one if no image of this site is the base."""
        try:
            return self._disk_of_first_base(task, bases, stack)
        except WrongBase as wrong:
            return self._disk_of_first_base(task, _brought(task.images, task.overlay, caller, bases, wrong), stack)

    def _of_others(self, task: _Task, caller: Caller, stack: ExitStack) -> Disk:
        """Get the disk of the launch image from another site, or make it from a base of another site."""
        names = fetched_names(task.overlay, task.keys)
        with ExitStack() as trial:
            trial.enter_context(self._lock(fetched_launch(task.overlay.data.hash, "")))
            # For a second server, the base is brought, so that this site needs no other site from then on.
            wanted = not task.overlay.memory and self._cached_disk(names) is None
            if wanted and (disk := self._fetched(task, names)) is not None:
                stack.enter_context(trial.pop_all())
                return disk
        return self._disk_of_first_base(task, _brought(task.images, task.overlay, caller), stack)

    def _fetched(self, task: _Task, names: Mapping[str, str]) -> Disk | None:
        """Fetch the disk of the launch image, and verify it by the overlay; `None` if no site sends it, or another disk."""
        stream = task.directory / "launch"
        try:
            max_bytes = min(task.max_bytes, shutil.disk_usage(task.directory).free - SPARE_BYTES)
            if not task.images.fetch_launch(task.overlay.data.image, task.keys, stream, max_bytes):
                return None
            self._fetch_overlay(task)
            common = {
                "title": "the overlay",
                "overlay": str(task.file),
                "stream": str(stream),
                "keys": list(names),
                "max_bytes": task.max_bytes,
            }
            key = self._run({**common, "base": task.overlay.base, "directory": str(task.directory), "target": str(task.disk)})
            task.images.check_raw(task.overlay.data.image, task.disk)
        except (OverlayRefusal, OSError) as error:
            LOG.warning("a launch image of another site is of no use: %s", error)
            task.disk.unlink(missing_ok=True)
            return None
        finally:
            stream.unlink(missing_ok=True)
        return Disk(file_name(names[str(key)]), task.disk)

    def _cached_disk(self, launches: Mapping[str, str]) -> Disk | None:
        """Return the disk of one of the given launch images, if Nova's cache of images has one; `launches` has their names, by key."""
        return next((Disk(name, None) for name in map(file_name, launches.values()) if self.has(name)), None)

    def _disk_of_first_base(self, task: _Task, bases: list[Base], stack: ExitStack) -> Disk:
        """Make the disk from the first image whose data are the overlay's base.

        One server at a time makes a launch image, and holds its lock until the stack is left. Servers of the same overlay whose base comes
        from another image do not wait for that lock, because a stranger may own the other image.
        """
        wrong: WrongBase | None = None
        for base in bases:
            with ExitStack() as trial:
                trial.enter_context(self._lock(base.launch(task.overlay, "")))
                try:
                    disk = self._make(task, base)
                except WrongBase as error:
                    wrong = WrongBase(f"image {base.data.image}: {error}")
                    continue
                stack.enter_context(trial.pop_all())
                return disk
        assert wrong is not None
        raise wrong

    def _make(self, task: _Task, base: Base) -> Disk:
        launches = {key: base.launch(task.overlay, key) for key in task.keys}
        cached = self._cached_disk(launches)
        if cached is not None:
            return cached
        if not any((self._cache / name).is_dir() for name in launches.values()):
            self._fetch(task, base)
        key = self._launch(task, base, launches)
        if key is None:  # another server's image has taken the place of one that was cached
            self._fetch(task, base)
            key = self._launch(task, base, launches)
        if key is None:
            raise OverlayRefusal("the site's cache of bases is too small for the servers that start at once: try again")
        task.images.check_raw(task.overlay.data.image, task.disk)
        if not task.memory.exists():
            return Disk(file_name(launches[key]), task.disk)
        name = file_name(launches[key], memory=True)
        return Disk(name, None if self.has(name) else task.disk, task.memory, task.hardware)

    def _launch(self, task: _Task, base: Base, launches: Mapping[str, str]) -> str | None:
        return self._run(
            {
                "cache": str(self._cache),
                "limit": self._limit,
                "base": base.name,
                "overlay": str(task.file) if task.file.exists() else "",
                "title": "the overlay",
                "keys": list(launches.items()),
                "max_bytes": task.max_bytes,
                "target": str(task.disk),
                "resume": {**task.resume, "memory": str(task.memory), "hardware": str(task.hardware)},
            }
        )

    def _run(self, task: Mapping[str, Any]) -> str | None:
        with self._slots:
            return self._worker(task)

    def _fetch(self, task: _Task, base: Base) -> None:
        """Fetch the overlay and, unless the cache has it, the base."""
        self._fetch_overlay(task)
        with self._lock(base.name):
            if (self._cache / base.name).is_dir():
                return
            common = {"cache": str(self._cache), "limit": self._limit, "name": base.name, "digest": base.digest, "machine": base.machine}
            if base.digest == EMPTY:
                self._run({**common, "disk": ""})
                return
            self._check_size("the base", base.data.size)
            disk = task.directory / "base"
            try:
                if base.keys:
                    task.images.fetch(base.data.image, disk)
                    common["keys"] = list(base.keys)
                else:
                    task.images.fetch_raw(base.data.image, disk, self._limit)
                self._run({**common, "disk": str(disk)})
            finally:
                disk.unlink(missing_ok=True)

    def _fetch_overlay(self, task: _Task) -> None:
        if not task.file.exists():
            self._check_size("the overlay", task.overlay.data.size)
            task.images.fetch(task.overlay.data.image, task.file)

    def _check_size(self, what: str, size: int) -> None:
        if size > self._limit:
            raise OverlayRefusal(
                f"{what} has {size >> 20} MiB: expected at most the {self._limit >> 20} MiB of the site's cache (cloudlet_cache_gib)"
            )
        free = shutil.disk_usage(self._work).free
        if free < size + SPARE_BYTES:
            raise OverlayRefusal(f"no space left for {what}: {free >> 20} MiB are free, expected {(size + SPARE_BYTES) >> 20}")


@dataclass(frozen=True)
class _Task:
    """One disk that is being made.

    Attributes:
        overlay: the overlay.
        keys: the names of the keys whose signatures are accepted.
        images: the caller's images.
        max_bytes: the greatest size of the disk in bytes.
        directory: a directory for its files.
        resume: the conditions for memory, without its files.
    """

    overlay: Overlay
    keys: tuple[str, ...]
    images: Images
    max_bytes: int
    directory: Path
    resume: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """The file of the overlay's data."""
        return self.directory / "overlay"

    @property
    def disk(self) -> Path:
        """The file of the disk that is made."""
        return self.directory / "disk"

    @property
    def memory(self) -> Path:
        """The file of the memory that is made."""
        return self.directory / "memory"

    @property
    def hardware(self) -> Path:
        """The file with the description of the machine."""
        return self.directory / "hardware"


def _bases(images: Images, overlay: Overlay, caller: Caller) -> list[Base]:
    """Return the images of this site that may be the base of an overlay."""
    return read_bases(images.with_property(DIGEST, overlay.base), overlay, caller.project)


def _brought(images: Images, overlay: Overlay, caller: Caller, tried: Collection[Base] = (), wrong: WrongBase | None = None) -> list[Base]:
    """Return images that may be the base of an overlay, after another site's image was brought.

    Args:
        images: the images of the caller.
        overlay: the overlay.
        caller: the creator of the server.
        tried: images of this site whose data are not the base.
        wrong: the reason why the last of them was rejected.

    Raises:
        OverlayRefusal: no image can be brought.
    """
    names = {base.data.image for base in tried}
    try:
        images.bring_base(overlay.data.image, names)
    except OverlayRefusal as error:
        raise wrong or error from None
    bases = [base for base in _bases(images, overlay, caller) if base.data.image not in names][: 1 if names else MOST_BASES]
    if not bases:
        raise wrong or OverlayRefusal(
            f"no image that you can use is the overlay's base {overlay.base[:16]}: `atoll cloudlet upload` it, or have its owner share it"
        )
    return bases
