"""The time of day that the sites of a cloud agree on, whatever the clock of one of them says.

Tokens, revocations and dates of expiry of one site are judged at all others. A site whose clock is an hour ahead would sign tokens that no
revocation reaches for an hour, and refuse those of others an hour too early. So each site tells its clock with every probe; each takes the
median of all clocks, its own among them, and keeps its own as long as that is within `TOLERATED_S` of the median, so that a cloud with
right clocks goes by them alone. A minority that is wrong, or lies, moves nothing. (Marzullo, Owicki: "Maintaining the Time in a
Distributed System", PODC 1983, has servers tell intervals and intersects them; the clocks of machines tell no intervals.)

Only answers to probes count: how old another message is nobody knows, and who delays packets would set clocks back.

What others tell is kept as a distance to this machine's clock since its start, `CLOCK_BOOTTIME`, which nobody sets: it stays good when this
site's own clock is set, and while the others can't be heard.

The result goes to Keystone through a file of `FILE_SIZE` bytes among the site's sockets: the machine's boot, and the distance in
nanoseconds. Keystone reads it at each look at its clock (`services/keystone_clock.py`).
"""

from __future__ import annotations

import mmap
import os
import statistics
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import UUID

from atoll.mesh.clock import MAX_AHEAD_MS

FILE = "agreed-time"
"""The name of the file among a site's sockets."""

TOLERATED_S = 1.0
"""A site's own clock is right if it is at most so far from the median. Half a round trip may be measured wrongly."""

_NS = 1_000_000_000
_TOLERATED_NS = int(TOLERATED_S * _NS)
_MAX_APART_NS = MAX_AHEAD_MS * 1_000_000
_FORM = struct.Struct("=16sq")
FILE_SIZE = _FORM.size


def since_boot_ns() -> int:
    """Nanoseconds since the machine was started, its sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class AgreedTime:
    """One site's view of it.

    Args:
        own_ns: this site's clock, nanoseconds since 1970.
        steady_ns: a clock that nobody sets, in nanoseconds.
        distrusted: sites whose clocks don't count.
    """

    def __init__(self, own_ns: Callable[[], int], steady_ns: Callable[[], int] = since_boot_ns, distrusted: Iterable[str] = ()) -> None:
        self._own_ns = own_ns
        self._steady_ns = steady_ns
        self._distrusted = frozenset(distrusted)
        self._others: dict[str, int] = {}

    def hear(self, site: str, their_ms: int, rtt_ms: float) -> None:
        """Take note of what another site's clock said in its answer to a message.

        The answer took half of the round trip, give or take that half (F. Cristian: "Probabilistic clock synchronization", Distributed
        Computing 3, 1989). If that may be more than `TOLERATED_S`, as with an answer that was held up by a cut, it says nothing.

        Args:
            site: its name.
            their_ms: milliseconds since 1970, when it sent the answer.
            rtt_ms: how long this very round trip took.
        """
        if site in self._distrusted or rtt_ms > 2000 * TOLERATED_S:
            return
        self._others[site] = their_ms * 1_000_000 + int(rtt_ms * 500_000) - self._steady_ns()

    def keep(self, sites: Iterable[str]) -> None:
        """Forget the clocks of all but these sites."""
        wanted = set(sites)
        self._others = {site: distance for site, distance in self._others.items() if site in wanted}

    def own_ms(self) -> int:
        """This site's own clock, milliseconds since 1970."""
        return self._own_ns() // 1_000_000

    def own_ahead_s(self) -> float:
        """How far this site's own clock is ahead of the agreed time, in seconds; 0.0 if it is within what is tolerated."""
        own = self._own_ns() - self._steady_ns()
        return (own - self._judged(own)) / _NS

    def distance_ns(self) -> int:
        """The agreed time less the steady clock, in nanoseconds.

        Of an even number of clocks the later one of the two in the middle counts: a machine that has lost its date is behind. Clocks that
        are more than a day from this site's own are not believed, as the mesh believes no stamps of theirs (`clock.MAX_AHEAD_MS`).
        """
        return self._judged(self._own_ns() - self._steady_ns())

    def _judged(self, own: int) -> int:
        believed = [distance for distance in self._others.values() if abs(distance - own) <= _MAX_APART_NS]
        median = statistics.median_high([own, *believed])
        return own if abs(median - own) <= _TOLERATED_NS else median


class Writer:
    """Puts the agreed time where Keystone finds it.

    Args:
        path: of the file.

    Raises:
        OSError: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, FILE_SIZE)
            self._file = mmap.mmap(descriptor, FILE_SIZE)
        finally:
            os.close(descriptor)
        self._boot = _boot()

    def write(self, distance_ns: int) -> None:
        """Tell the distance of the agreed time to `since_boot_ns`."""
        self._file[:] = _FORM.pack(self._boot, distance_ns)

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._file.close()


class Reader:
    """Reads what a `Writer` writes, whenever that begins.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = _boot()
        self._file: mmap.mmap | None = None

    def now_ns(self) -> int:
        """The agreed time, nanoseconds since 1970; this machine's own as long as nobody has told another since its start."""
        if self._file is None:
            self._file = self._opened()
        if self._file is not None:
            boot, distance = _FORM.unpack(self._file[:])
            if boot == self._boot:
                return since_boot_ns() + int(distance)
        return time.time_ns()

    def _opened(self) -> mmap.mmap | None:
        try:
            with self._path.open("rb") as file:
                return mmap.mmap(file.fileno(), FILE_SIZE, prot=mmap.PROT_READ)
        except (OSError, ValueError):  # not there, or not whole yet
            return None


def _boot() -> bytes:
    return UUID(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()).bytes
