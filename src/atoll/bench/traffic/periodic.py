"""The control traffic of the periodic update of a host's resources, by the number of its guests."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atoll.bench import workload
from atoll.bench.failure import failed
from atoll.bench.progress import Say
from atoll.bench.traffic.operations import SETTLE_S, Actor
from atoll.bench.traffic.stage import EDGE
from atoll.bench.waiting import wait_until
from atoll.site import traces
from atoll.trace.counts import count
from atoll.trace.tree import Trace

NAME = re.compile(r"periodic \w+\.update_available_resource")
"""The name of the task's span. It contains the class of nova-compute's manager, which is another one with reduced traffic."""

PERIOD_S = 60
"""Seconds between two updates: a constant, because Nova reads the option before the configuration is loaded."""

_AT_ONCE = 4
_LATEST = 1000


def measure(actors: Sequence[Actor], guests: int, say: Say) -> dict[str, dict[str, Any]]:
    """Boot guests on the compute site until it has as many, and measure the next update of its resources.

    Args:
        actors: a client of each cloud.
        guests: the number of guests.
        say: called with a line about the progress.
    """
    say(f"{guests} guests on the compute site")
    for actor in actors:
        _fill(actor, guests)
    since = time.time_ns()
    wait_until(lambda: all(_update(each, since) for each in actors), "the hosts' resources are updated", 2 * PERIOD_S, 2)
    time.sleep(SETTLE_S)
    return {actor.name: _figures(actor, since) for actor in actors}


def _fill(actor: Actor, guests: int) -> None:
    there = len(_servers(actor))

    def create(number: int) -> None:
        body = workload.server_body(actor.tenancy, f"guest-{number}")
        body["server"]["host"] = EDGE
        answer = actor.quiet("compute", "POST", "/servers", body)
        if not answer.ok:
            raise failed(f"guest {number}: HTTP {answer.status}")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(create, range(there, guests)))
    wait_until(lambda: _all_active(actor, guests), f"{guests} guests ACTIVE", 60 + workload.BOOT_TIMEOUT_S * guests / 10, 1)


def _servers(actor: Actor) -> list[dict[str, Any]]:
    servers: list[dict[str, Any]] = actor.quiet("compute", "GET", "/servers/detail?limit=1000").body["servers"]
    return servers


def _all_active(actor: Actor, guests: int) -> bool:
    found = [each["status"] for each in _servers(actor)]
    if "ERROR" in found:
        raise failed(f"{found.count('ERROR')} of {guests} guests went to ERROR")
    return found.count("ACTIVE") >= guests


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
