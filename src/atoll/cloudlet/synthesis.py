"""Synthesis for one server of a site: a program that keeps bases and launch images in the site's cache, and makes a disk from them.

    python -m atoll.cloudlet.synthesis < TASK

The program runs in a process of its own, because overlays come from untrusted users: its memory, its processor time and the sizes of its
files are bounded, it can be killed, and its libraries take no memory of the service that starts it. TASK and the answer are JSON objects;
see `BaseTask`, `LaunchTask` and `main`. Digests and names are in hexadecimal.

The caller chooses the names of images in the cache, and derives them from data that only a user with the right to the image has. So a user
who merely claims a digest can't reach another user's image. For the same reason an unfinished image is deleted, not continued.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.cloudlet import image, launch_stream, sparse
from atoll.cloudlet.apply import apply, check_base
from atoll.cloudlet.base import make_base, part_size
from atoll.cloudlet.cache import LaunchCache, occupied
from atoll.cloudlet.description import MEMORY
from atoll.cloudlet.empty import make_empty
from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.header import Header, read_signed
from atoll.cloudlet.keys import parse_name
from atoll.cloudlet.pages import count
from atoll.cloudlet.resume import HARDWARE, Resume
from atoll.cloudlet.source import FileSource, opened
from atoll.errors import AtollError
from atoll.runtime.parents import die_with_parent

DISK = "disk"
"""The part from which a server boots."""

MEMORY_BYTES = 3 << 30
"""Greatest address space of the process in bytes; the libraries alone reserve some hundred megabytes."""

PROCESSOR_S = 1800
"""Greatest processor time of the process in seconds."""

KILLED_AFTER_S = 5
"""Seconds of processor time after `PROCESSOR_S` until SIGKILL. SIGXCPU is sent before, because only it shows the reason."""

SPARE_BYTES = 100_000_000
"""Bytes that stay free on the file system, for the site's databases."""

_COPY = 1 << 30  # bytes of one call of the kernel


@dataclass(frozen=True)
class BaseTask:
    """The task to put a base into the cache.

    Attributes:
        cache: the directory of the cache.
        limit: the greatest size of the cache, and of a disk, in bytes.
        name: the base's name in the cache.
        digest: the digest that the base must have.
        machine: the machine type in the base's description; may be empty.
        disk: the base's disk, in raw format; a file of an overlay of the empty base, if `keys` are given; `None` means the empty base.
        keys: the names of keys, one of which must have signed the packed base. The signature gives no right: the digest decides.
    """

    cache: Path
    limit: int
    name: bytes
    digest: bytes
    machine: str
    disk: Path | None
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class LaunchTask:
    """The task to make a disk from a base and an overlay.

    Attributes:
        cache: the directory of the cache.
        limit: the greatest size of the cache in bytes.
        base: the base's name in the cache.
        overlay: the file of the overlay; `None` means to use only launch images that the cache has.
        title: the overlay's name, for errors.
        keys: for each trusted key, its name (`TrustedKey.name`), and the name in the cache of the launch image if this key has signed it.
        max_bytes: the greatest size of the disk in bytes.
        target: the file to make.
        resume: the conditions for memory; `None` means that an overlay with memory is refused.
    """

    cache: Path
    limit: int
    base: bytes
    overlay: Path | None
    title: str
    keys: Sequence[tuple[str, bytes]]
    max_bytes: int
    target: Path
    resume: Resume | None = None


@dataclass(frozen=True)
class FetchedTask:
    """A disk that another site has sent, and that is to be verified.

    Attributes:
        stream: the file with its records (`launch_stream`).
        overlay: the file of the overlay.
        title: the overlay's name, for errors.
        keys: the names of the keys whose signatures are accepted.
        base: the digest of the base that the overlay's property names.
        max_bytes: the greatest size of the disk in bytes.
        directory: a directory for files of the task.
        target: the file to make.
    """

    stream: Path
    overlay: Path
    title: str
    keys: Sequence[str]
    base: bytes
    max_bytes: int
    directory: Path
    target: Path


