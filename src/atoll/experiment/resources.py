"""The use of links, processors and memory in a run: totals of each cell's measured operations, and rates over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import TypeVar

from atoll.experiment.run import Run
from atoll.experiment.samples import Sample, TrafficReading, UsageReading
from atoll.experiment.summary import natural

Link = tuple[str, str]
"""The ends of one direction of a link: the sender and the receiver."""

Points = list[tuple[float, float]]
"""A curve: times in seconds from the start of the measured operations, each with a value."""


@dataclass(frozen=True)
class LinkTotal:
    """The traffic of one direction of a link during the measured operations.

    Attributes:
        packets: the number of IP packets that the sender sent.
        bytes: their bytes.
        dropped: the number of those packets that did not arrive.
    """

    packets: int
    bytes: int
    dropped: int


@dataclass(frozen=True)
class SiteTotal:
    """The use of processors and memory by one site during the measured operations.

    Attributes:
        cpu_s: processor seconds.
        seconds: the time in which they were used.
        peak_mb: the largest memory that was read, in megabytes; `None` if no reading has the memory.
    """

    cpu_s: float
    seconds: float
    peak_mb: float | None


def link_totals(readings: Iterable[TrafficReading]) -> dict[Link, LinkTotal]:
    """Return the traffic of each direction of each link during the measured operations."""
    found = {}
    for link, own in _by_link(readings).items():
        first, last = _start(own), own[-1]
        found[link] = LinkTotal(last.packets - first.packets, last.bytes - first.bytes, last.dropped - first.dropped)
    return found


def site_totals(readings: Iterable[UsageReading]) -> dict[str, SiteTotal]:
    """Return the use of processors and memory by each site during the measured operations."""
    found = {}
    for site, own in _by_site(readings).items():
        first, last = _start(own), own[-1]
        sizes = [each.memory_mb for each in own if each.memory_mb is not None and each.at_s >= first.at_s]
        found[site] = SiteTotal(round(last.cpu_s - first.cpu_s, 3), round(last.at_s - first.at_s, 3), max(sizes, default=None))
    return found


_Read = TypeVar("_Read", TrafficReading, UsageReading)
_Key = TypeVar("_Key")
_Total = TypeVar("_Total")


def _start(readings: Sequence[_Read]) -> _Read:
    """Return the reading that was taken when the measured operations began."""
    return min(readings, key=lambda each: abs(each.at_s))


def _by_link(readings: Iterable[TrafficReading]) -> dict[Link, list[TrafficReading]]:
    found: dict[Link, list[TrafficReading]] = {}
    for reading in readings:
        found.setdefault((reading.source, reading.target), []).append(reading)
    return found


def _by_site(readings: Iterable[UsageReading]) -> dict[str, list[UsageReading]]:
    found: dict[str, list[UsageReading]] = {}
    for reading in readings:
        found.setdefault(reading.site, []).append(reading)
    return found


def traffic_curves(readings: Iterable[TrafficReading], name: str) -> dict[str, Points]:
    """Return the rate of a counter over time, for each direction of each link that carried anything.

    Args:
        readings: the readings of a cell.
        name: the name of the counter: "packets", "bytes" or "dropped".
    """
    links = _by_link(readings)
    counts = {" to ".join(link): [(each.at_s, float(getattr(each, name))) for each in own] for link, own in links.items()}
    return {label: _rates(points) for label, points in counts.items() if points[-1][1] > points[0][1]}


def cpu_curves(readings: Iterable[UsageReading]) -> dict[str, Points]:
    """Return the processor use of each site over time, in cores."""
    return {site: _rates([(each.at_s, each.cpu_s) for each in own]) for site, own in _by_site(readings).items()}


def memory_curves(readings: Iterable[UsageReading]) -> dict[str, Points]:
    """Return the memory of each site over time, in megabytes."""
    sites = _by_site(readings).items()
    return {site: [(each.at_s, each.memory_mb) for each in own if each.memory_mb is not None] for site, own in sites}


def _rates(counts: Sequence[tuple[float, float]]) -> Points:
    """Return the growth of a counter per second, at the end of each interval between two readings."""
    return [(at, (count - before) / (at - since)) for (since, before), (at, count) in pairwise(counts) if at > since]


def throughput_curves(samples: Sequence[Sample], bins: int = 60) -> dict[str, Points]:
    """Return the operations that ended per second over time, by operation, and those that failed.

    Times are the starts of intervals, and the end of the last.

    Args:
        samples: the operations of a cell.
        bins: the greatest number of intervals into which the time is divided; an interval is at least one second long.
    """
    if not samples:
        return {}
    end_s = max(sample.ended_s for sample in samples)
    width_s = max(1.0, end_s / bins)
    count = int(end_s / width_s) + 1
    found: dict[str, list[int]] = {}
    for sample in samples:
        label = sample.operation if sample.ok else "failed"
        found.setdefault(label, [0] * count)[int(max(0.0, sample.ended_s) / width_s)] += 1
    # The last count is repeated, so that steps end with the last interval.
    return {
        label: [(number * width_s, each / width_s) for number, each in enumerate([*counts, counts[-1]])] for label, counts in found.items()
    }


@dataclass
class Use:
    """The use of links, processors and memory in all repetitions of one combination of factors.

    Attributes:
        label: the factors as a text.
        cells: the number of cells.
        operations: the number of served operations in all cells.
        links: the traffic of each direction of each link, of each cell.
        sites: the use of processors and memory by each site, of each cell.
        sampler_shares: the processor time of each cell's sampler, as a share of one core.
    """

    label: str
    cells: int = 0
    operations: int = 0
    links: dict[Link, list[LinkTotal]] = field(default_factory=dict)
    sites: dict[str, list[SiteTotal]] = field(default_factory=dict)
    sampler_shares: list[float] = field(default_factory=list)

    def bytes_of(self, link: Link) -> float:
        """Return the bytes that a direction of a link carried in a cell, on average."""
        return fmean(each.bytes for each in self.links[link])

    def packets_of(self, link: Link) -> float:
        """Return the packets that a direction of a link carried in a cell, on average."""
        return fmean(each.packets for each in self.links[link])

    @property
    def bytes(self) -> float:
        """The bytes that all links carried in a cell, on average; a packet over two links counts twice."""
        return sum(map(self.bytes_of, self.links))

    @property
    def packets(self) -> float:
        """The packets that all links carried in a cell, on average; a packet over two links counts twice."""
        return sum(map(self.packets_of, self.links))


def uses(run: Run) -> list[Use]:
    """Return the use of each combination of factors of the finished cells that have readings, sorted by label."""
    states, found = run.states(), dict[str, Use]()
    for cell in run.cells:
        if states[cell.id].state != "done":
            continue
        links, sites = link_totals(run.traffic(cell)), site_totals(run.usage(cell))
        if not links and not sites:
            continue
        use = found.setdefault(cell.label, Use(cell.label))
        use.cells += 1
        use.operations += sum(sample.ok for sample in run.samples(cell))
        _append(use.links, links)
        _append(use.sites, sites)
        if (share := states[cell.id].facts.get("sampler_share")) is not None:
            use.sampler_shares.append(float(share))
    return sorted(found.values(), key=lambda use: natural(use.label))


def _append(lists: dict[_Key, list[_Total]], totals: Mapping[_Key, _Total]) -> None:
    for key, total in totals.items():
        lists.setdefault(key, []).append(total)
