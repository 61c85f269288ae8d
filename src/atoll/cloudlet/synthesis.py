"""Synthesis for one server of a site: a program that keeps bases and launch images in the site's cache, and makes a disk from them.

    python -m atoll.cloudlet.synthesis < TASK

It is a process of its own, because overlays are the work of strangers: its memory, its processor time and the sizes of its files are
bounded, it can be killed, and its libraries take no memory of the service that starts it. TASK and the answer are JSON objects; see
`BaseTask`, `LaunchTask` and `main`. Digests and names are in hexadecimal.

The names of images in the cache are the caller's: it derives them from what a user must have to get the image. So a digest that somebody
only claims leads to no image of somebody else, and neither does a half-made one: it is deleted, not continued.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.cloudlet import image, launch_stream, sparse
from atoll.cloudlet.apply import apply, check_base
from atoll.cloudlet.base import make_base, part_size
from atoll.cloudlet.cache import LaunchCache, occupied
from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.header import Header, read_signed
from atoll.cloudlet.keys import parse_name
from atoll.cloudlet.pages import count
from atoll.cloudlet.source import FileSource, opened
from atoll.errors import AtollError
from atoll.runtime.linux import die_with_parent

DISK = "disk"
"""The only part of an image that a server is started from: it boots."""

MEMORY_BYTES = 3 << 30
"""Most bytes of address space of the process; the libraries alone reserve some hundred megabytes."""

PROCESSOR_S = 1800
"""Most seconds of processor time of the process."""

KILLED_AFTER_S = 5
"""Seconds of processor time after `PROCESSOR_S` until SIGKILL; SIGXCPU comes first, and only it tells the reason."""

SPARE_BYTES = 100_000_000
"""Bytes that stay free on the file system, for the site's databases."""

_COPY = 1 << 30  # bytes of one call of the kernel


@dataclass(frozen=True)
class BaseTask:
    """A base that is to be in the cache.

    Attributes:
        cache: the directory of the cache.
        limit: most bytes of the cache, and of a disk.
        name: the base's name in the cache.
        digest: the digest that the base must have.
        machine: the machine type of its description; may be empty.
        disk: the base's disk, in raw format.
    """

    cache: Path
    limit: int
    name: bytes
    digest: bytes
    machine: str
    disk: Path


@dataclass(frozen=True)
class LaunchTask:
    """A disk that is to be made from a base and an overlay.

    Attributes:
        cache: the directory of the cache.
        limit: most bytes of the cache.
        base: the base's name in the cache.
        overlay: the file of the overlay; `None` to use launch images that the cache has.
        title: the overlay's name, for errors.
        keys: for each trusted key its name (`TrustedKey.name`) and the launch image's name in the cache, if that key has signed.
        most: most bytes of the disk.
        target: the file to make.
    """

    cache: Path
    limit: int
    base: bytes
    overlay: Path | None
    title: str
    keys: Sequence[tuple[str, bytes]]
    most: int
    target: Path


@dataclass(frozen=True)
class FetchedTask:
    """A disk that another site has sent, and that is to be verified.

    Attributes:
        stream: the file with its records (`launch_stream`).
        overlay: the file of the overlay.
        title: the overlay's name, for errors.
        keys: the names of the keys that count.
        base: the digest of the base that the overlay's property names.
        most: most bytes of the disk.
        directory: a directory for files of the task.
        target: the file to make.
    """

    stream: Path
    overlay: Path
    title: str
    keys: Sequence[str]
    base: bytes
    most: int
    directory: Path
    target: Path


def verify_fetched(task: FetchedTask) -> str:
    """Make a disk from its records, if it is what the overlay's signed header says.

    Returns:
        The name of the key that has signed the overlay.

    Raises:
        AtollError: as for `keys.parse_name`, `read_signed` and `launch_stream.unpack`; `cloudlet.base`: the overlay is of another base than
            its property says; `cloudlet.invalid`: the disk has another digest. Nothing is left.
    """
    with opened(str(task.overlay), None) as source:
        header, signer = read_signed(source.read, (parse_name(key) for key in task.keys), task.title)
    if header.base != task.base:
        message = f"the overlay belongs to the base {header.base.hex()[:16]}, not {task.base.hex()[:16]}, as its property says"
        raise AtollError("cloudlet.base", message)
    _check_result(header, task)
    raw, made = task.directory / "raw", task.directory / "verified"
    try:
        launch_stream.unpack(task.stream, raw, header.result.size, lambda: _require_space(task.directory, 0))
        _require_space(task.directory, raw.stat().st_blocks * 512)
        found = make_base({DISK: raw}, made, header.result.cpu, header.result.machine, _quiet)
        if found.digest != header.result.digest:
            raise invalid("the launch image of another site", "it differs from the digest in the overlay's signed header")
        (made / DISK).rename(task.target)
    except OSError as error:
        raise unusable(error.filename or task.target, error) from None
    finally:
        raw.unlink(missing_ok=True)
        shutil.rmtree(made, ignore_errors=True)
    return task.keys[signer]


