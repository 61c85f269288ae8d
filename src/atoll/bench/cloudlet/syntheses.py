"""The measurements of starts from overlays: with the base at the site, with nothing at the site, from a file; and from a whole image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atoll.bench.cloudlet import disks
from atoll.bench.cloudlet.material import MadeBase, MadeOverlay, OverlayMaker
from atoll.bench.cloudlet.parts import EDGE, HOME, LINKS, OPEN
from atoll.bench.cloudlet.sites import PATIENCE_S, NomadSites

KEPT = "home,edge"
"""The value of `--keep` for an image that both sites have."""


@dataclass(frozen=True)
class StartSample:
    """The start of a server.

    Attributes:
        active_s: seconds from the request until the server is ACTIVE.
        answer_s: seconds from the request to the application's first HTTP answer.
        received_mib: data that the server's site received meanwhile over the link, in MiB.
        exact: whether the disk that the site made has the digest of the maker's disk.
        note: a fact about the start; empty if there is none.
    """

    active_s: float
    answer_s: float
    received_mib: float
    exact: bool
    note: str = ""


class Starts:
    """Measures starts at the edge.

    Args:
        sites: the running sites.
        maker: makes bases and overlays.
        script: the user data of servers.
    """

    def __init__(self, sites: NomadSites, maker: OverlayMaker, script: str) -> None:
        self._sites, self._maker, self._script = sites, maker, script
        self._base: MadeBase | None = None

    def synthesis(self) -> StartSample:
        """Start a server from an overlay at the other site; the base is in the Glance of the server's site."""
        made = self._maker.overlay(self.base())
        overlay = self.upload(HOME, made)
        self._sites.set_link(LINKS["38mbit"])
        sample = self.start(overlay, made)
        made.delete()
        return sample

    def cached(self) -> StartSample:
        """Start a server from an overlay of which the other site has the launch image, and nothing is at the server's site."""
        base = self._maker.base()
        image = self._sites.command(HOME, "cloudlet", "upload", base.directory, "--name", base.directory.name, *self._maker.base_words)[
            "image"
        ]
        made = self._maker.overlay(base)
        overlay = self.upload(HOME, made)
        self.warm(overlay)
        self._sites.set_link(LINKS["38mbit"])
        sample = self.start(overlay, made)
        fetched = "the base" if self._sites.has_image(EDGE, image) else "the launch image"
        base.disk.unlink()
        made.delete()
        return StartSample(**{**vars(sample), "note": f"the site fetched {fetched}"})

    def usb(self) -> StartSample:
        """Start a server from a file at its site while the link is cut; the time begins with the upload to the site's Glance."""
        made = self._maker.overlay(self.base())
        with self._sites.cut():
            self._sites.await_alone()
            sample = self.start(None, made)
        self._sites.cloud.await_joined()
        made.delete()
        return sample

    def image(self) -> StartSample:
        """Start a server from an ordinary image of the whole disk at the other site, as operators do without overlays."""
        made = self._maker.overlay(self.base())
        file = self._maker.packed(made)
        image = self._sites.upload(file, made.file.name)
        self._sites.set_link(LINKS["38mbit"])
        sample = self.start(image, made)
        size = file.stat().st_size / (1 << 20)
        file.unlink()
        made.delete()
        return StartSample(**{**vars(sample), "note": f"image of {size:.1f} MiB"})

    def start(self, image: str | None, made: MadeOverlay) -> StartSample:
        """Start a server at the edge, wait for its first answer, compare its disk, and delete it.

        Args:
            image: the id of the image; `None` means to upload the overlay first, at the server's site.
            made: the overlay, and the disk that the server must have.
        """
        sites = self._sites
        sites.plug(EDGE)
        port = sites.port(EDGE)
        before, begun = sites.sent_mib(HOME), time.monotonic()
        with sites.watch(EDGE, port.address) as watch:
            server = sites.create(EDGE, made.file.name, image or self.upload(EDGE, made), self._script, port)
            sites.await_status(EDGE, server, "ACTIVE")
            active = time.monotonic()
            received = sites.sent_mib(HOME) - before
            answered = watch.first(f"server {made.file.name} at {EDGE}", PATIENCE_S)
        exact = disks.digest(disks.received(sites.instances(EDGE), server)) == disks.digest(made.disk)
        sites.delete(EDGE, server)
        sites.set_link(OPEN)
        return StartSample(active - begun, answered - begun, received, exact)

    def base(self) -> MadeBase:
        """Return the base that both sites have, made and uploaded at the first call."""
        if self._base is None:
            made = self._maker.base()
            image = self._upload_base(made, "--keep", KEPT)
            self._sites.await_image(EDGE, image)
            self._base = made
        return self._base

    def _upload_base(self, made: MadeBase, *more: str) -> str:
        """Upload a base at the home, and return the id of its image."""
        words: tuple[str | Path, ...] = (
            "cloudlet",
            "upload",
            made.directory,
            "--name",
            made.directory.name,
            *more,
            *self._maker.base_words,
        )
        shown: Mapping[str, str] = self._sites.command(HOME, *words)
        return shown["image"]

    def upload(self, site: str, made: MadeOverlay) -> str:
        """Upload an overlay at a site, and return the id of its image."""
        words = ("cloudlet", "upload", made.file, "--name", made.file.name, *self._maker.overlay_words)
        shown: Mapping[str, str] = self._sites.command(site, *words)
        return shown["image"]

    def warm(self, overlay: str) -> None:
        """Start a server from an overlay at the home and delete it, so that the home has the launch image and a copy of the network."""
        server = self._sites.create(HOME, f"warm-{overlay[:8]}", overlay, "")
        self._sites.await_status(HOME, server, "ACTIVE")
        self._sites.plug(HOME)
        self._sites.delete(HOME, server)
