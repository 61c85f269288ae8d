"""Residues for the hand-off of one server: a program that reads a server's disk, and makes and applies the overlays between its states.

    python -m atoll.cloudlet.handoff < TASK

A *state* is an image (`image`) of a server's disk at one moment, in a directory that is named after its digest. A *residue* is the
overlay from one state to a later one. The source's gateway makes residues, and the destination's gateway applies them. The program runs in
a process of its own for the same reasons as `synthesis`, and with the same bounds. TASK and the answer are JSON objects; see `run`.

A disk is read while its guest runs, in all rounds but the last. Such a state is only a guess at the final disk: the guest and QEMU write
meanwhile. That does no harm, because each later residue is computed from the state that the destination really has.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from atoll.cloudlet import image
from atoll.cloudlet.apply import apply, check_base
from atoll.cloudlet.base import make_base
from atoll.cloudlet.cache import LaunchCache, occupied
from atoll.cloudlet.captured import read_hardware
from atoll.cloudlet.description import MEMORY, ImageDescription
from atoll.cloudlet.encode import Task, make_overlay
from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.header import read_signed
from atoll.cloudlet.keys import parse_name, read_signing_key, read_trusted_key
from atoll.cloudlet.pages import PAGE
from atoll.cloudlet.resume import HARDWARE, HARDWARE_BYTES
from atoll.cloudlet.source import FileSource, opened
from atoll.cloudlet.synthesis import DISK, answered, read_task, require_space
from atoll.cloudlet.workers import Workers
from atoll.errors import AtollError


def run(task: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a task that was read as JSON.

    Args:
        task: the fields of one task. `do` names it:

            - `empty`: make the state of a disk of zeros, which needs no transfer, below `states`.
            - `backing`: return the `file` below the disk `disk`, which must be in `images`; empty if there is none.
            - `begin`: make the state that the raw file `disk` has, below `states`; with `digest`, only if that is its digest.
            - `launches`: return the digests `launches` of those launch images in the cache `cache` that have one of the names `names`.
            - `launch`: make the state of the launch image with the digest `digest`, below `states`; `names` limits the images to those
              with these names in the cache.
            - `residue`: make the overlay `target` from the state `base` to the disk `disk`, and the new state (`_residue`).
            - `apply`: make a new state from the state `base` and the overlay `overlay` (`_apply`).
            - `key`: return the name of the key of the certificate in the file `certificate`.

    Returns:
        The answer's fields.

    Raises:
        AtollError: as for `make_base`, `make_overlay` and `apply`; `cloudlet.invalid`: a disk or an overlay can't be used.
    """
    kind = task["do"]
    if kind == "key":
        return {"key": read_trusted_key(Path(task["certificate"])).name}
    if kind == "launches":
        return {"launches": sorted(found.digest.hex() for found, _path in _launches(task))}
    states = Path(task["states"])
    states.mkdir(mode=0o700, parents=True, exist_ok=True)
    if kind == "backing":
        return {"file": str(_backing(Path(task["disk"]), Path(task["images"]), ["-U"]) or "")}
    return {"residue": _residue, "apply": _apply}[kind](task, states) if kind in {"residue", "apply"} else {"state": _begin(task, states)}


def _begin(task: Mapping[str, Any], states: Path) -> str:
    """Make the first state of a hand-off, and return its name; an empty text if it can't be made."""
    if task["do"] == "empty":
        return _empty(states)
    if task["do"] == "launch":
        return _launch(task, states)
    return _state(states, {DISK: Path(task["disk"])}, str(task.get("digest", "")))


def _empty(states: Path) -> str:
    zeros = states / ".zeros"
    zeros.write_bytes(bytes(PAGE))
    try:
        return _state(states, {DISK: zeros})
    finally:
        zeros.unlink()