def verify_fetched(task: FetchedTask) -> str:
    """Make a disk from its records, and verify it by the overlay's signed header.

    Returns:
        The name of the key that has signed the overlay.

    Raises:
        AtollError: as for `keys.parse_name`, `read_signed` and `launch_stream.unpack`; `cloudlet.base`: the overlay was made for a base
            other than that of its property; `cloudlet.invalid`: the disk has another digest. Nothing is left.
    """
    with opened(str(task.overlay), None) as source:
        header, signer = read_signed(source.read, (parse_name(key) for key in task.keys), task.title)
    if header.base != task.base:
        message = f"the overlay was made for the base {header.base.hex()[:16]}, not {task.base.hex()[:16]}, as its property says"
        raise AtollError("cloudlet.base", message)
    _check_result(header, task.title, task.max_bytes)
    raw, made = task.directory / "raw", task.directory / "verified"
    try:
        launch_stream.unpack(task.stream, raw, header.result.size, lambda: require_space(task.directory, 0))
        require_space(task.directory, raw.stat().st_blocks * 512)
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
    """Put a base into the cache, unless the cache has it.

    Raises:
        AtollError: `cloudlet.base`: the disk does not have the digest that the task requires; `cloudlet.invalid`: the disk is too large;
            `state.space`: the cache or the disk is full; `cloudlet.unusable`: the disk fails. Nothing is left.
    """
    cache = LaunchCache(task.cache, task.limit, by_content=False)
    with cache.held(task.name) as path:
        if path is not None:
            return
    if task.disk is None:
        make_empty(cache.path(task.name))
        return
    if task.keys:
        _unpack_base(task, task.disk, cache)
        return
    size = part_size(task.disk)
    _check_size("the base's disk", size, task.limit)
    needed = task.disk.stat().st_blocks * 512 + count(size) * len(task.digest)
    cache.make_room(needed)
    require_space(task.cache, needed)
    target = cache.path(task.name)
    found = make_base({DISK: task.disk}, target, "", task.machine, _quiet).digest
    if found != task.digest:
        _remove(cache, task.name)
        raise _other_base(found, task.digest)


def _other_base(found: bytes, named: bytes) -> AtollError:
    return AtollError("cloudlet.base", f"the image's content is the base {found.hex()[:16]}, but its property names {named.hex()[:16]}")


def _unpack_base(task: BaseTask, packed: Path, cache: LaunchCache) -> None:
    """Put a base into the cache that is packed as an overlay of the empty base.

    Raises:
        AtollError: as for `keep_base`, `read_signed` and `apply`.
    """
    with tempfile.TemporaryDirectory(prefix=".empty-", dir=packed.parent) as directory, opened(str(packed), None) as source:
        assert isinstance(source, FileSource)
        source.name = "the base"
        header, _ = read_signed(source.read, map(parse_name, task.keys), source.name)
        if header.result.digest != task.digest:
            raise _other_base(header.result.digest, task.digest)
        _check_parts(header, source.name)
        _check_size("the base", header.result.size, task.limit)
        _check_segments(header, source.name)
        empty = Path(directory) / "base"
        make_empty(empty)
        check_base(header, image.describe(empty), empty, source.name)
        cache.make_room(packed.stat().st_size)
        require_space(task.cache, packed.stat().st_size)
        _apply(source, header, empty, cache, task.name)
    with cache.held(task.name):
        cache.make_room(0)


