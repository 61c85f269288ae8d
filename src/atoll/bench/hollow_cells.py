"""A cell that measures the mesh without OpenStack: many hollow members in this process (`atoll.bench.hollow`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from atoll.bench.cells import Records, Work
from atoll.bench.hollow import experiment
from atoll.bench.hollow.experiment import HollowOptions
from atoll.bench.progress import Say
from atoll.bench.workspace import workspace
from atoll.cloud.quantities import milliseconds

_OPERATIONS = {"converge": "converged_s", "reconnect": "reconnected_s", "death-known": "death_known_s"}
"""The durations that are operations, by the name of the operation."""

_VALUES = {
    "idle_out_bits_s": ("traffic that an idle member sends", "bit/s"),
    "idle_in_bits_s": ("traffic that an idle member receives", "bit/s"),
    "idle_out_bits_s_most": ("traffic that the busiest idle member sends", "bit/s"),
    "idle_cpu_percent": ("processor time of an idle member", "% of a core"),
    "node_mb": ("memory of a member's node", "MB"),
    "replica_mb": ("memory of a replica of the document", "MB"),
    "converge_kb": ("traffic of a member until all reach each other", "kB"),
    "reconnect_kb": ("traffic of a member after a cut of all links", "kB"),
    "neighbours": ("neighbours of a member", "members"),
    "requests": ("requests through gateways while links come back", "requests"),
    "request_errors": ("of these, answered with 5xx or not at all", "requests"),
}
"""The numbers that are not latencies, with their names and units."""

_HUB = {
    "idle_out_bits_s": ("traffic that an idle member of a hub sends", "bit/s"),
    "hub_out_bits_s": ("traffic that an idle hub sends", "bit/s"),
}


def run_cell(work: Work, environment: Mapping[str, str], records: Records, say: Say) -> dict[str, Any]:
    """Run the members of a cell, and record their durations and traffic.

    Durations are of the members' own clock, on which each of them has a processor of its own (`atoll.bench.hollow.clock`).

    Args:
        work: the work of the cell; its workload is `membership`.
        environment: the environment of further processes.
        records: the receivers of the data.
        say: called with lines about the progress.

    Returns:
        `wall_s`, the seconds that the cell took, and `cpu_s`, the processor seconds of all members together.

    Raises:
        AtollError: `bench.failed`: members did not find each other in time.
    """
    begun = time.monotonic()
    with workspace(environment, say) as space:
        found = experiment.run(options_of(work), space)
    record(found, str(work.cloud["sites"][0]["name"]), records)
    return {"wall_s": round(time.monotonic() - begun, 1), "cpu_s": found["cpu_s"]}


def options_of(work: Work) -> HollowOptions:
    """Return the options of the experiment of a cell."""
    parameters = work.parameters
    return HollowOptions(
        sites=len(work.cloud["sites"]),
        gateways=int(parameters["gateways"]),
        settle_s=float(parameters["settle_s"]),
        idle_s=float(parameters["idle_s"]),
        cut_s=float(parameters["cut_s"]),
        delay_ms=milliseconds(str(work.cloud["links"].get("delay", "0ms"))),
        seed=work.seed,
    )


def record(found: Mapping[str, Any], site: str, records: Records) -> None:
    """Record the results of the experiment as operations and as numbers.

    Args:
        found: the results.
        site: the name of the site to which operations of all members are counted.
        records: the receivers of the data.
    """
    for operation, name in _OPERATIONS.items():
        records.sample(operation, site, 0.0, 0.0, float(found[name]), True, "")
    records.sample("hub-converge", site, 0.0, 0.0, float(found["hub"]["converged_s"]), True, "")
    for source, names in ((found, _VALUES), (found["hub"], _HUB)):
        for name, (told, unit) in names.items():
            if source.get(name) is not None:
                records.value(told, unit, float(source[name]))