def keep_base(task: BaseTask) -> None:
    """Put a base into the cache, unless it is there.

    Raises:
        AtollError: `cloudlet.base`: the disk is not the base that it should be; `cloudlet.invalid`: it is too large; `state.space`;
            `cloudlet.unusable`. Nothing is left.
    """
    cache = LaunchCache(task.cache, task.limit, by_content=False)
    with cache.held(task.name) as path:
        if path is not None:
            return
    size = part_size(task.disk)
    _check_size("the base's disk", size, task.limit)
    needed = task.disk.stat().st_blocks * 512 + count(size) * len(task.digest)
    cache.make_room(needed)
    _require_space(task.cache, needed)
    target = cache.path(task.name)
    found = make_base({DISK: task.disk}, target, "", task.machine, _quiet).digest
    if found != task.digest:
        _remove(cache, task.name)
        raise AtollError("cloudlet.base", f"its content is the base {found.hex()[:16]}, not {task.digest.hex()[:16]}, as its property says")


def make_disk(task: LaunchTask) -> str | None:
    """Make the disk of a launch image.

    Returns:
        The name of the key that has signed its overlay; `None` if the cache lacks the base or, without an overlay, the launch image.

    Raises:
        AtollError: as for `apply`, `keys.parse_name` and `read_signed`; `cloudlet.invalid`: the image has more than a disk, or is too
            large; `state.space`. Nothing is left.
    """
    cache = LaunchCache(task.cache, task.limit, by_content=False)
    for key, name in task.keys:
        with cache.held(name) as path:
            if path is not None:
                _copy(path, task)
                return key
    if task.overlay is None:
        return None
    with cache.held(task.base) as base, opened(str(task.overlay), None) as source:
        if base is None:
            return None
        assert isinstance(source, FileSource)
        source.name = task.title
        header, signer = read_signed(source.read, (parse_name(key) for key, _ in task.keys), task.title)
        key, name = task.keys[signer]
        _check_result(header, task)
        check_base(header, image.describe(base), base, task.title)
        cache.make_room(occupied(base))
        _require_space(task.cache, occupied(base))
        _apply(source, header, base, cache, name)
    with cache.held(name) as path:
        if path is None:  # another process has needed its room
            return None
        _copy(path, task)
        if occupied(path) <= cache.limit:
            cache.make_room(0)
            return key
    _remove(cache, name)
    return key


def _check_result(header: Header, task: LaunchTask | FetchedTask) -> None:
    """Check what a signed header announces, before anything of it is made.

    Raises:
        AtollError: `cloudlet.invalid`.
    """
    names = [part.name for part in header.result.parts]
    if names != [DISK]:
        raise invalid(task.title, f"it is of {', '.join(names)}: expected the disk alone, because memory is not resumed yet")
    _check_size(f"{task.title}: the disk", header.result.size, task.most)
    if header.segments > count(header.result.size):
        raise invalid(task.title, "more segments than its result has pages", "make the overlay again")


def _check_size(what: str, size: int, most: int) -> None:
    if size > most:
        raise invalid(what, f"{-(-size >> 20)} MiB, expected at most {most >> 20}")


def _require_space(directory: Path, needed: int) -> None:
    """Check that a file system has room; an overlay may grow while it is applied, because its copies are small and pages are not.

    Raises:
        AtollError: `state.space`.
    """
    free = shutil.disk_usage(directory).free
    if free < needed + SPARE_BYTES:
        message = f"no space left for the disk: {free >> 20} MiB are free, expected {(needed + SPARE_BYTES) >> 20}"
        raise AtollError("state.space", message, "free some space")


