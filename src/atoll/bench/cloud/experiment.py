"""The experiment `atoll bench cloud`: runs all measurements for each number of sites."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from atoll.bench import workload
from atoll.bench.cloud import agreement, gateway, images, lists
from atoll.bench.cloud.stage import MeasuredCloud, measured_cloud
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace


@dataclass(frozen=True)
class CloudOptions:
    """The size of the experiment.

    Attributes:
        sizes: the numbers of sites; each is measured in a new cloud.
        rtt_ms: the round trip between any two sites, in milliseconds.
        requests: the number of requests of each kind by which the gateway's own cost is measured.
        boots: the number of boots of each kind: at the user's own site, and at another site.
        servers: the number of servers in the long list.
        idle_s: seconds of the measurement of background traffic.
        apart_s: seconds of the separation of two halves.
        changes: the number of changes on each side during the separation.
        image_mib: the size of the copied image in MiB.
        cut_s: seconds of the cut during the copy.
        only: the names of the measurements to run, from `MEASURES`; empty for all.
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


Measure = Callable[[MeasuredCloud, workload.Tenancy, CloudOptions, Say], dict[str, Any]]

MEASURES: dict[str, tuple[str, Measure]] = {
    "background": ("background traffic of an idle cloud", lambda made, _tenancy, options, _say: gateway.background(made, options.idle_s)),
    "gateway": (
        "the time that the gateway adds to a request",
        lambda made, _tenancy, options, _say: gateway.own_cost_ms(made, options.requests),
    ),
    "boots": ("boots at the user's own site", lambda made, tenancy, options, _say: gateway.local_boots(made, tenancy, options.boots)),
    "remote-boots": ("boots at another site", lambda made, tenancy, options, _say: gateway.remote_boots(made, tenancy, options.boots)),
    "identity": (
        "the time until a change of identity is seen everywhere",
        lambda made, _tenancy, _options, _say: agreement.identity(made, 10),
    ),
    "image": (
        "the copy of an image to another site",
        lambda made, tenancy, options, say: images.pull(made, tenancy, options.image_mib, options.cut_s, say),
    ),
    "list": ("a list of {servers} servers", lambda made, tenancy, options, _say: lists.union(made, tenancy, options.servers, 5)),
    "apart": (
        "changes while two halves are separated",
        lambda made, _tenancy, options, say: agreement.after_separation(made, options.apart_s, options.changes, say),
    ),
}
"""The measurements in order, by name; each with its description in progress lines and its function."""


def run(options: CloudOptions, work: Workspace) -> dict[str, Any]:
    """Measure clouds of each size.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        The measured values of the largest cloud, and in `samples` the values of the cloud of each size.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    samples = []
    for size in options.sizes:
        work.say(f"{size} sites")
        with measured_cloud(work.root / str(size), size, options.rtt_ms, work.environment) as made:
            samples.append({"sites": size, "rtt_ms": options.rtt_ms, **_measure(made, options, work.say)})
    return {**max(samples, key=lambda sample: sample["sites"]), "samples": samples}


def _measure(made: MeasuredCloud, options: CloudOptions, say: Say) -> dict[str, Any]:
    tenancy = workload.prepare(made.api(made.names[0]))
    found: dict[str, Any] = {}
    for name, (text, measure) in MEASURES.items():
        if name in (options.only or MEASURES):
            say(text.format(**asdict(options)))
            numbers = measure(made, tenancy, options, say)
            # Each result is shown at once, so that it is not lost if a later measurement fails.
            say(json.dumps(numbers))
            found |= numbers
    return found
