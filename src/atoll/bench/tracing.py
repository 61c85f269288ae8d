"""`atoll bench trace`: measures the throughput, processor time and memory that recording requests costs.

Three clouds of one site each run side by side. They record no requests, 1 % and 100 % of the requests. The clouds do the same work in
turns, in an order that changes from round to round, and a ratio compares the turns of one round. So other load on the machine affects all
alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.command import pids
from atoll.bench.failure import failed
from atoll.bench.own_cloud import own_cloud
from atoll.bench.processes import memory_mb, processor_seconds
from atoll.bench.target import Target, await_answers
from atoll.bench.workspace import HOST, Workspace, free_ports
from atoll.site import traces
from atoll.site.sites import site_settings
from atoll.site.state import State

MODES: Mapping[str, Mapping[str, Any]] = {"off": {"enabled": False}, "1_percent": {"sample": 0.01}, "100_percent": {"sample": 1.0}}
"""The value of the key `trace` in each cloud's document, by the mode's name in the report."""

BASE = "off"
UP_TIMEOUT_S = 300.0
"""Seconds to wait for the first answers of a site."""

WRITTEN_S = 0.5
"""Seconds to wait after the last answer, so that all spans are written."""

_READS = (
    ("compute", "/servers/detail"),
    ("network", "/v2.0/ports"),
    ("image", "/v2/images"),
    ("compute", "/flavors"),
    ("identity", "/projects"),
)


@dataclass(frozen=True)
class TraceOptions:
    """The size of the experiment.

    Attributes:
        rounds: the number of rounds; in each, every cloud has one turn.
        requests: the number of reads in a turn.
        clients: the number of clients that send these reads at the same time.
        boots: the number of servers that are booted and deleted in a turn.
    """

    rounds: int = 10
    requests: int = 200
    clients: int = 4
    boots: int = 4


@dataclass
class _Site:
    """The one site of a cloud, and the samples of its turns."""

    state: State
    api: Api
    tenancy: workload.Tenancy
    reads_s: list[float]
    boots_s: list[float]
    processor_s: list[float]


def run(options: TraceOptions, work: Workspace) -> dict[str, Any]:
    """Run the whole experiment.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        The medians of each mode's values and, for each mode but `off`, the ratios of its values to those of `off`.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    with ExitStack() as held:
        sites = {}
        for (mode, trace), port in zip(MODES.items(), free_ports(len(MODES)), strict=True):
            work.say(f"a site with tracing {mode.replace('_', ' ')}")
            sites[mode] = held.enter_context(_site(mode, trace, port, work.root, work.environment))
        work.say("a first turn of each cloud, which does not count")
        for site in sites.values():
            _turn(site, options)
            _forget(site)
        for number in range(options.rounds):
            work.say(f"round {number + 1} of {options.rounds}")
            order = list(sites)[number % len(sites) :] + list(sites)[: number % len(sites)]
            for mode in order if number % 2 else reversed(order):
                _turn(sites[mode], options)
        return _report(sites, options)


@contextmanager
def _site(mode: str, trace: Mapping[str, Any], port: int, root: Path, environment: Mapping[str, str]) -> Iterator[_Site]:
    name = mode.replace("_", "-") if mode[0].isalpha() else f"traced-{mode.partition('_')[0]}"
    (root / mode).mkdir()
    document = {"sites": [{"name": name, "host": HOST, "port": port, "compute": "fake", "network": "fake"}], "trace": dict(trace)}
    with own_cloud(root / mode, document, environment) as cloud:
        settings = site_settings(cloud.state, name)
        target = Target(settings.url("identity", "/v3"), settings.secrets["admin"], name, lambda: pids(cloud.state))
        await_answers(target, lambda: None, UP_TIMEOUT_S)
        # Clients must use the gateway, where recording begins.
        api = Api(settings.public_url("identity", "/v3"), settings.secrets["admin"])
        api.sign_in()
        yield _Site(cloud.state, api, workload.prepare(api), [], [], [])


def _turn(site: _Site, options: TraceOptions) -> None:
    before = sum(processor_seconds(pids(site.state)).values())

    def read(number: int) -> None:
        service, path = _READS[number % len(_READS)]
        site.api.expect(service, "GET", path)

    begun = time.monotonic()
    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(read, range(options.requests)))
    site.reads_s.append(time.monotonic() - begun)
    begun = time.monotonic()
    for number in range(options.boots):
        server, _seconds = workload.boot(site.api, site.tenancy, f"traced-{number}", poll_s=0.02)
        workload.delete(site.api, [server])
    site.boots_s.append(time.monotonic() - begun)
    time.sleep(WRITTEN_S)
    site.processor_s.append(sum(processor_seconds(pids(site.state)).values()) - before)


def _forget(site: _Site) -> None:
    for samples in (site.reads_s, site.boots_s, site.processor_s):
        samples.clear()


def _report(sites: Mapping[str, _Site], options: TraceOptions) -> dict[str, Any]:
    report: dict[str, Any] = {"rounds": options.rounds, "requests": options.requests, "boots": options.boots}
    base = sites[BASE]
    for mode, site in sites.items():
        spans = sum(each.spans for each in traces.summaries(site.state, 1_000_000))
        if (spans > 0) != (mode != BASE) and mode != "1_percent":
            raise failed(f"tracing {mode.replace('_', ' ')} recorded {spans} spans")
        report[mode] = {
            "reads_per_s": round(options.requests / statistics.median(site.reads_s), 1),
            "boot_and_delete_s": round(statistics.median(site.boots_s) / options.boots, 3),
            "processor_s": round(statistics.median(site.processor_s), 3),
            "memory_mb": memory_mb(pids(site.state)),
            "spans": spans,
        }
        if mode != BASE:
            report[mode] |= {
                "reads_ratio": _ratio(base.reads_s, site.reads_s),
                "boots_ratio": _ratio(base.boots_s, site.boots_s),
                "processor_ratio": _ratio(site.processor_s, base.processor_s),
                "memory_ratio": round(report[mode]["memory_mb"] / report[BASE]["memory_mb"], 3),
            }
    return report


def _ratio(above: list[float], below: list[float]) -> float:
    """Return the median, over all rounds, of the ratio of two clouds' values in the same round."""
    return round(statistics.median(one / other for one, other in zip(above, below, strict=True)), 4)