def make_disk(task: LaunchTask) -> str | None:
    """Make the disk of a launch image.

    Returns:
        The name of the key that has signed the overlay; `None` if the cache lacks the base or, if no overlay is given, the launch image.

    Raises:
        AtollError: as for `apply`, `keys.parse_name`, `read_signed` and `Resume.check`; `cloudlet.invalid`: the image has unknown parts, or
            is too large; `state.space`: the file system has too little space. Nothing is left.
    """
    cache = LaunchCache(task.cache, task.limit, by_content=False)
    for key, name in task.keys:
        with cache.held(name) as path:
            if path is not None:
                _copy(path, task, key)
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
        _check_result(header, task.title, task.max_bytes, task.resume, key)
        check_base(header, image.describe(base), base, task.title)
        cache.make_room(occupied(base))
        require_space(task.cache, occupied(base))
        _apply(source, header, base, cache, name)
    with cache.held(name) as path:
        if path is None:  # another process has deleted the image to make room
            return None
        _copy(path, task, key)
        if occupied(path) <= cache.limit:
            cache.make_room(0)
            return key
    _remove(cache, name)
    return key


def _check_result(header: Header, title: str, max_bytes: int, resume: Resume | None = None, key: str = "") -> None:
    """Check the image that a signed header announces, before anything is written.

    Raises:
        AtollError: as for `Resume.check`; `cloudlet.invalid`: the image has other parts than a disk or a guest with memory, is too large,
            or has more segments than pages.
    """
    _check_parts(header, title)
    if header.result.part(MEMORY) is not None:
        if resume is None:
            raise invalid(title, "the image has memory: expected a disk alone")
        resume.check(header.result, key, title)
    disk = header.result.part(DISK)
    assert disk is not None
    _check_size(f"{title}: the disk", disk.size, max_bytes)
    _check_segments(header, title)


def _check_parts(header: Header, title: str) -> None:
    names = [part.name for part in header.result.parts]
    if names not in ([DISK], [DISK, HARDWARE, MEMORY]):
        raise invalid(title, f"the image has the parts {', '.join(names)}: expected {DISK}, or {DISK}, {HARDWARE} and {MEMORY}")


def _check_segments(header: Header, title: str) -> None:
    if header.segments > sum(count(part.size) for part in header.result.parts):
        raise invalid(title, "the overlay has more segments than its result has pages", "make the overlay again")


