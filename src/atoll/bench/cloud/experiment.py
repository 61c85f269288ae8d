"""`atoll bench cloud`: all its measurements, for each number of sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    api = made.api(made.names[0])
    tenancy = workload.prepare(api)
    found: dict[str, Any] = {}
    say("an idle cloud's background")
    found |= gateway.background(made, options.idle_s)
    say("the gateway's own cost")
    found |= gateway.own_cost_ms(made, options.requests)
    say("boots here")
    found |= gateway.local_boots(made, tenancy, options.boots)
    say("boots at another site")
    found |= gateway.remote_boots(made, tenancy, options.boots)
    say("a change of identity")
    found |= agreement.identity(made, 10)
    say("an image for another site")
    found |= images.pull(made, tenancy, options.image_mib, options.cut_s, say)
    say(f"a list of {options.servers} servers")
    found |= lists.union(made, tenancy, options.servers, 5)
    say("two halves apart")
    return found | agreement.after_separation(made, options.apart_s, options.changes, say)
