"""Finished runs with synthetic samples, made for tests."""

import math
import random
from pathlib import Path

from atoll.experiment.document import parse_experiment
from atoll.experiment.machine import describe
from atoll.experiment.run import create
from atoll.experiment.runner import execute
from atoll.experiment.samples import Sample, TrafficReading, UsageReading, Value
from atoll.experiment.sweep import cells

TEXT = """\
name: distance
seed: 1
repetitions: 3
architectures:
- {kind: centralised, sites: 3}
- {kind: cooperative, sites: [3, 5]}
links: [{delay: [0ms, 25ms, 50ms, 100ms]}]
workloads:
  boot: {times: 5}
  token: {times: 20}
"""


def readings(sites):
    """Yield readings of 20 s in which each site uses 0.5 cores, and sends 10 packets of 100 bytes per second to the first site."""
    for at in range(-1, 21):
        for site in sites:
            yield UsageReading(at, site, 0.5 * (at + 1), 6, 400.0 + at if at % 5 == 0 else None)
            if site != sites[0]:
                yield TrafficReading(at, site, sites[0], 10 * (at + 1), 1000 * (at + 1), at + 1)


def make_run(base, slower=1.0, text=TEXT, fails=(), seed=0, flushes=None, lax=()):
    """Return a run in which operations at compute sites take 60 round trips, and others none.

    `flushes` has the settings by which databases flush, by their names; those in `lax` do not flush each commit.
    """
    experiment = parse_experiment(text, "x.yaml")
    run = create(base, {"name": experiment.name, "seed": experiment.seed, "machine": describe()}, cells(experiment, Path()), text)
    chance = random.Random(seed)

    def ground(cell, record, _say):
        if cell.id.partition("-")[0] in fails:
            raise ValueError("<b>no</b> site came up")
        rtt_s = 2 * float(cell.factors["delay"].removesuffix("ms")) / 1000
        for site in cell.cloud["sites"]:
            trips = 60 if cell.workload == "boot" and site.get("kind") == "compute" else 0
            for number in range(20):
                latency = slower * (0.9 + trips * rtt_s) * math.exp(chance.gauss(0, 0.1))
                record(
                    Sample(cell.workload, site["name"], number, number, number + latency, number != 19, "" if number != 19 else "HTTP 500")
                )
        for row in readings([site["name"] for site in cell.cloud["sites"]]):
            record(row)
        if cell.workload == "token":
            record(Value("idle traffic", "bit/s", 100.0 * len(cell.cloud["sites"]) + cell.repetition))
        told = {"flush": flushes[cell.database], "flushes_each_commit": cell.database not in lax} if flushes else {}
        return {"up_s": 12.3, "memory_mb": 800.5, "sampled_every_s": 1.0, "sampler_share": 0.02, **told}

    execute(run, ground, lambda _text: None)
    return run
