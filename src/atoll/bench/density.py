"""`atoll bench density`: how many full sites, each in its own network, one machine holds, and how the cost grows with them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atoll.bench.command import atoll, pids
from atoll.bench.measure import Say, memory_mb, processor_percent
from atoll.cloud import Cloud, dump_cloud
from atoll.site.state import State

FITTED = ("ready_s", "memory_mb", "idle_cpu_percent")
"""The numbers whose growth is fitted."""


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        sizes: numbers of sites, each measured in a cloud of its own.
        settle_s: rest before memory and idle processor time are looked at, in seconds.
        idle_s: for how long idleness is looked at, in seconds.
        delay_ms: of each link, one way, in milliseconds.
    """

    sizes: tuple[int, ...] = (1, 5, 10, 20, 40)
    settle_s: float = 20.0
    idle_s: float = 30.0
    delay_ms: float = 10.0


@dataclass(frozen=True)
class Sample:
    """One size.

    Attributes:
        sites: how many.
        ready_s: from the command to its end, when all processes of all sites are ready, in seconds.
        memory_mb: proportional set size of everything, in 10^6 bytes: sites, fork servers, supervisor, WAN.
        idle_cpu_percent: of one core, of everything.
        processes: of everything.
    """

    sites: int
    ready_s: float
    memory_mb: float
    idle_cpu_percent: float
    processes: int

    def to_json(self) -> dict[str, Any]:
        """The fields, and those that are per site."""
        return {
            **asdict(self),
            "memory_per_site_mb": round(self.memory_mb / self.sites, 1),
            "idle_cpu_percent_per_site": round(self.idle_cpu_percent / self.sites, 3),
            "ready_per_site_s": round(self.ready_s / self.sites, 2),
        }


def run(options: Options, root: Path, environment: Mapping[str, str], say: Say) -> dict[str, Any]:
    """Measure each size.

    Args:
        options: how much.
        root: a directory of the experiment's own.
        environment: of the commands.
        say: told what goes on.

    Returns:
        With one size its numbers; with more, `samples`, and by `FITTED` name the `exponents` of the growth: 1 is a cost in proportion.

    Raises:
        AtollError: `bench.failed`.
    """
    samples = [_measure(size, options, root / f"{size}", environment, say) for size in options.sizes]
    if len(samples) == 1:
        return samples[0].to_json()
    return {"samples": [sample.to_json() for sample in samples], "exponents": exponents(samples)}


def exponents(samples: Sequence[Sample]) -> dict[str, float]:
    """By name, the k of a cost that grows like sites^k: the slope of a least-squares line through the logarithms."""
    sites = [math.log(sample.sites) for sample in samples]
    found = {}
    for name in FITTED:
        values = [getattr(sample, name) for sample in samples]
        if len(set(sites)) > 1 and min(values) > 0:
            found[name] = round(statistics.linear_regression(sites, [math.log(value) for value in values]).slope, 2)
    return found


def _measure(size: int, options: Options, root: Path, environment: Mapping[str, str], say: Say) -> Sample:
    root.mkdir()
    state, file = State(root / "s"), root / "cloud.yaml"
    sites = [{"name": f"site-{number}", "compute": "fake"} for number in range(1, size + 1)]
    cloud = {"name": "density", "sites": sites, "topology": {"preset": "mesh", "defaults": {"delay": f"{options.delay_ms}ms"}}}
    file.write_text(dump_cloud(Cloud.model_validate(cloud)), encoding="utf-8")
    say(f"{size} full sites")
    begun = time.monotonic()
    atoll(state, root / "commands.log", environment, "up", str(file))
    ready_s = time.monotonic() - begun
    try:
        time.sleep(options.settle_s)
        idle = processor_percent(lambda: pids(state), options.idle_s)
        running = pids(state)
        return Sample(size, round(ready_s, 2), memory_mb(running), idle, len(running))
    finally:
        atoll(state, root / "commands.log", environment, "destroy", "--yes")