def _state(states: Path, parts: Mapping[str, Path], wanted: str = "", cpu: str = "", machine: str = "") -> str:
    """Make a state from raw files, unless it exists, and return its name; an empty text if it is not the wanted one."""
    new = states / ".new"
    shutil.rmtree(new, ignore_errors=True)
    require_space(states, sum(part.stat().st_blocks * 512 for part in parts.values()))
    digest = make_base(parts, new, cpu, machine, _quiet).digest.hex()
    if (wanted and digest != wanted) or (states / digest).is_dir():
        shutil.rmtree(new)
        return digest if digest == wanted or not wanted else ""
    new.rename(states / digest)
    return digest


def _launches(task: Mapping[str, Any]) -> Iterator[tuple[ImageDescription, Path]]:
    """Yield the descriptions and the directories of launch images in a site's cache; each is not deleted before the next is asked for.

    Args:
        task: `cache` is the directory of the cache; `names` are the names of images there, without which all are meant.
    """
    cache = LaunchCache(Path(task["cache"]), 0, by_content=False)
    for name in map(bytes.fromhex, task["names"]) if "names" in task else cache.digests():
        with suppress(AtollError), cache.held(name) as path:
            if path is not None:
                yield image.describe(path), path


def _launch(task: Mapping[str, Any], states: Path) -> str:
    """Make the state that a launch image has, with its memory, and return its name; an empty text if there is no such image."""
    for found, path in _launches(task):
        if found.digest.hex() == task["digest"] and found.part(DISK) is not None:
            parts = {part.name: path / part.name for part in found.parts}
            return _state(states, parts, str(task["digest"]), found.cpu, found.machine)
    return ""


def _residue(task: Mapping[str, Any], states: Path) -> dict[str, Any]:
    """Make a residue and, if the guest may run, its state: the state of a stopped server is hardly ever needed, and would take long.

    Args:
        task: `disk` is the server's disk in qcow2. `images` is the directory in which its backing file must be. `live` tells whether its
            guest may run. `base` is the name of the state that the destination has. `target` is the file to make. `key` is the file of
            the private key. `level` is the level of compression. `memory` and `hardware`, if they are given, are the files of the
            guest's memory and of the description of its machine.
        states: the directory of the states.

    Returns:
        `state`, the name of the new state; `length`, bytes of the residue; `changed`, bytes of its pages before compression.
    """
    raw, target = states / ".raw", Path(task["target"])
    target.unlink(missing_ok=True)
    disk = Path(task["disk"])
    try:
        flatten(disk, raw, Path(task["images"]), live=bool(task["live"]))
        parts, cpu, machine = _parts(task, raw)
        with Workers(1) as workers:
            wanted = Task(states / task["base"], parts, target, int(task["level"]), cpu, machine)
            made = make_overlay(wanted, read_signing_key(Path(task["key"])), workers, _quiet)
        state = _state(states, parts, "", cpu, machine) if task["live"] else made.result.digest.hex()
    finally:
        raw.unlink(missing_ok=True)
    changed = sum(made.pages[kind] for kind in ("content", "changed")) * PAGE
    return {"state": state, "length": made.length, "changed": changed}


def _parts(task: Mapping[str, Any], raw: Path) -> tuple[dict[str, Path], str, str]:
    """Return the files of a server's state, and the CPU model and the machine type of its memory; both are empty without memory."""
    if not task.get("memory"):
        return {DISK: raw}, "", ""
    machine = Path(task["hardware"])
    return {DISK: raw, HARDWARE: machine, MEMORY: Path(task["memory"])}, *read_hardware(machine, "the server's machine")


def flatten(disk: Path, raw: Path, images: Path, *, live: bool) -> None:
    """Write the content of a server's disk to a raw file, with holes.

    The guest's QEMU can write the disk's header. So the backing file and the format are not taken from there: a header that names another
    file than one of the site's images, or an external data file, is refused.

    Raises:
        AtollError: `cloudlet.invalid`: the header is refused; `cloudlet.unusable`: the disk can't be read; `state.space`.
    """
    raw.unlink(missing_ok=True)
    try:
        require_space(raw.parent, disk.stat().st_blocks * 512)
    except OSError as error:
        raise unusable("the server's disk", error) from None
    share = ["-U"] if live else []
    source: dict[str, Any] = {"driver": "qcow2", "file": {"driver": "file", "filename": str(disk)}}
    backing = _backing(disk, images, share)
    if backing is not None:
        source["backing"] = {"driver": "raw", "file": {"driver": "file", "filename": str(backing)}}
    _qemu_img("convert", *share, "-O", "raw", "json:" + json.dumps(source), str(raw))


