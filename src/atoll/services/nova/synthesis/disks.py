"""Disks of servers from overlays: which images the caller can read, what the cache has, what is fetched, and what is left of it.

All images are read as the caller. A base or a launch image of the cache is used only if the caller can read, now, the images with the data
that it was made from (`overlays`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Protocol
from uuid import uuid4

from atoll.services.nova.synthesis.overlays import DIGEST, Base, Overlay, OverlayRefusal, file_name, read_bases, read_overlay, trusted_keys
from atoll.services.nova.synthesis.worker import WrongBase, work

MOST_BASES = 4
"""Most images that are tried as the base of an overlay."""

MOST_WORKERS = 2
"""Most processes that apply overlays at once: each may take the memory and the processor time of a whole site."""

SPARE_BYTES = 100_000_000
"""Bytes that stay free on the file system."""


class Images(Protocol):
    """Images of Glance, as one caller can use them."""

    def with_property(self, name: str, value: str) -> list[Mapping[str, Any]]:
        """Return the images that the caller can read and that have a property."""

    def fetch(self, image: str, path: Path) -> None:
        """Fetch the data of an image into a new file."""

    def fetch_raw(self, image: str, path: Path, most: int) -> None:
        """Fetch a disk into a new file, in raw format and of at most `most` bytes."""

    def check_raw(self, image: str, path: Path) -> None:
        """Refuse a disk that QEMU could take for another format than raw."""


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
        made: the file, to be moved there; `None` if it is there.
    """

    name: str
    made: Path | None


Lock = Callable[[str], AbstractContextManager[Any]]
"""Returns a lock by its name."""


class Disks:
    """Makes disks of launch images.

    Args:
        directory: the directory of the cache and of files that are being made.
        limit: most bytes of the cache, and of a disk.
        held: the directory of Nova's cache of images.
        lock: returns locks by name.
        worker: carries tasks out.
    """

    def __init__(
        self, directory: Path, limit: int, held: Path, lock: Lock, worker: Callable[[Mapping[str, Any]], str | None] = work
    ) -> None:
        self._cache, self._work = directory / "cache", directory / "work"
        self._limit, self._held = limit, held
        self._lock, self._worker = lock, worker
        self._slots = BoundedSemaphore(MOST_WORKERS)

    def has(self, name: str) -> bool:
        """Return whether Nova's cache of images has a file."""
        return (self._held / name).exists()

    def clean(self) -> None:
        """Delete what an interrupted process has left; the processes that made it have died with it."""
        for path in (self._work, *self._cache.glob(".*")):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def disk(self, image: Mapping[str, Any], caller: Caller, images: Images, most: int | None) -> Iterator[Disk]:
        """Make the disk of an overlay's launch image, unless Nova's cache of images has it; its file exists only while the context lasts.

        Args:
            image: the overlay's image, as the caller reads it now.
            caller: the creator of the server.
            images: the images of the caller.
            most: the greatest size of the disk in bytes; `None` if the flavor sets no bound.

        Raises:
            OverlayRefusal: no disk can be made. Nothing is left.
        """
        overlay = read_overlay(image)
        keys = trusted_keys(overlay, caller.project, caller.metadata)
        bases = read_bases(images.with_property(DIGEST, overlay.base), overlay, caller.project)[:MOST_BASES]
        if not bases:
            raise OverlayRefusal(_missing(overlay))
        for base in bases:
            there = self._there({key: base.launch(overlay, key) for key in keys})
            if there is not None:
                yield there
                return
        directory = self._work / uuid4().hex
        directory.mkdir(mode=0o700, parents=True)
        try:
            task = _Task(overlay, keys, images, min(most or self._limit, self._limit), directory)
            with ExitStack() as stack:
                yield self._first(task, bases, stack)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _there(self, launches: Mapping[str, str]) -> Disk | None:
        """Return the disk of one of some launch images if Nova's cache of images has it."""
        return next((Disk(name, None) for name in map(file_name, launches.values()) if self.has(name)), None)

    def _first(self, task: _Task, bases: list[Base], stack: ExitStack) -> Disk:
        """Make the disk from the first image that is the base.

        One server at a time makes a launch image, and holds its lock until the stack is left. Servers of the same overlay with other
        images as its base do not wait for it: a stranger may own these.
        """
        wrong: WrongBase | None = None
        for base in bases:
            with ExitStack() as trial:
                trial.enter_context(self._lock(base.launch(task.overlay, "")))
                try:
                    disk = self._made(task, base)
                except WrongBase as error:
                    wrong = WrongBase(f"image {base.data.image}: {error}")
                    continue
                stack.enter_context(trial.pop_all())
                return disk
        assert wrong is not None
        raise wrong

    def _made(self, task: _Task, base: Base) -> Disk:
        launches = {key: base.launch(task.overlay, key) for key in task.keys}
        there = self._there(launches)
        if there is not None:
            return there
        if not any((self._cache / name).is_dir() for name in launches.values()):
            self._bring(task, base)
        key = self._launch(task, base, launches)
        if key is None:  # another server's image has taken the place of one that was there
            self._bring(task, base)
            key = self._launch(task, base, launches)
        if key is None:
            raise OverlayRefusal("the site's cache of bases is too small for the servers that start at once: try again")
        task.images.check_raw(task.overlay.data.image, task.disk)
        return Disk(file_name(launches[key]), task.disk)

    def _launch(self, task: _Task, base: Base, launches: Mapping[str, str]) -> str | None:
        return self._run(
            {
                "cache": str(self._cache),
                "limit": self._limit,
                "base": base.name,
                "overlay": str(task.file) if task.file.exists() else "",
                "title": "the overlay",
                "keys": list(launches.items()),
                "most": task.most,
                "target": str(task.disk),
            }
        )

    def _run(self, task: Mapping[str, Any]) -> str | None:
        with self._slots:
            return self._worker(task)

    def _bring(self, task: _Task, base: Base) -> None:
        """Fetch the overlay and, unless the cache has it, the base."""
        if not task.file.exists():
            self._check_size("the overlay", task.overlay.data.size)
            task.images.fetch(task.overlay.data.image, task.file)
        with self._lock(base.name):
            if (self._cache / base.name).is_dir():
                return
            self._check_size("the base", base.data.size)
            disk = task.directory / "base"
            try:
                task.images.fetch_raw(base.data.image, disk, self._limit)
                common = {"cache": str(self._cache), "limit": self._limit, "name": base.name, "digest": base.digest}
                self._run({**common, "machine": base.machine, "disk": str(disk)})
            finally:
                disk.unlink(missing_ok=True)

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
        keys: the names of the keys that count.
        images: the caller's images.
        most: most bytes of the disk.
        directory: a directory for its files.
    """

    overlay: Overlay
    keys: tuple[str, ...]
    images: Images
    most: int
    directory: Path

    @property
    def file(self) -> Path:
        """The file of the overlay's data."""
        return self.directory / "overlay"

    @property
    def disk(self) -> Path:
        """The file of the disk that is made."""
        return self.directory / "disk"


def _missing(overlay: Overlay) -> str:
    text = f"no image that you can use at this site is the overlay's base {overlay.base[:16]}: "
    if overlay.base_image:
        return f"{text}keep image {overlay.base_image} here (atoll_keep), or `atoll cloudlet upload` the base"
    return f"{text}`atoll cloudlet upload` it, or have its owner share it"
