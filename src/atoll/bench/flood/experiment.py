"""`atoll bench flood`: measures honest clients' latency during a flood of slow connections and junk requests at the public ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from atoll.bench.cloud.stage import MeasuredCloud, measured_cloud
from atoll.bench.failure import failed
from atoll.bench.flood.honest import HonestClient, asking, quantiles
from atoll.bench.workspace import Workspace

SETTLE_S = 2.0
"""Seconds after each change between calm and flood that are not measured."""

MOST_LATE = 0.05
"""Greatest share of the attacker's requests that may be late, from 0 to 1; with more, the flood is weaker than requested."""


@dataclass(frozen=True)
class FloodOptions:
    """The size of the experiment.

    Attributes:
        sites: the number of sites.
        rtt_ms: the round trip between any two sites, in milliseconds.
        rounds: the number of rounds of the three conditions: calm, a flood at one site, a flood at each site.
        seconds: the length of each condition in seconds.
        slow: the number of slow connections that the attacker keeps open at each attacked site.
        rate: the number of requests per second at each attacked site.
        sources: the number of the attacker's source addresses.
    """

    sites: int = 3
    rtt_ms: float = 20.0
    rounds: int = 3
    seconds: float = 20.0
    slow: int = 200
    rate: float = 1000.0
    sources: int = 20


class Attacker:
    """The process of the attacker.

    Args:
        process: a running `atoll.bench.flood.attacker`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def attack(self, *sites: str) -> dict[str, dict[str, int]]:
        """Attack only these sites from now on; return the counts of the previous attack, by site.

        Raises:
            AtollError: `bench.failed`: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(",".join(sites) + "\n")
            self._process.stdin.flush()
            done: dict[str, dict[str, int]] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise failed("the attacker's process has ended") from None
        return done

    def end(self) -> None:
        """End the attacker's process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


@contextmanager
def attacking(made: MeasuredCloud, options: FloodOptions) -> Iterator[Attacker]:
    """Start an attacker, idle at first; yield it, and end it when the context ends."""
    networks = {site: made.network(site) for site in made.names}
    targets = {site: (networks[site], made.settings(site).host, made.settings(site).ports["gateway"]) for site in made.names}
    arguments = {"targets": targets, "rate": options.rate, "slow": options.slow, "sources": options.sources}
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "atoll.bench.flood.attacker", json.dumps(arguments)]
    attacker = Attacker(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, pass_fds=tuple(networks.values())))
    try:
        yield attacker
    finally:
        attacker.end()
        for network in networks.values():
            os.close(network)


def run(options: FloodOptions, work: Workspace) -> dict[str, Any]:
    """Run the whole experiment.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        The report: latency ratios between a site under attack and a calm site, latencies in milliseconds, and numbers of requests.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    with measured_cloud(work.root / "flood", options.sites, options.rtt_ms, work.environment) as made, attacking(made, options) as attacker:
        first = made.names[0]
        conditions: dict[str, tuple[str, ...]] = {"calm": (), "one": (first,), "each": made.names}
        samples: dict[str, dict[str, list[float]]] = {name: {site: [] for site in made.names} for name in conditions}
        refused = dict.fromkeys(conditions, 0)
        done: dict[str, int] = {}
        with asking(made) as clients:
            time.sleep(SETTLE_S)  # the first requests fill caches
            for round_ in range(options.rounds):
                for condition, attacked in conditions.items():
                    work.say(f"round {round_ + 1} of {options.rounds}: {condition}")
                    attacker.attack(*attacked)
                    refused[condition] += _watch(clients, samples[condition], options.seconds)
                    for counts in attacker.attack(*attacked).values():
                        for name, count in counts.items():
                            done[name] = max(done.get(name, 0), count) if name == "slow" else done.get(name, 0) + count
        return _report(options, first, samples, refused, done)


def _watch(clients: Mapping[str, HonestClient], into: dict[str, list[float]], seconds: float) -> int:
    """Collect the samples of `seconds` seconds, and return the number of failed requests."""
    time.sleep(SETTLE_S)
    before = {site: (len(client.samples), client.failed) for site, client in clients.items()}
    time.sleep(seconds)
    for site, client in clients.items():
        into[site] += client.samples[before[site][0] :]
    return sum(client.failed - before[site][1] for site, client in clients.items())


def _report(
    options: FloodOptions, first: str, samples: dict[str, dict[str, list[float]]], refused: dict[str, int], done: dict[str, int]
) -> dict[str, Any]:
    numbers = {name: {site: quantiles(each) for site, each in sites.items()} for name, sites in samples.items()}
    if done.get("late", 0) > MOST_LATE * done["requests"]:
        raise failed(f"the attacker was too slow: {done['late']} requests were not sent in time, and {done['requests']} were")

    def ratio(condition: str, site: str, quantile: str) -> float:
        return round(float(numbers[condition][site][quantile] / numbers["calm"][site][quantile]), 2)

    sites = list(samples["calm"])
    others = [site for site in sites if site != first]
    return {
        "attacked_p50_ratio": ratio("one", first, "p50_ms"),
        "attacked_p99_ratio": ratio("one", first, "p99_ms"),
        "others_p50_ratio": max(ratio("one", site, "p50_ms") for site in others),
        "others_p99_ratio": max(ratio("one", site, "p99_ms") for site in others),
        "each_p50_ratio": max(ratio("each", site, "p50_ms") for site in sites),
        "each_p99_ratio": max(ratio("each", site, "p99_ms") for site in sites),
        "calm_p50_ms": max(numbers["calm"][site]["p50_ms"] for site in sites),
        "calm_p99_ms": max(numbers["calm"][site]["p99_ms"] for site in sites),
        "honest_failures": refused["one"] + refused["each"],
        "rubbish_requests": done["requests"],
        "rubbish_late": done.get("late", 0),
        "rubbish_refused_connections": done["refused"],
        "slow_connections": done["slow"],
        "samples": numbers,
    }