def _check_size(what: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise invalid(what, f"{-(-size >> 20)} MiB: expected at most {max_bytes >> 20} MiB")


def require_space(directory: Path, needed: int) -> None:
    """Check that a file system has room for a result, which may be much larger than the overlay.

    Args:
        directory: a directory of the file system.
        needed: the size of the result in bytes.

    Raises:
        AtollError: `state.space`: the file system has too little space.
    """
    free = shutil.disk_usage(directory).free
    if free < needed + SPARE_BYTES:
        message = f"too little space for the disk: {free >> 20} MiB are free: expected {(needed + SPARE_BYTES) >> 20} MiB"
        raise AtollError("state.space", message, "free some space")


def _apply(source: FileSource, header: Header, base: Path, cache: LaunchCache, name: bytes) -> None:
    target = cache.path(name)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        apply(source, header, base, target, lambda _step, _done, _total: require_space(target.parent, 0))
    except (AtollError, MemoryError):
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _copy(launch: Path, task: LaunchTask, key: str) -> None:
    """Copy the disk of a launch image and, if the image has memory, also its memory and hardware.

    Raises:
        AtollError: as for `Resume.check`; `cloudlet.invalid`: the disk is too large; `state.space`: the file system has too little space;
            `cloudlet.unusable`: a part can't be read or written. Nothing is left.
    """
    found = image.describe(launch)
    targets = {DISK: task.target}
    if found.part(MEMORY) is not None:
        if task.resume is None:
            raise invalid(task.title, "the image has memory: expected a disk alone")
        task.resume.check(found, key, task.title)
        targets |= {MEMORY: task.resume.memory, HARDWARE: task.resume.hardware}
    disk = found.part(DISK)
    assert disk is not None
    _check_size(f"{task.title}: the disk", disk.size, task.max_bytes)
    require_space(task.target.parent, occupied(launch))
    try:
        for name, target in targets.items():
            _copy_part(launch / name, target)
    except OSError as error:
        for target in targets.values():
            target.unlink(missing_ok=True)
        raise unusable(error.filename or task.target, error) from None


def _copy_part(source: Path, target: Path) -> None:
    """Copy a file with its holes; the file system shares its content if it can."""
    with source.open("rb") as opened_, target.open("xb") as copy:
        if not sparse.clone(opened_.fileno(), copy.fileno()):
            copy_sparse(opened_.fileno(), copy.fileno())


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
    """Ignore reports of progress."""


@contextmanager
def answered() -> Iterator[dict[str, Any]]:
    """Yield an answer, which is printed when the context ends; an `AtollError` becomes a part of the answer."""
    answer: dict[str, Any] = {}
    try:
        yield answer
    except AtollError as error:
        answer["error"] = {"code": error.kind.code, "message": error.message}
    except MemoryError:
        answer["error"] = {
            "code": "cloudlet.invalid",
            "message": f"the synthesis needs more than the allowed {MEMORY_BYTES >> 30} GiB of memory",
        }
    json.dump(answer, sys.stdout)


def run(task: Mapping[str, Any]) -> str | None:
    """Carry out a task that was read as JSON, and return the result of `make_disk`; `None` for a `BaseTask`.

    Args:
        task: the fields of a `FetchedTask`, of a `BaseTask`, or else of a `LaunchTask`.

    Raises:
        AtollError: as for `verify_fetched`, `keep_base` and `make_disk`.
    """
    if "stream" in task:
        places = {name: Path(task[name]) for name in ("stream", "overlay", "directory", "target")}
        keys, base = list(task["keys"]), bytes.fromhex(task["base"])
        return verify_fetched(FetchedTask(**places, title=task["title"], keys=keys, base=base, max_bytes=int(task["max_bytes"])))
    cache, limit = Path(task["cache"]), int(task["limit"])
    if "digest" in task:
        names = bytes.fromhex(task["name"]), bytes.fromhex(task["digest"])
        disk = Path(task["disk"]) if task["disk"] else None
        keep_base(BaseTask(cache, limit, *names, task["machine"], disk, list(task.get("keys", ()))))
        return None
    overlay = Path(task["overlay"]) if task["overlay"] else None
    keys = [(key, bytes.fromhex(name)) for key, name in task["keys"]]
    base = bytes.fromhex(task["base"])
    resume = _resume(task["resume"]) if task.get("resume") else None
    return make_disk(LaunchTask(cache, limit, base, overlay, task["title"], keys, int(task["max_bytes"]), Path(task["target"]), resume))


def _resume(fields: Mapping[str, Any]) -> Resume:
    return Resume(**{**fields, **{name: Path(fields[name]) for name in (MEMORY, HARDWARE)}})


def main() -> None:
    """Read a task from standard input, carry it out, and print the answer.

    The answer has `key`, the result of `make_disk`, or `error` with `code` and `message`.
    """
    task = read_task()
    with answered() as answer:
        answer["key"] = run(task)


def read_task() -> Any:
    """Read a task from standard input, and bound the memory and the processor time of this process, which ends with its parent.

    The process gives way to others, unless `live` is false in the task: then a server is down until the task is done.
    """
    die_with_parent(os.getppid())
    task = json.load(sys.stdin)
    if task.get("live", True):
        os.nice(5)
    bounds = {resource.RLIMIT_AS: MEMORY_BYTES, resource.RLIMIT_CPU: PROCESSOR_S, resource.RLIMIT_CORE: 0}
    for kind, bound in bounds.items():
        _, hard = resource.getrlimit(kind)
        most = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        spare = KILLED_AFTER_S if kind == resource.RLIMIT_CPU else 0
        last = most + spare if hard == resource.RLIM_INFINITY else min(most + spare, hard)
        resource.setrlimit(kind, (most, last))
    return task


if __name__ == "__main__":
    main()
