"""The measurements of moves: by a hand-off, with and without a cut, and by a snapshot from which a new server starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from atoll.bench.cloudlet import disks
from atoll.bench.cloudlet.answers import AnswerWatch, longest_gap
from atoll.bench.cloudlet.commands import result
from atoll.bench.cloudlet.handoff_state import LOOK_S, Progress, follow
from atoll.bench.cloudlet.material import OverlayMaker
from atoll.bench.cloudlet.parts import CUT_S, EDGE, HOME, LINKS, OPEN, SESSION_MIB
from atoll.bench.cloudlet.sites import PATIENCE_S, NomadSites
from atoll.bench.cloudlet.syntheses import Starts
from atoll.bench.waiting import wait_until

_WRITTEN_S = 180.0
_MIB = 1 << 20


@dataclass(frozen=True)
class MoveSample:
    """The move of a server to the other site.

    Attributes:
        seconds: the duration of a hand-off, until the old server is deleted; of a move by a snapshot, until the new server answers.
        down_s: the longest time without an answer of the application at either site.
        sent_mib: data that the source put on the link meanwhile, in MiB.
        residue_mib: the size of the residues, in MiB; 0 for a move by a snapshot.
        exact: whether the disk at the destination has the digest of the stopped disk at the source.
        cut_s: the length of the cut in the middle, in seconds; 0 without a cut.
    """

    seconds: float
    down_s: float
    sent_mib: float
    residue_mib: float
    exact: bool
    cut_s: float = 0.0


class Moves:
    """Measures moves from the edge to the home.

    Args:
        sites: the running sites.
        maker: makes bases and overlays.
        starts: starts servers.
        script: the user data of servers.
    """

    def __init__(self, sites: NomadSites, maker: OverlayMaker, starts: Starts, script: str) -> None:
        self._sites, self._maker, self._starts, self._script = sites, maker, starts, script
        self._overlay = ""

    def handoff(self, link: str, *, cut: bool = False) -> MoveSample:
        """Hand off a running server.

        Args:
            link: a key of `LINKS`.
            cut: whether to cut the link for `CUT_S` seconds while the first residue is on its way.
        """
        sites = self._sites
        server, address = self._running()
        held = disks.hold(sites.instances(EDGE), server, sites.instances(EDGE).parent / "bench")
        sites.set_link(LINKS[link])
        before = sites.sent_mib(EDGE)
        with sites.watch(EDGE, address) as old, self._followed(server) as progress:
            old.first(f"server {server} at {EDGE}", PATIENCE_S)
            command = sites.begin(EDGE, "cloudlet", "handoff", server, HOME)
            with command, self._interrupted(progress) if cut else nullcontext():
                new = self._arrived(server, lambda: command.poll() not in (None, 0))
                with new:
                    done = result(command)
                    new.first(f"server {server} at {HOME}", PATIENCE_S)
        sent = sites.sent_mib(EDGE) - before
        exact = held.digest() == disks.digest(disks.received(sites.instances(HOME), server))
        held.release()
        self._end(HOME, server)
        residue = sum(progress.lengths) / _MIB
        return MoveSample(done["seconds"], longest_gap(old.times + new.times), sent, residue, exact, CUT_S if cut else 0.0)

    def snapshot(self, link: str) -> MoveSample:
        """Stop a server, make an image of its disk, and start another server from the image at the home.

        Args:
            link: a key of `LINKS`.
        """
        sites = self._sites
        server, address = self._running()
        held = disks.hold(sites.instances(EDGE), server, sites.instances(EDGE).parent / "bench")
        sites.set_link(LINKS[link])
        before = sites.sent_mib(EDGE)
        with sites.watch(EDGE, address) as old:
            old.first(f"server {server} at {EDGE}", PATIENCE_S)
            begun = time.monotonic()
            sites.cloud.api(EDGE).expect("compute", "POST", f"/servers/{server}/action", {"os-stop": None})
            sites.await_status(EDGE, server, "SHUTOFF")
            image = sites.snapshot(EDGE, server, f"snapshot-{server[:8]}")
            moved = sites.create(HOME, f"moved-{server[:8]}", image, self._script)
            with self._arrived(moved, lambda: False) as new:
                answered = new.first(f"server {moved} at {HOME}", PATIENCE_S)
        sent = sites.sent_mib(EDGE) - before
        exact = held.digest() == disks.digest(disks.received(sites.instances(HOME), moved))
        held.release()
        sites.delete(EDGE, server)
        self._end(HOME, moved)
        return MoveSample(answered - begun, longest_gap(old.times + new.times), sent, 0.0, exact)

    def _running(self) -> tuple[str, str]:
        """Start a server at the edge, wait until its application answers and has written its data; return the id and address."""
        sites = self._sites
        if not self._overlay:
            made = self._maker.overlay(self._starts.base())
            self._overlay = self._starts.upload(HOME, made)
            self._starts.warm(self._overlay)
        sites.plug(EDGE)
        server = sites.create(EDGE, f"nomad-{self._overlay[:8]}", self._overlay, self._script)
        sites.await_status(EDGE, server, "ACTIVE")
        address = sites.address(EDGE, server)
        with sites.watch(EDGE, address) as watch:
            watch.first(f"server {server} at {EDGE}", PATIENCE_S)
        disk = disks.disk_of(sites.instances(EDGE), server)
        wait_until(lambda: disk.stat().st_blocks * 512 >= SESSION_MIB * _MIB, "the application has written its data", _WRITTEN_S)
        return server, address

    def _arrived(self, server: str, hopeless: Callable[[], bool]) -> AnswerWatch:
        """Wait until a server has an address at the home, and return a watch of its answers there.

        Args:
            server: the server's id.
            hopeless: returns whether the server will not arrive any more.
        """

        def look() -> bool:
            return bool(self._sites.address(HOME, server)) or hopeless()

        wait_until(look, f"server {server} at {HOME}", 3 * PATIENCE_S, LOOK_S)
        return self._sites.watch(HOME, self._sites.address(HOME, server))

    def _end(self, site: str, server: str) -> None:
        self._sites.set_link(OPEN)
        self._sites.delete(site, server)

    @contextmanager
    def _followed(self, server: str) -> Iterator[Progress]:
        """Look at the state of a server's hand-off again and again while the context lasts."""
        progress, over = Progress(), threading.Event()
        journal = self._sites.cloud.settings(EDGE).data / "gateway" / "handoffs.db"
        arguments = (self._sites.inside(EDGE), journal, server, progress, over)
        thread = threading.Thread(target=follow, args=arguments, daemon=True)
        thread.start()
        try:
            yield progress
        finally:
            over.set()
            thread.join()

    @contextmanager
    def _interrupted(self, progress: Progress) -> Iterator[None]:
        """Cut the link once, for `CUT_S` seconds, as soon as the first residue is on its way."""
        over = threading.Event()
        thread = threading.Thread(target=self._interrupt, args=(progress, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            progress.middle.set()
            thread.join()

    def _interrupt(self, progress: Progress, over: threading.Event) -> None:
        progress.middle.wait()
        if not over.is_set():
            with self._sites.cut():
                over.wait(CUT_S)
