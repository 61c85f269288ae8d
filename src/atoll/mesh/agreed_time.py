"""The agreed time: the time of day of a cloud's sites, whatever the clock of one of them shows.

Tokens, revocations and dates of expiry of one site are judged at all others. A site whose clock is an hour ahead would sign tokens that no
revocation reaches for an hour, and would refuse other sites' tokens an hour too early. So each site sends its clock with every probe, and
takes the median of all clocks, its own among them. A site keeps its own clock as long as that is within `TOLERATED_S` of the median, so
that a cloud with right clocks uses them alone. A minority of wrong or lying clocks moves nothing. (Marzullo, Owicki: "Maintaining the Time
in a Distributed System", PODC 1983, has servers send intervals and intersects them; the clocks of machines give no intervals.)

Only the times in answers to probes are used: the age of any other message is unknown, and an attacker who delays packets could set clocks
back.

The clock of another site is kept as a distance to this machine's clock since its start, `CLOCK_BOOTTIME`, which can't be set. So it stays
valid when this site's own clock is set, and while the others can't be reached.

Keystone gets the result through a file of `FILE_SIZE` bytes among the site's sockets: the machine's boot id, and the distance in
nanoseconds. Keystone reads it whenever it reads its clock (`services/patches/keystone/clock.py`).
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
"""The name of the file in the directory of a site's sockets."""

TOLERATED_S = 1.0
"""The greatest distance of a right clock from the median, in seconds. The measurement may be wrong by half a round trip."""

_NS = 1_000_000_000
_TOLERATED_NS = int(TOLERATED_S * _NS)
_MAX_APART_NS = MAX_AHEAD_MS * 1_000_000
_FORM = struct.Struct("=16sq")
FILE_SIZE = _FORM.size


def since_boot_ns() -> int:
    """Return the nanoseconds since the machine was started, including the time for which it was suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class AgreedTime:
    """The agreed time as one site computes it.

    Args:
        own_ns: returns this site's time of day, in nanoseconds since 1970.
        steady_ns: returns the time of a monotonic clock, in nanoseconds.
        distrusted: sites whose clocks are ignored.
    """

    def __init__(self, own_ns: Callable[[], int], steady_ns: Callable[[], int] = since_boot_ns, distrusted: Iterable[str] = ()) -> None:
        self._own_ns = own_ns
        self._steady_ns = steady_ns
        self._distrusted = frozenset(distrusted)
        self._others: dict[str, int] = {}

    def observe(self, site: str, their_ms: int, rtt_ms: float) -> None:
        """Record the clock of another site in its answer to a message.

        The answer took half of the round trip, plus or minus that half (F. Cristian: "Probabilistic clock synchronization", Distributed
        Computing 3, 1989). If half of the round trip may be more than `TOLERATED_S`, as for an answer that an interrupted link delayed, the
        answer is ignored.

        Args:
            site: the site's name.
            their_ms: the time at which the site sent the answer, by its own clock, in milliseconds since 1970.
            rtt_ms: the duration of this round trip in milliseconds.
        """
        if site in self._distrusted or rtt_ms > 2000 * TOLERATED_S:
            return
        self._others[site] = their_ms * 1_000_000 + int(rtt_ms * 500_000) - self._steady_ns()

    def keep(self, sites: Iterable[str]) -> None:
        """Forget the clocks of all but these sites."""
        wanted = set(sites)
        self._others = {site: distance for site, distance in self._others.items() if site in wanted}

    def own_ms(self) -> int:
        """Return this site's own clock, in milliseconds since 1970."""
        return self._own_ns() // 1_000_000

    def own_ahead_s(self) -> float:
        """Return the seconds by which this site's own clock is ahead of the agreed time; 0.0 within the tolerance."""
        own = self._own_ns() - self._steady_ns()
        return (own - self._judged(own)) / _NS

    def now_ms(self) -> int:
        """Return the agreed time in milliseconds since 1970."""
        return (self._steady_ns() + self.distance_ns()) // 1_000_000

    def distance_ns(self) -> int:
        """Return the agreed time minus the steady clock, in nanoseconds.

        Of an even number of clocks, the later of the two middle ones is the median: a machine that has lost its date is behind. Clocks more
        than a day from this site's own are ignored, as the mesh refuses such stamps (`clock.MAX_AHEAD_MS`).
        """
        return self._judged(self._own_ns() - self._steady_ns())

    def _judged(self, own: int) -> int:
        believed = [distance for distance in self._others.values() if abs(distance - own) <= _MAX_APART_NS]
        median = statistics.median_high([own, *believed])
        return own if abs(median - own) <= _TOLERATED_NS else median


class TimeWriter:
    """Writes the agreed time into the file that Keystone reads.

    Args:
        path: the file.

    Raises:
        OSError: the file can't be written.
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
        """Write the distance of the agreed time from `since_boot_ns`."""
        self._file[:] = _FORM.pack(self._boot, distance_ns)

    def close(self) -> None:
        """Close the file without deleting it."""
        self._file.close()


class TimeReader:
    """Reads the file of a `TimeWriter`, as soon as the file exists.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = _boot()
        self._file: mmap.mmap | None = None

    def now_ns(self) -> int:
        """Return the agreed time in nanoseconds since 1970; the machine's own time until a value was written since its start."""
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
        except (OSError, ValueError):  # the file does not exist, or is not complete yet
            return None


def _boot() -> bytes:
    return UUID(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()).bytes
