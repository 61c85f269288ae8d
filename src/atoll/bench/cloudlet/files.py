"""The parts that need no cloud: overlays of a synthetic guest, or of a guest's disks, are made and applied as files."""

from __future__ import annotations

import filecmp
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from atoll.bench.cloudlet import data, rival
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace
from atoll.cloudlet import base, source
from atoll.cloudlet.apply import apply
from atoll.cloudlet.encode import Task, make_overlay
from atoll.cloudlet.header import read_header
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.pages import PAGE
from atoll.cloudlet.scan import scan, split
from atoll.cloudlet.workers import Workers

_CPU = "qemu64"
_MIB = 1 << 20


@dataclass(frozen=True)
class Durations:
    """The durations of one step.

    Attributes:
        wall_s: elapsed time in seconds.
        processor_s: processor time of this process in seconds.
    """

    wall_s: float
    processor_s: float


@dataclass(frozen=True)
class OverlayOptions:
    """The size of the experiment.

    Attributes:
        memory_mib: memory of the synthetic guest, in MiB.
        disk_mib: size of the synthetic guest's disk, in MiB.
        rounds: the number of rounds; the report has the fastest time of each step.
        seed: the seed of all random choices.
        jobs: the number of processes that encode.
    """

    memory_mib: int = 1024
    disk_mib: int = 8192
    rounds: int = 3
    seed: int = 0
    jobs: int = 1


def measure_synthetic(options: OverlayOptions, work: Workspace) -> dict[str, Any]:
    """Measure overlays of the synthetic guest.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.failed`: this machine has too few files to fill the synthetic guest, or making or applying an overlay failed.
    """
    work.say("writing the synthetic guest")
    directory = work.root / "synthetic"
    directory.mkdir()
    old, new = data.make(directory, options.memory_mib, options.disk_mib, options.seed)
    overlay = Overlay(directory, {"disk": old.disk, "memory": old.memory}, {"disk": new.disk, "memory": new.memory})
    report: dict[str, Any] = {"memory_mib": options.memory_mib, "occupied_mib": new.occupied_mib, "jobs": options.jobs}
    report |= overlay.measure(options, work.say)
    work.say("comparing with zstd --patch-from")
    report |= rival.measure(overlay.directory, overlay.old["memory"], overlay.new["memory"], overlay.changed_mib("memory"))
    shutil.rmtree(overlay.directory)
    return report


@dataclass
class Overlay:
    """A base and a guest, with the overlay between them.

    Attributes:
        directory: a directory for the overlay and the files made from it.
        old: the files of the base.
        new: the files of the guest.
    """

    directory: Path
    old: Mapping[str, Path]
    new: Mapping[str, Path]

    def changed_mib(self, *names: str) -> float:
        """Return the amount of pages in which the guest differs from the base, in MiB."""
        work = [each for name in names for each in split(name, self.new[name], self.old[name], 1 << 14)]
        return float(sum(len(scan(each).pages) for each in work) * PAGE / _MIB)

    def measure(self, options: OverlayOptions, say: Say) -> dict[str, Any]:
        """Make and apply an overlay several times, and return the fastest times."""
        cpu = _CPU if "memory" in self.old else ""
        made = _timed(lambda: base.make_base(self.old, self.directory / "base", cpu, "", _quiet))
        key, exact = SigningKey(ed25519.Ed25519PrivateKey.generate()), True
        encoded, applied = [], []
        for number in range(options.rounds):
            say(f"{self.directory.name}: round {number + 1} of {options.rounds}")
            self.clear()
            encoded.append(_timed(lambda: self.encode(key, options.jobs)))
            applied.append(_timed(lambda: self.apply(key)))
            exact = exact and all(filecmp.cmp(path, self.directory / "launch" / name, shallow=False) for name, path in self.new.items())
        mib = self.changed_mib(*self.new)
        encode_s, apply_s = min(each.wall_s for each in encoded), min(each.wall_s for each in applied)
        report = {
            "changed_mib": round(mib, 1),
            "overlay_mib": round((self.directory / "overlay").stat().st_size / _MIB, 2),
            "encode_s": round(encode_s, 3),
            "encode_mib_s": round(mib / encode_s, 1),
            "apply_s": round(apply_s, 3),
            "apply_mib_s": round(mib / apply_s, 1),
            "apply_processor_s": round(min(each.processor_s for each in applied), 3),
            "base_s": round(made.wall_s, 3),
            "bit_exact": exact,
        }
        if options.jobs == 1:
            report["encode_processor_s"] = round(min(each.processor_s for each in encoded), 3)
        return report

    def clear(self) -> None:
        """Delete the files that the last round made."""
        (self.directory / "overlay").unlink(missing_ok=True)
        shutil.rmtree(self.directory / "launch", ignore_errors=True)

    def encode(self, key: SigningKey, jobs: int) -> None:
        """Make the overlay with a number of processes."""
        with Workers(jobs) as workers:
            make_overlay(Task(self.directory / "base", self.new, self.directory / "overlay"), key, workers, _quiet)

    def apply(self, key: SigningKey) -> None:
        """Apply the overlay to the base."""
        with source.opened(str(self.directory / "overlay"), BytesIO()) as opened:
            header = read_header(opened.read, [key.trusted], opened.name)
            apply(opened, header, self.directory / "base", self.directory / "launch", _quiet)


def _timed(function: Callable[[], object]) -> Durations:
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return Durations(time.perf_counter() - wall, time.process_time() - processor)


def _quiet(_step: str, _done: int, _total: int) -> None:
    """Ignore reports of progress."""
