"""Bases and overlays with memory: a guest that has booted is captured once, and all servers from them resume instead of booting."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from atoll.bench.cloudlet.guest import CloudletGuest
from atoll.bench.cloudlet.material import MadeBase, MadeOverlay, OverlayMaker, code, convert, copy, write_at
from atoll.bench.cloudlet.parts import EDGE, HOME
from atoll.bench.cloudlet.sites import PATIENCE_S, NomadSites
from atoll.bench.command import atoll
from atoll.identifiers import RESUMES

CODE_AT, PAGE_AT = 512 << 20, 640 << 20
"""Places on the disk, in bytes, for the application and for a random page: behind the file system and the data of the session."""


def resumes(sites: NomadSites) -> bool:
    """Return whether the sites resume memory, which needs QEMU 9.0 and libvirt 11.2."""
    return all((sites.cloud.settings(site).data / "cloudlet" / RESUMES).exists() for site in (HOME, EDGE))


class CapturedMaker(OverlayMaker):
    """Makes bases and overlays with the memory of a guest that has booted, all from one captured guest.

    Args:
        guest: the guest; its disk is that of an image that boots.
        directory: an existing directory for the files.
        command: runs a command of `atoll`.
        sites: the running sites, of which the edge runs the guest until it is captured.
    """

    def __init__(self, guest: CloudletGuest, directory: Path, command: Callable[..., None], sites: NomadSites) -> None:
        super().__init__(guest, directory, command)
        self._sites = sites
        self._captured: Path | None = None

    @property
    def base_words(self) -> Sequence[str | Path]:
        """Options of `atoll cloudlet upload` for a base: a base with memory is packed and signed."""
        return ("--key", self._key, "--visibility", "public")

    @property
    def overlay_words(self) -> Sequence[str | Path]:
        """Options of `atoll cloudlet upload` for an overlay: sites resume the memory of public images."""
        return (*super().overlay_words, "--visibility", "public")

    def base(self) -> MadeBase:
        """Make a base: the captured guest, with a random page on its disk."""
        number = next(self._numbers)
        files, target = self._directory / f"base-{number}.files", self._directory / f"base-{number}"
        self._copy_files(self._capture(), files)
        write_at(files / "disk", PAGE_AT, os.urandom(4096))
        self._atoll("cloudlet", "base", str(target), "--capture", str(files))
        return MadeBase(files / "disk", target)

    def overlay(self, base: MadeBase) -> MadeOverlay:
        """Make an overlay: the base with code as an application, and another random page; its memory is that of the base."""
        number = next(self._numbers)
        files, target = self._directory / f"overlay-{number}.files", self._directory / f"overlay-{number}"
        self._copy_files(base.disk.parent, files)
        write_at(files / "disk", CODE_AT, code())
        write_at(files / "disk", PAGE_AT, os.urandom(4096))
        given = ("--base", str(base.directory), "--capture", str(files), "--key", str(self._key))
        self._atoll("cloudlet", "overlay", str(target), *given)
        return MadeOverlay(files / "disk", target)

    def _capture(self) -> Path:
        """Capture a guest that has booted, once, and return the directory with its files."""
        if self._captured is None:
            sites, target = self._sites, self._directory / "captured"
            file = self._directory / "generic.qcow2"
            convert(self._guest.disk, file, "-c", "-f", "raw", "-O", "qcow2")
            image = sites.upload(file, "generic")
            server = sites.create(EDGE, "generic", image, "")
            sites.await_status(EDGE, server, "ACTIVE")
            sites.plug(EDGE)
            with sites.watch(EDGE, sites.address(EDGE, server)) as watch:
                watch.first(f"server {server} at {EDGE}", PATIENCE_S)
            run = partial(atoll, sites.cloud.state, self._directory / "commands.log", sites.cloud.environment)
            run("cloudlet", "capture", EDGE, server, str(target))
            sites.delete(EDGE, server)
            self._captured = target
        return self._captured

    @staticmethod
    def _copy_files(source: Path, target: Path) -> None:
        target.mkdir()
        for name in ("disk", "memory", "hardware"):
            copy(source / name, target / name)
