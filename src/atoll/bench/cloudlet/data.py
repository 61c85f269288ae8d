"""A synthetic virtual machine: its files resemble those of a Linux guest before and after the installation of an application.

The contents of files are taken from Python's own libraries on this machine, so that they compress like programs and text. Anonymous memory
consists of small numbers, pointers and random words. The amounts are those measured in a Debian guest with 1 GiB of memory: the base uses
16 % of the memory, and the guest 36 %. Of the changed pages, some also occur in the base's disk, some differ from the base's page in a few
bytes, and the rest are new. Four of five changed pages of the disk also occur in the memory.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll.bench.failure import failed
from atoll.cloudlet.pages import PAGE, Pages, as_bytes, as_pages

_MIB = (1 << 20) // PAGE  # pages
_SUFFIXES = (".so", ".py", ".pyc", ".txt", ".json", ".html")


@dataclass(frozen=True)
class SyntheticGuest:
    """The files of a guest.

    Attributes:
        disk: the file of the guest's disk.
        memory: the file of the guest's memory.
        occupied_mib: the size of the memory's pages that are not all zeros, in MiB.
    """

    disk: Path
    memory: Path
    occupied_mib: float


def make(directory: Path, memory_mib: int, disk_mib: int, seed: int) -> tuple[SyntheticGuest, SyntheticGuest]:
    """Write the files of a base and of a guest, and return both.

    Args:
        directory: an empty directory.
        memory_mib: size of the memory, in MiB; the base uses 16 % of it, the guest 36 %.
        disk_mib: size of the disk, in MiB, which is mostly a hole.
        seed: seed of all random choices.

    Raises:
        AtollError: `bench.failed`: all files of Python's libraries on this machine together are too small to fill the guest.
    """
    random = np.random.default_rng(seed)
    unit = memory_mib * _MIB // 100  # pages of 1 % of the memory
    files = _files(30 * unit, random)
    old_files, new_files = files[: 20 * unit], files[20 * unit :]
    memory = np.zeros((memory_mib * _MIB, 512), np.uint64)
    places = random.permutation(memory_mib * _MIB // 16) * 16  # runs of 64 KiB, because the kernel reads ahead by such runs
    runs = (places[:, None] + np.arange(16)).ravel()
    memory[runs[: 8 * unit]] = old_files[: 8 * unit]
    memory[runs[8 * unit : 16 * unit]] = _anonymous(8 * unit, random)
    base = _write(directory / "base", old_files, disk_mib, memory)

    changed = runs[12 * unit : 14 * unit]
    memory[changed[:, None], random.integers(0, 512, (len(changed), 12))] = random.integers(0, 1 << 40, (len(changed), 12), dtype=np.uint64)
    memory[runs[16 * unit : 24 * unit]] = new_files[: 8 * unit]
    memory[runs[24 * unit : 26 * unit]] = old_files[10 * unit : 12 * unit]
    memory[runs[26 * unit : 36 * unit]] = _anonymous(10 * unit, random)
    return base, _write(directory / "guest", files, disk_mib, memory)


def _files(pages: int, random: np.random.Generator) -> Pages:
    """Return `pages` pages with the content of files in random order; each file begins at a page boundary."""
    paths = list(_paths())
    found, missing = [], pages
    for place in random.permutation(len(paths)).tolist():
        content = paths[place].read_bytes()
        taken = as_pages(content + bytes(-len(content) % PAGE))[:missing]
        found.append(taken)
        missing -= len(taken)
        if not missing:
            return np.concatenate(found)
    raise failed(f"Python's libraries on this machine have less than {pages // _MIB} MiB of files", "choose a smaller --memory")


def _paths() -> Iterator[Path]:
    for key in ("stdlib", "platlib"):
        for root, directories, names in os.walk(sysconfig.get_paths()[key]):
            directories.sort()
            paths = (Path(root) / name for name in sorted(names) if name.endswith(_SUFFIXES))
            yield from (path for path in paths if path.is_file() and path.stat().st_size >= PAGE)


def _anonymous(pages: int, random: np.random.Generator) -> Pages:
    """Return pages like those of a heap: half zeros, pointers near each other, small numbers, and some random bytes."""
    made = np.zeros((pages, 512), np.uint64)
    heap = np.uint64(0x7F0000000000)
    made[:, ::4] = heap + random.integers(0, 1 << 24, (pages, 128), dtype=np.uint64) * np.uint64(16)
    made[:, 1::8] = random.integers(0, 200, (pages, 64), dtype=np.uint64)
    made[:, 6::16] = random.integers(0, 1 << 63, (pages, 32), dtype=np.uint64)
    return made


def _write(prefix: Path, files: Pages, disk_mib: int, memory: Pages) -> SyntheticGuest:
    """Write a disk whose files begin after the first 4 MiB, and a memory; pages of zeros become holes in both files."""
    disk, held = prefix.with_name(f"{prefix.name}.disk"), prefix.with_name(f"{prefix.name}.memory")
    with disk.open("wb") as file:
        file.seek(4 * _MIB * PAGE)
        file.write(as_bytes(files))
        file.truncate(disk_mib * _MIB * PAGE)
    filled = np.flatnonzero(memory.any(axis=1))
    with held.open("wb") as file:
        for first in np.unique(filled // 16 * 16).tolist():
            file.seek(first * PAGE)
            file.write(as_bytes(memory[first : first + 16]))
        file.truncate(len(memory) * PAGE)
    return SyntheticGuest(disk, held, round(len(filled) / _MIB, 1))
