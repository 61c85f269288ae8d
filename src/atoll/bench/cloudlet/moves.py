"""The measurements of moves: by a hand-off, with and without a cut, and by a snapshot from which a new server starts."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from atoll.bench.api import Answer, Api
from atoll.bench.cloudlet import disks
from atoll.bench.cloudlet.answers import AnswerWatch, longest_gap
from atoll.bench.cloudlet.material import OverlayMaker
from atoll.bench.cloudlet.parts import CUT_S, EDGE, HOME, LINKS, OPEN, SESSION_MIB
from atoll.bench.cloudlet.sites import PATIENCE_S, NomadSites
from atoll.bench.cloudlet.syntheses import Starts
from atoll.bench.waiting import wait_until

_LOOK_S = 0.1
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


@dataclass
class Progress:
    """The residues of a hand-off, from repeated looks at its state.

    Attributes:
        lengths: the size in bytes of each residue that was seen, in order.
        middle: set when the first residue is on its way.
    """

    lengths: list[int] = field(default_factory=list)
    middle: threading.Event = field(default_factory=threading.Event)
    _sent: int = 0

    def see(self, shown: Mapping[str, Any]) -> None:
        """Take the state of a hand-off into account: another length, or less data sent than before, means another residue."""
        told = shown.get("progress") or {}
        if "length" not in told:
            return
        if not self.lengths or told["length"] != self.lengths[-1] or told["sent"] < self._sent:
            self.lengths.append(int(told["length"]))
        self._sent = int(told["sent"])
        self.middle.set()


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
                    done = sites.result(command)
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

        wait_until(look, f"server {server} at {HOME}", 3 * PATIENCE_S, _LOOK_S)
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
        thread = threading.Thread(target=_follow, args=arguments, daemon=True)
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


def _follow(api: Api, journal: Path, server: str, progress: Progress, over: threading.Event) -> None:
    identifier = ""
    while not over.wait(_LOOK_S):
        identifier = identifier or newest_handoff(journal, server)
        with suppress(OSError, HTTPException):
            if identifier and (answer := handoff_request(api, "GET", server, f"?id={identifier}")).ok:
                progress.see(answer.body)


def newest_handoff(journal: Path, server: str) -> str:
    """Return the id of the newest hand-off of a server in the journal of the site's gateway; empty if there is none."""
    query = "SELECT id FROM departure WHERE json_extract(record, '$.server') = ? ORDER BY number DESC LIMIT 1"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        found = database.execute(query, (server,)).fetchone()
        return str(found[0]) if found else ""
    return ""


def handoff_request(api: Api, method: str, server: str, query: str = "", body: Any = None) -> Answer:
    """Send a request about the hand-off of a server to a gateway, and return the answer.

    Args:
        api: an `InsideApi`, signed in.
        method: POST to begin or continue a hand-off, GET to see one.
        server: the server's id.
        query: the query of the URL, with its question mark.
        body: the body, sent as JSON.
    """
    return api.call("cloudlet", method, f"/cloudlet/v1/servers/{server}/handoff{query}", body)
