"""The control traffic of the periodic update of a host's resources, and of a boot, on a host with many guests."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atoll.bench import workload
from atoll.bench.api import refused
from atoll.bench.failure import failed
from atoll.bench.traffic.operations import SETTLE_S, Actor, TracedOperation
from atoll.bench.traffic.stage import EDGE
from atoll.bench.waiting import wait_until
from atoll.site import traces
from atoll.trace.counts import count
from atoll.trace.tree import Trace

NAME = re.compile(r"periodic \w+\.update_available_resource")
"""The name of the task's span. It contains the class of nova-compute's manager, which is another one with reduced traffic."""

PERIOD_S = 60
"""Seconds between two updates: a constant, because Nova reads the option before the configuration is loaded."""

MAX_GUESTS = 1000
"""Greatest number of guests: that of servers in one list."""

_LATEST = 1000
"""Number of traces among which an update is looked for."""

_AT_ONCE = 4


def fill(actor: Actor, guests: int) -> None:
    """Boot guests on the compute site until it has as many, and wait until all are ACTIVE.

    Raises:
        AtollError: `bench.failed`: a guest was refused, or went to ERROR.
    """
    there = len(_servers(actor))

    def create(number: int) -> None:
        body = workload.server_body(actor.tenancy, f"guest-{number}")
        body["server"]["host"] = EDGE
        answer = actor.quiet("compute", "POST", "/servers", body)
        if not answer.ok:
            raise refused(f"guest {number}", answer)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(create, range(there, guests)))
    wait_until(lambda: _all_active(actor, guests), f"{guests} guests ACTIVE", 60 + workload.BOOT_TIMEOUT_S * guests / 10, 1)


def _servers(actor: Actor, status: str = "") -> list[dict[str, Any]]:
    """Return the servers in a state, or all, without their details: a list with details causes requests to Neutron."""
    query = f"&status={status}" if status else ""
    servers: list[dict[str, Any]] = actor.quiet("compute", "GET", f"/servers?limit={MAX_GUESTS}{query}").body["servers"]
    return servers


def _all_active(actor: Actor, guests: int) -> bool:
    if failures := len(_servers(actor, "ERROR")):
        raise failed(f"{failures} of {guests} guests went to ERROR")
    return len(_servers(actor, "ACTIVE")) >= guests


def measure(actors: Sequence[Actor]) -> dict[str, dict[str, Any]]:
    """Return the figures of the next update of the compute site's resources, of each cloud."""
    since = time.time_ns()
    wait_until(lambda: all(_update(each, since) for each in actors), "the hosts' resources are updated", 3 * PERIOD_S, 2)
    time.sleep(SETTLE_S)
    return {actor.name: _figures(actor, since) for actor in actors}


def boot(actor: Actor) -> TracedOperation:
    """Boot one more server on the compute site, delete it, and return the boot."""
    sample = actor.boot(EDGE)
    time.sleep(SETTLE_S)
    actor.delete()
    time.sleep(SETTLE_S)
    return sample


def _figures(actor: Actor, since: int) -> dict[str, Any]:
    found = _update(actor, since)
    if found is None:
        raise failed("the trace of the update of the host's resources is not whole")
    return {**count([found]).to_json(), "wall_s": round((found.answered - found.start) / 1e9, 4)}


def _update(actor: Actor, since: int) -> Trace | None:
    """Return the trace of an update of the compute site's resources that began after a time, in nanoseconds since 1970."""
    for each in traces.summaries(actor.state, _LATEST):
        if each.start > since:
            found = traces.find(actor.state, each.trace)[0]
            if NAME.fullmatch(found.roots[0].span.name) and found.roots[0].span.site == EDGE:
                return found
    return None