def _backing(disk: Path, images: Path, share: Sequence[str]) -> Path | None:
    """Return the backing file of a disk, which must be one of the site's images; `None` if there is none.

    Raises:
        AtollError: as for `flatten`.
    """
    told = json.loads(_qemu_img("info", *share, "-f", "qcow2", "--output=json", str(disk)))
    if told.get("format-specific", {}).get("data", {}).get("data-file"):
        raise invalid("the server's disk", "its header names an external data file")
    named = told.get("full-backing-filename")
    if named is None:
        return None
    path = Path(named)
    if path.parent.resolve() != images.resolve() or path.is_symlink() or not path.is_file():
        raise invalid("the server's disk", "its header names a backing file that is none of this site's images")
    return path


def _qemu_img(*words: str) -> str:
    """Run qemu-img, and return its output.

    Raises:
        AtollError: `cloudlet.unusable`: it failed or is missing; `state.space`: the file system is full.
    """
    try:
        return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise AtollError("cloudlet.unusable", "qemu-img is missing", "`apt install qemu-utils`") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it failed without a message"])[-1][:200]
        full = "No space left" in last
        raise AtollError("state.space" if full else "cloudlet.unusable", f"the server's disk: qemu-img: {last}") from None


def _apply(task: Mapping[str, Any], states: Path) -> dict[str, Any]:
    """Apply a residue to a state, and make the new state.

    Args:
        task: `base` is the name of the state. `overlay` is the residue's file. `key` is the name of the key that must have signed it.
            `most` is the greatest size of the disk in bytes, and `most_memory` that of the memory; 0 if no memory is expected.
        states: the directory of the states.

    Returns:
        `state`, the name of the new state.
    """
    base, new, most = states / task["base"], states / ".new", int(task["most"])
    with opened(task["overlay"], None) as source:
        assert isinstance(source, FileSource)
        source.name = "the residue"
        header, _ = read_signed(source.read, [parse_name(task["key"])], source.name)
        _check_parts(header.result, most, int(task.get("most_memory", 0)), source.name)
        if header.segments > -(-header.result.size // PAGE):
            raise invalid(source.name, "it has more segments than its result has pages")
        check_base(header, image.describe(base), base, source.name)
        state = header.result.digest.hex()
        if not (states / state).is_dir():
            require_space(states, occupied(base))
            shutil.rmtree(states / "..new.partial", ignore_errors=True)
            apply(source, header, base, new, lambda _step, _done, _total: require_space(states, 0))
            new.rename(states / state)
    return {"state": state}


def _check_parts(result: ImageDescription, most: int, most_memory: int, where: str) -> None:
    """Refuse a state with other parts than a disk and, if it is expected, memory; or with larger ones than were announced.

    Raises:
        AtollError: `cloudlet.invalid`.
    """
    limits = {DISK: most} | ({HARDWARE: HARDWARE_BYTES, MEMORY: most_memory} if most_memory and len(result.parts) > 1 else {})
    if [part.name for part in result.parts] != sorted(limits) or any(part.size > limits[part.name] for part in result.parts):
        raise invalid(where, f"expected the disk of a server, of at most {most >> 20} MiB, and {most_memory >> 20} MiB of memory")


def _quiet(_step: str, _done: int, _total: int) -> None:
    """Ignore reports of progress."""


def main() -> None:
    """Read a task from standard input, carry it out, and print the answer: the fields of `run`, or `error` with `code` and `message`."""
    task = read_task()
    with answered() as answer:
        try:
            answer.update(run(task))
        except OSError as error:
            raise unusable(error.filename or "a file of the hand-off", error) from None


if __name__ == "__main__":
    main()
