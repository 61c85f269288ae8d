"""`atoll bench density`: measures how many full sites, each in its own network, one machine can run, and how their costs grow."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atoll.bench.command import pids
from atoll.bench.own_cloud import own_cloud
from atoll.bench.processes import memory_mb, processor_percent
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace

FITTED = ("ready_s", "memory_mb", "idle_cpu_percent")
"""The costs for which a power law of their growth with the number of sites is fitted."""


@dataclass(frozen=True)
class DensityOptions:
    """The size of the experiment.

    Attributes:
        sizes: the numbers of sites; each is measured in a cloud of its own.
        settle_s: seconds to rest before memory and idle processor time are measured.
        idle_s: seconds of the measurement of idle processor time.
        delay_ms: the one-way delay of each link in milliseconds.
    """

    sizes: tuple[int, ...] = (1, 5, 10, 20, 40)
    settle_s: float = 20.0
    idle_s: float = 30.0
    delay_ms: float = 10.0


@dataclass(frozen=True)
class DensitySample:
    """The measurements with one number of sites.

    Attributes:
        sites: the number of sites.
        ready_s: seconds that `atoll up` took until all processes of all sites were ready.
        memory_mb: the proportional set size of sites, fork servers, supervisor and WAN, in 10^6 bytes.
        idle_cpu_percent: the processor time of all processes, as a percentage of one core.
        processes: the number of all processes.
    """

    sites: int
    ready_s: float
    memory_mb: float
    idle_cpu_percent: float
    processes: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the costs per site, ready for `json.dumps`."""
        return {
            **asdict(self),
            "memory_per_site_mb": round(self.memory_mb / self.sites, 1),
            "idle_cpu_percent_per_site": round(self.idle_cpu_percent / self.sites, 3),
            "ready_per_site_s": round(self.ready_s / self.sites, 2),
        }


def run(options: DensityOptions, work: Workspace) -> dict[str, Any]:
    """Measure clouds of each size.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        For one size, the measured values. For several sizes, `samples`, and the exponent of the growth of each cost in `FITTED`; 1 is
        linear.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    samples = [_measure(size, options, work.root / f"{size}", work.environment, work.say) for size in options.sizes]
    if len(samples) == 1:
        return samples[0].to_json()
    return {"samples": [sample.to_json() for sample in samples], "exponents": exponents(samples)}


def exponents(samples: Sequence[DensitySample]) -> dict[str, float]:
    """Return the k of each cost that grows as sites^k: the slope of a least-squares line through the logarithms."""
    sites = [math.log(sample.sites) for sample in samples]
    found = {}
    for name in FITTED:
        values = [getattr(sample, name) for sample in samples]
        if len(set(sites)) > 1 and min(values) > 0:
            found[name] = round(statistics.linear_regression(sites, [math.log(value) for value in values]).slope, 2)
    return found


def _measure(size: int, options: DensityOptions, root: Path, environment: Mapping[str, str], say: Say) -> DensitySample:
    root.mkdir()
    sites = [{"name": f"site-{number}", "compute": "fake"} for number in range(1, size + 1)]
    cloud = {"name": "density", "sites": sites, "topology": {"preset": "mesh", "defaults": {"delay": f"{options.delay_ms}ms"}}}
    say(f"{size} full sites")
    with own_cloud(root, cloud, environment) as own:
        time.sleep(options.settle_s)
        idle = processor_percent(lambda: pids(own.state), options.idle_s)
        running = pids(own.state)
        return DensitySample(size, round(own.up_s, 2), memory_mb(running), idle, len(running))
