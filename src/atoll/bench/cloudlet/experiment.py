"""The experiment: runs the chosen parts again and again, and keeps the figures of the others if one fails."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from atoll.bench.cloudlet import files, parts, report
from atoll.bench.cloudlet.captured_material import CapturedMaker, resumes
from atoll.bench.cloudlet.files import Overlay, OverlayOptions
from atoll.bench.cloudlet.guest import CLOUD_CONFIG, SCRIPT, CloudletGuest
from atoll.bench.cloudlet.material import OverlayMaker, convert
from atoll.bench.cloudlet.moves import Moves, MoveSample
from atoll.bench.cloudlet.sites import NomadSites, nomad_cloud
from atoll.bench.cloudlet.syntheses import Starts, StartSample
from atoll.bench.command import atoll
from atoll.bench.failure import failed
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError
from atoll.guest import LEAST_MIB, build
from atoll.site.machine import obstacle
from atoll.site.state import State

OWN_GUEST = "guest"
"""The name of the project's own guest in reports."""

IMAGE_MEMORY_MIB = 1024
"""Least memory of servers from a given image, in MiB."""

_FAILURES = (AtollError, OSError, http.client.HTTPException, LookupError)


@dataclass(frozen=True)
class CloudletOptions:
    """The parts and the size of the experiment.

    Attributes:
        parts: the names of the parts to measure, some of `parts.PARTS`, in order.
        repeats: the number of measurements of each part that needs a cloud.
        image: the file of another guest's disk; `None` for the project's guest alone.
        application: the file of that guest's disk with an application; `None` for code that is appended to its disk.
        files: the size of the parts that need no cloud.
    """

    parts: tuple[str, ...] = parts.PARTS
    repeats: int = 3
    image: Path | None = None
    application: Path | None = None
    files: OverlayOptions = field(default_factory=OverlayOptions)


def check(options: CloudletOptions) -> None:
    """Check, before anything starts, that this machine and this user can measure the chosen parts.

    Raises:
        AtollError: `guests.unavailable`: a part needs real guests, which this machine or this user can't run.
    """
    if not set(options.parts) <= parts.ON_FILES:
        why_not = obstacle()
        if why_not is not None:
            words = " ".join(f"--part {each}" for each in parts.PARTS if each in parts.ON_FILES)
            raise AtollError(why_not.kind.code, why_not.message, f"{why_not.hint}; or measure the files alone: `{words}`")


def run(options: CloudletOptions, work: Workspace, cache: Path) -> dict[str, Any]:
    """Run the chosen parts.

    Args:
        options: the parts and the size of the experiment.
        work: the experiment's workspace.
        cache: the user's cache directory, with the guest image.

    Returns:
        The figures of the project's guest by name; `image`: the figures of the given image; `synthetic`: those of the synthetic guest;
        `failures`: by guest and part, the errors of measurements.

    Raises:
        AtollError: as for `check`; `bench.failed`: no part could be measured.
    """
    check(options)
    measured = Measurements(options, work, cache)
    if parts.SYNTHETIC in options.parts:
        measured.try_part(parts.SYNTHETIC, parts.SYNTHETIC, lambda: files.measure_synthetic(options.files, work))
    if set(options.parts) - {parts.SYNTHETIC}:
        for guest in measured.guests():
            measured.of(guest)
    found = measured.report()
    if not measured.any:
        first = next(iter(next(iter(found["failures"].values())).values()))[0]
        raise failed(f"no part could be measured: {first}")
    return found