def _apply(source: FileSource, header: Header, base: Path, cache: LaunchCache, name: bytes) -> None:
    target = cache.path(name)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        apply(source, header, base, target, lambda _step, _done, _total: _require_space(target.parent, 0))
    except (AtollError, MemoryError):
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _copy(launch: Path, task: LaunchTask) -> None:
    """Copy the disk of a launch image, with its holes; the file system shares its content if it can.

    Raises:
        AtollError: `cloudlet.invalid`: it is too large; `state.space` or `cloudlet.unusable`: nothing is left.
    """
    _check_size(f"{task.title}: the disk", image.describe(launch).size, task.most)
    _require_space(task.target.parent, occupied(launch))
    try:
        with (launch / DISK).open("rb") as source, task.target.open("xb") as target:
            if not sparse.clone(source.fileno(), target.fileno()):
                copy_sparse(source.fileno(), target.fileno())
    except OSError as error:
        task.target.unlink(missing_ok=True)
        raise unusable(error.filename or task.target, error) from None


def copy_sparse(source: int, target: int) -> None:
    """Copy a file into an empty one, with its holes.

    Args:
        source: the descriptor of the file.
        target: the descriptor of the copy.

    Raises:
        OSError: the disk fails.
    """
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for first, end in sparse.union((source, size)):
        offset, stop = first * sparse.PAGE, min(end * sparse.PAGE, size)
        while offset < stop:
            offset += os.copy_file_range(source, target, min(stop - offset, _COPY), offset, offset) or stop - offset


def _remove(cache: LaunchCache, name: bytes) -> None:
    path = cache.path(name)
    try:
        cache.remove(name)
    except OSError as error:
        raise unusable(error.filename or path, error) from None


def _quiet(_step: str, _done: int, _total: int) -> None:
    """Ignore the progress, which nobody watches."""


@contextmanager
def _answered() -> Iterator[dict[str, Any]]:
    """Yield an answer, which is printed when the context ends: an error of a task is part of it."""
    answer: dict[str, Any] = {}
    try:
        yield answer
    except AtollError as error:
        answer["error"] = {"code": error.kind.code, "message": error.message}
    except MemoryError:
        answer["error"] = {"code": "cloudlet.invalid", "message": f"more memory is needed than the {MEMORY_BYTES >> 30} GiB allowed"}
    json.dump(answer, sys.stdout)


def run(task: Mapping[str, Any]) -> str | None:
    """Carry out a task that came as JSON.

    Args:
        task: the fields of a `FetchedTask`, of a `BaseTask`, or else of a `LaunchTask`.

    Raises:
        AtollError: as for `verify_fetched`, `keep_base` and `make_disk`.
    """
    if "stream" in task:
        places = {name: Path(task[name]) for name in ("stream", "overlay", "directory", "target")}
        keys, base = list(task["keys"]), bytes.fromhex(task["base"])
        return verify_fetched(FetchedTask(**places, title=task["title"], keys=keys, base=base, most=int(task["most"])))
    cache, limit = Path(task["cache"]), int(task["limit"])
    if "digest" in task:
        names = bytes.fromhex(task["name"]), bytes.fromhex(task["digest"])
        keep_base(BaseTask(cache, limit, *names, task["machine"], Path(task["disk"])))
        return None
    overlay = Path(task["overlay"]) if task["overlay"] else None
    keys = [(key, bytes.fromhex(name)) for key, name in task["keys"]]
    base = bytes.fromhex(task["base"])
    return make_disk(LaunchTask(cache, limit, base, overlay, task["title"], keys, int(task["most"]), Path(task["target"])))


def main() -> None:
    """Read a task from standard input, carry it out, and print the answer.

    The answer has `key`, the result of `make_disk`, or `error` with `code` and `message`.
    """
    die_with_parent(os.getppid())
    task = json.load(sys.stdin)
    os.nice(5)
    bounds = {resource.RLIMIT_AS: MEMORY_BYTES, resource.RLIMIT_CPU: PROCESSOR_S, resource.RLIMIT_CORE: 0}
    for kind, bound in bounds.items():
        _, hard = resource.getrlimit(kind)
        most = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        spare = KILLED_AFTER_S if kind == resource.RLIMIT_CPU else 0
        last = most + spare if hard == resource.RLIM_INFINITY else min(most + spare, hard)
        resource.setrlimit(kind, (most, last))
    with _answered() as answer:
        answer["key"] = run(task)


if __name__ == "__main__":
    main()
