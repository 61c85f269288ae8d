"""`atoll bench cloud`: all its measurements, for each number of sites."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atoll.bench import workload
from atoll.bench.cloud import agreement, gateway, images, lists
from atoll.bench.cloud.stage import Stage, stage
from atoll.bench.measure import Say


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        sizes: numbers of sites, each a cloud anew.
        rtt_ms: between any two sites.
        requests: of each kind, for the gateway's own cost.
        boots: of each kind.
        servers: of the long list.
        idle_s: for how long the background is looked at, in seconds.
        apart_s: for how long two halves are apart, in seconds.
        changes: on each side meanwhile.
        image_mib: size of the image that is brought along.
        cut_s: of its cut, in seconds.
        only: the names of what to measure, of `MEASURES`; empty: all.
    """

    sizes: tuple[int, ...] = (3, 10)
    rtt_ms: float = 100.0
    requests: int = 400
    boots: int = 8
    servers: int = 1000
    idle_s: float = 60.0
    apart_s: float = 600.0
    changes: int = 1000
    image_mib: int = 1024
    cut_s: float = 10.0
    only: tuple[str, ...] = ()


Measure = Callable[[Stage, workload.Tenancy, Options, Say], dict[str, Any]]

MEASURES: dict[str, tuple[str, Measure]] = {
    "background": ("an idle cloud's background", lambda made, _tenancy, options, _say: gateway.background(made, options.idle_s)),
    "gateway": ("the gateway's own cost", lambda made, _tenancy, options, _say: gateway.own_cost_ms(made, options.requests)),
    "boots": ("boots here", lambda made, tenancy, options, _say: gateway.local_boots(made, tenancy, options.boots)),
    "remote-boots": ("boots at another site", lambda made, tenancy, options, _say: gateway.remote_boots(made, tenancy, options.boots)),
    "identity": ("a change of identity", lambda made, _tenancy, _options, _say: agreement.identity(made, 10)),
    "image": (
        "an image for another site",
        lambda made, tenancy, options, say: images.pull(made, tenancy, options.image_mib, options.cut_s, say),
    ),
    "list": ("a list of {servers} servers", lambda made, tenancy, options, _say: lists.union(made, tenancy, options.servers, 5)),
    "apart": (
        "two halves apart",
        lambda made, _tenancy, options, say: agreement.after_separation(made, options.apart_s, options.changes, say),
    ),
}
"""What is measured, in this order: what it is called, what is said of it, and how."""


def run(options: Options, root: Path, environment: Mapping[str, str], say: Say) -> dict[str, Any]:
    """Measure each size.

    Args:
        options: how much.
        root: a directory of the experiment's own.
        environment: of the commands.
        say: told what goes on.

    Returns:
        The numbers of the largest cloud, and those of each size in `samples`.

    Raises:
        AtollError: `bench.failed`.
    """
    samples = []
    for size in options.sizes:
        say(f"{size} sites")
        with stage(root / str(size), size, options.rtt_ms, environment) as made:
            samples.append({"sites": size, "rtt_ms": options.rtt_ms, **_measure(made, options, say)})
    return {**max(samples, key=lambda sample: sample["sites"]), "samples": samples}


def _measure(made: Stage, options: Options, say: Say) -> dict[str, Any]:
    tenancy = workload.prepare(made.api(made.names[0]))
    found: dict[str, Any] = {}
    for name, (text, measure) in MEASURES.items():
        if name in (options.only or MEASURES):
            say(text.format(**asdict(options)))
            numbers = measure(made, tenancy, options, say)
            # What was measured is told at once: hours of it are not lost if a later part is given up.
            say(json.dumps(numbers))
            found |= numbers
    return found