class Measurements:
    """The measured values so far.

    Args:
        options: the parts and the size of the experiment.
        work: the experiment's workspace.
        cache: the user's cache directory.

    Attributes:
        any: whether any part was measured.
    """

    def __init__(self, options: CloudletOptions, work: Workspace, cache: Path) -> None:
        self._options, self._work, self._cache = options, work, cache
        self._files: dict[str, dict[str, Any]] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._samples: dict[str, dict[str, list[StartSample | MoveSample]]] = {}
        self._failures: dict[str, dict[str, list[str]]] = {}
        self.any = False

    def guests(self) -> list[CloudletGuest]:
        """Return the guests to measure: the project's own, and that of the given image, unless their disks can't be made."""
        makers = {OWN_GUEST: self._own_guest} | ({"image": self._given_guest} if self._options.image is not None else {})
        found = []
        for name, make in makers.items():
            try:
                found.append(make())
            except _FAILURES as error:
                self._failed(name, "disk", error)
        return found

    def _own_guest(self) -> CloudletGuest:
        return CloudletGuest(OWN_GUEST, build(self._cache, None, self._work.say).path, None, SCRIPT, LEAST_MIB)

    def _given_guest(self) -> CloudletGuest:
        assert self._options.image is not None
        disk = self._raw(self._options.image, "image.raw")
        application = self._raw(self._options.application, "application.raw") if self._options.application else None
        return CloudletGuest("image", disk, application, CLOUD_CONFIG, IMAGE_MEMORY_MIB)

    def of(self, guest: CloudletGuest) -> None:
        """Measure a guest: its overlay on files, then the chosen parts in a cloud of its own."""
        self._facts[guest.name] = {
            "guest_disk_mib": round(guest.disk.stat().st_size / (1 << 20)),
            "guest_used_mib": guest.used_mib,
        }
        if parts.OVERLAY in self._options.parts:
            self.try_part(guest.name, parts.OVERLAY, lambda: self._overlay(guest))
        if set(self._options.parts) - parts.ON_FILES:
            self.try_part(guest.name, "cloud", lambda: self._in_cloud(guest))

    def try_part(self, guest: str, part: str, measure: Callable[[], Mapping[str, Any]]) -> None:
        """Measure a part; if it fails, record the error and go on.

        Args:
            guest: the name of the guest.
            part: the name of the part.
            measure: returns figures by name.
        """
        self._work.say(f"{guest}: {part}")
        try:
            found = measure()
        except _FAILURES as error:
            self._failed(guest, part, error)
            return
        self._files.setdefault(guest, {}).update(found)
        self.any = self.any or bool(found)

    def report(self) -> dict[str, Any]:
        """Return the report: see `run`."""
        by_guest = {guest: self._of_guest(guest) for guest in self._facts}
        links = {name: vars(link) for name, link in parts.LINKS.items()}
        found = {"parts": list(self._options.parts), "repeats": self._options.repeats, "links": links}
        found |= {"cut_s": parts.CUT_S, "session_mib": parts.SESSION_MIB, **by_guest.pop(OWN_GUEST, {}), **by_guest}
        synthetic = self._files.get(parts.SYNTHETIC)
        return found | ({parts.SYNTHETIC: synthetic} if synthetic else {}) | {"failures": self._failures}

    def _of_guest(self, guest: str) -> dict[str, Any]:
        samples = self._samples.get(guest, {})
        on_files = self._files.get(guest, {})
        found = report.figures(samples)
        if "bit_exact" in on_files and "bit_exact" in found:
            found["bit_exact"] = on_files["bit_exact"] and found["bit_exact"]
        more = {"ratios": report.ratios(found), "targets": report.targets(found), "samples": report.plain(samples)} if samples else {}
        return {**self._facts[guest], **on_files, **found, **more}

    def _overlay(self, guest: CloudletGuest) -> dict[str, Any]:
        """Measure the overlay of a guest on files, in several rounds."""
        directory = self._directory(f"{guest.name}-files")
        maker = self._maker(guest, directory)
        base = maker.base()
        made = maker.overlay(base)
        shutil.rmtree(base.directory)
        found = Overlay(directory, {"disk": base.disk}, {"disk": made.disk}).measure(self._options.files, self._work.say)
        shutil.rmtree(directory)
        return found

    def _in_cloud(self, guest: CloudletGuest) -> dict[str, Any]:
        """Measure the chosen parts in a cloud of their own, and keep their samples and facts about the cloud."""
        root, directory = self._directory(f"{guest.name}-cloud"), self._directory(f"{guest.name}-made")
        self._work.say("two sites")
        with nomad_cloud(root, self._work.environment) as cloud:
            sites = NomadSites(cloud, guest.memory_mib, guest.disk_gib)
            try:
                resumed = guest.name == OWN_GUEST and resumes(sites)
                self._facts[guest.name]["resumed"] = resumed
                self._repeat(guest.name, sites, self._actions(guest, sites, directory, resumed=resumed))
            finally:
                sites.close()
            settings = cloud.settings(parts.EDGE)
            self._facts[guest.name] |= {
                "accelerator": "KVM" if settings.hypervisor == "kvm" else "TCG",
                "datapath": "kernel" if settings.datapath == "system" else "userspace",
                "emulator": cloud.wan.describe()["emulator"],
            }
        return {}

    def _actions(
        self, guest: CloudletGuest, sites: NomadSites, directory: Path, *, resumed: bool
    ) -> dict[str, Callable[[], StartSample | MoveSample]]:
        """Return the function that measures each part once.

        Sites send each other only launch images without memory, and a whole image has none. So these two parts are of guests that boot.
        """
        plain = self._maker(guest, directory)
        booting = Starts(sites, plain, guest.script)
        maker, starts = plain, booting
        if resumed:
            captured = self._directory(f"{guest.name}-captured")
            maker = CapturedMaker(guest, captured, self._command(captured), sites)
            starts = Starts(sites, maker, guest.script)
        moves = Moves(sites, maker, starts, guest.script)
        return {
            parts.SYNTHESIS: starts.synthesis,
            parts.CACHED: booting.cached,
            parts.USB: starts.usb,
            parts.IMAGE: booting.image,
            **{part: partial(moves.handoff, link) for part, link in parts.HANDOFFS.items()},
            parts.CUT: partial(moves.handoff, "25mbit", cut=True),
            **{part: partial(moves.snapshot, link) for part, link in parts.SNAPSHOTS.items()},
        }

    def _repeat(self, guest: str, sites: NomadSites, actions: Mapping[str, Callable[[], StartSample | MoveSample]]) -> None:
        """Measure all parts in turn, so that other load on the machine affects all alike.

        Each sample is shown as soon as it is measured, so that an interrupted run loses none of them.
        """
        kept = self._samples.setdefault(guest, {})
        for number in range(self._options.repeats):
            for part in (each for each in self._options.parts if each in actions):
                self._work.say(f"{guest}: {part}, {number + 1} of {self._options.repeats}")
                try:
                    sample = actions[part]()
                    kept.setdefault(part, []).append(sample)
                    self.any = True
                    self._work.say(f"{guest}: {part}: {json.dumps(report.plain({part: [sample]})[part][0])}")
                except _FAILURES as error:
                    self._failed(guest, part, error)
                    sites.clear()

    def _failed(self, guest: str, part: str, error: Exception) -> None:
        message = error.message if isinstance(error, AtollError) else f"{type(error).__name__}: {error}"
        self._failures.setdefault(guest, {}).setdefault(part, []).append(message)
        self._work.say(f"{guest}: {part} failed: {message}")

    def _maker(self, guest: CloudletGuest, directory: Path) -> OverlayMaker:
        return OverlayMaker(guest, directory, self._command(directory))

    def _command(self, directory: Path) -> Callable[..., None]:
        """Return a function that runs a command of `atoll` without a cloud."""
        return partial(atoll, State(directory / "none"), directory / "commands.log", self._work.environment)

    def _raw(self, image: Path, name: str) -> Path:
        """Return a raw copy of a given image, with holes."""
        target = self._work.root / name
        convert(image, target, "-O", "raw")
        return target

    def _directory(self, name: str) -> Path:
        path = self._work.root / name
        path.mkdir()
        return path


def failures(found: Mapping[str, Any]) -> Sequence[str]:
    """Return a line for each failed measurement of a report."""
    by_guest = found.get("failures", {})
    return [f"{guest}: {part}: {each}" for guest, rows in by_guest.items() for part, errors in rows.items() for each in errors]
