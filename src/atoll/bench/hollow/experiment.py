"""The experiment: many hollow members in this process. They find each other, rest, lose and regain all links; then one of them dies."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from atoll.bench.failure import failed
from atoll.bench.hollow import members as material
from atoll.bench.hollow.clock import FairLoop
from atoll.bench.hollow.gateways import Gateways
from atoll.bench.hollow.hub import HUB, Hub
from atoll.bench.hollow.links import Network
from atoll.bench.hollow.wire import WireCost, measure
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace
from atoll.mesh.certificates import authority
from atoll.mesh.node import Mesh

KUBEEDGE_BITS_S = 250.0
"""Bits per second of an idle edge node that KubeEdge's authors report for a hub with 100,000 of them."""

_LOOK_S = 0.2


@dataclass(frozen=True)
class HollowOptions:
    """The size of the experiment.

    Attributes:
        sites: the number of members.
        gateways: the number of them that have a real gateway.
        settle_s: seconds of rest before the idle members are measured.
        idle_s: seconds of that measurement.
        cut_s: seconds for which all links are cut.
        ask_s: seconds for which gateways are asked before links come back, and after all members have found each other.
        patience_s: the longest wait for anything, in seconds.
        delay_ms: the one-way delay of each link in milliseconds.
        seed: the seed of the members' random choices.
    """

    sites: int = 1000
    gateways: int = 5
    settle_s: float = 20.0
    idle_s: float = 60.0
    cut_s: float = 200.0
    ask_s: float = 5.0
    patience_s: float = 600.0
    delay_ms: float = 10.0
    seed: int = 0


def run(options: HollowOptions, work: Workspace) -> dict[str, Any]:
    """Carry out the experiment.

    Args:
        options: the size of the experiment.
        work: the experiment's own directory, and what receives its progress.

    Raises:
        AtollError: `bench.failed`: members did not find each other in time.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load, begun = os.getloadavg()[0], time.monotonic()
    root, say = work.root, work.say
    say("a real link, to count its bytes")
    (root / "wire").mkdir()
    wire = asyncio.run(measure(root / "wire", authority(root / "wire" / "ca", material.CLOUD)))
    with _quiet_mesh(), asyncio.Runner(loop_factory=lambda: FairLoop(options.sites)) as runner:
        mesh, hub = runner.run(_measure(options, wire, root, say))
    hub_ratio = {name: _ratio(mesh[name], hub[name]) for name in ("converged_s", "idle_out_bits_s", "idle_in_bits_s")}
    return {
        "sites": options.sites,
        **mesh,
        "wire": asdict(wire),
        "hub": hub,
        "ratios": {**hub_ratio, "busiest_idle_out_bits_s": _ratio(mesh["idle_out_bits_s_most"], hub["hub_out_bits_s"])},
        "machine": {"cores": os.cpu_count(), "load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2)},
        "wall_s": round(time.monotonic() - begun, 1),
        "cpu_s": round(time.process_time(), 1),
    }


@contextmanager
def _quiet_mesh() -> Iterator[None]:
    """Log only errors of the mesh: when links come back, some messages are signed for an earlier link, and each of them would be logged."""
    log = logging.getLogger("atoll.mesh")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


async def _measure(options: HollowOptions, wire: WireCost, root: Path, say: Say) -> tuple[dict[str, Any], dict[str, Any]]:
    stage = HollowStage(options, wire, say)
    async with stage.members(root):
        mesh = await stage.measure()
    return mesh, await stage.hub()


class HollowStage:
    """The members, and what is measured of them.

    Args:
        options: the size of the experiment.
        wire: the cost of real links.
        say: called with a line about the progress.
    """

    def __init__(self, options: HollowOptions, wire: WireCost, say: Say) -> None:
        self._options = options
        self._wire = wire
        self._say = say
        self._network = Network(options.delay_ms / 1000)
        self._names = material.names_of(options.sites)
        self._gateways = Gateways(self._names[: options.gateways])
        self._nodes: dict[str, Mesh] = {}
        self._sizes: dict[str, float] = {}

    @asynccontextmanager
    async def members(self, root: Path) -> AsyncIterator[None]:
        """Create all members, and stop them at the end."""
        options, process = self._options, psutil.Process()
        self._say(f"certificates and cards of {options.sites} members")
        self._gateways.create_keys(root)
        cloud = material.create(root, self._names, self._gateways.ports())
        try:
            self._network.cut()  # until all are there
            before, begun = process.memory_info().rss, time.process_time()
            for name in self._names[options.gateways :]:
                self._nodes[name] = material.node_of(cloud, name, self._network, options.seed)
                await self._nodes[name].start()
            used = process.memory_info().rss - before
            await self._gateways.construct(cloud, self._network)
            await self._gateways.start()
            self._nodes |= {name: app.mesh for name, app in self._gateways.apps.items()}
            count = max(1, options.sites - options.gateways)
            self._sizes = {
                "node_mb": round(used / 1e6 / count, 3),
                "replica_mb": round(cloud.replica_mb, 3),
                "start_cpu_s": round((time.process_time() - begun) / options.sites, 4),
            }
            yield
        finally:
            own = [self._nodes[name] for name in self._nodes if name not in self._gateways.apps]
            await asyncio.gather(*(node.stop() for node in own), return_exceptions=True)
            await self._gateways.stop()

    async def measure(self) -> dict[str, Any]:
        """Carry out all steps with the members."""
        options = self._options
        self._say("all links come up at once")
        self._hurry(yes=True)
        self._network.heal()
        found = await self._until("members find each other", self._all_reach_all)
        report = {"converged_s": found.seconds, "converge_cpu_s": round(found.processor_s / options.sites, 4), **self._traffic("converge")}
        self._say(f"every member reaches all others after {found.seconds} s; now they rest")
        await asyncio.sleep(options.settle_s)
        report |= await self._idle()
        self._say("all links are cut, and come back at once")
        report |= await self._reconnect()
        self._say("a member dies")
        report |= await self._death()
        return {**report, **self._sizes, "neighbours": statistics.median(len(node.neighbours()) for node in self._nodes.values())}

    async def hub(self) -> dict[str, Any]:
        """Measure the competitor with as many members."""
        self._say("the same with a hub")
        self._hurry(yes=True)
        options = self._options
        network = Network(options.delay_ms / 1000)
        hub = Hub(network, self._names, random.Random(options.seed))
        try:
            await hub.start()
            found = await self._until("the hub's members know each other", hub.converged)
            await asyncio.sleep(min(options.settle_s, 5))
            sent, received = await self._rates(network, options.idle_s)
            bits = self._bits(sent, received, dict.fromkeys(self._names, 2) | {HUB: 2 * options.sites})
        finally:
            await hub.stop()
        hub_out, _hub_in = bits.pop(HUB)
        ways = list(zip(*bits.values(), strict=True))
        return {
            "converged_s": found.seconds,
            "idle_out_bits_s": round(statistics.mean(ways[0]), 1),
            "idle_in_bits_s": round(statistics.mean(ways[1]), 1),
            "hub_out_bits_s": round(hub_out, 1),
        }

    @staticmethod
    def _hurry(*, yes: bool) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(loop, FairLoop):
            loop.hurry(yes=yes)

    # Steps

    async def _idle(self) -> dict[str, Any]:
        begun, clock = time.process_time(), _now()
        sent, received = await self._rates(self._network, self._options.idle_s)
        cores = (time.process_time() - begun) / (_now() - clock)
        # Links in both directions: from a member to its neighbours, and from them.
        bits = self._bits(sent, received, {name: 2 * len(node.neighbours()) for name, node in self._nodes.items()})
        ways = list(zip(*bits.values(), strict=True))
        out, most = statistics.mean(ways[0]), max(ways[0])
        return {
            "idle_s": self._options.idle_s,
            "idle_out_bits_s": round(out, 1),
            "idle_in_bits_s": round(statistics.mean(ways[1]), 1),
            "idle_out_bits_s_most": round(most, 1),
            "idle_payload_bits_s": round(8 * statistics.mean(payload for _messages, payload in sent.values()), 1),
            "kubeedge_ratio": _ratio(out, KUBEEDGE_BITS_S),
            "idle_cpu_percent": round(100 * cores / self._options.sites, 4),
        }

    async def _reconnect(self) -> dict[str, Any]:
        options = self._options
        self._network.cut()
        await asyncio.sleep(options.cut_s)
        alone = sum(not any(node.reaches(name) for name in self._names) for node in self._nodes.values())
        self._hurry(yes=not options.gateways)
        async with self._gateways.asked() as while_cut:
            await asyncio.sleep(options.ask_s)
        before = self._network.counters.payload
        async with self._gateways.asked() as tally:
            self._network.heal()
            found = await self._until("members find each other again", self._all_reach_all)
            payload = self._network.counters.payload - before
            await asyncio.sleep(options.ask_s)
        self._hurry(yes=True)
        return {
            "alone_when_cut": alone,
            "reconnected_s": found.seconds,
            "reconnect_cpu_s": round(found.processor_s / options.sites, 4),
            "reconnect_kb": round(payload / options.sites / 1000, 2),
            "requests": sum(tally.statuses.values()),
            "request_errors": tally.errors,
            "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
            "whole_lists": tally.listed[True],
            "partial_lists": tally.listed[False],
            "request_p50_s": _quantile(tally.seconds, 0.5),
            "request_p99_s": _quantile(tally.seconds, 0.99),
            "statuses_when_cut": {str(status): count for status, count in sorted(while_cut.statuses.items())},
        }

    async def _death(self) -> dict[str, Any]:
        name = self._names[-1]
        victim = self._nodes.pop(name)
        await victim.stop()
        found = await self._until("a member's death is known", lambda: not any(node.reaches(name) for node in self._nodes.values()))
        return {"death_known_s": found.seconds}

    # Measuring

    def _all_reach_all(self) -> bool:
        return all(node.reaches(name) for node in self._nodes.values() for name in self._names if name != node.site)

    async def _until(self, what: str, holds: Callable[[], bool]) -> _Found:
        begun, processor = _now(), time.process_time()
        while not holds():
            if _now() - begun > self._options.patience_s:
                raise failed(f"{what}: not after {self._options.patience_s:g} s")
            await asyncio.sleep(_LOOK_S)
        return _Found(round(_now() - begun, 2), time.process_time() - processor)

    def _traffic(self, prefix: str) -> dict[str, Any]:
        counters = self._network.counters
        return {f"{prefix}_kb": round(counters.payload / self._options.sites / 1000, 2), f"{prefix}_links": counters.links}

    @staticmethod
    async def _rates(network: Network, seconds: float) -> tuple[_Rates, _Rates]:
        """Return the messages and payload bytes per second that each member sends, and those that it receives."""
        before = {name: (*network.sent[name], *network.received[name]) for name in network.sent}
        begun = _now()
        await asyncio.sleep(seconds)
        elapsed = _now() - begun
        sent, received = {}, {}
        for name, counts in before.items():
            now = (*network.sent[name], *network.received[name])
            grown = [(after - count) / elapsed for after, count in zip(now, counts, strict=True)]
            sent[name], received[name] = (grown[0], grown[1]), (grown[2], grown[3])
        return sent, received

    def _bits(self, sent: _Rates, received: _Rates, links: Mapping[str, int]) -> dict[str, tuple[float, float]]:
        """Return the bits per second on the wire, out and in, of each member."""
        wire, found = self._wire, {}
        for name, count in links.items():
            (out, out_bytes), (come, in_bytes) = sent[name], received[name]
            idle = wire.keep_alive_bits_s * count
            outward = 8 * (out_bytes + out * wire.per_message + come * wire.per_answer) + idle
            inward = 8 * (in_bytes + come * wire.per_message + out * wire.per_answer) + idle
            found[name] = outward, inward
        return found


def _now() -> float:
    """Return the time of the event loop in seconds."""
    return asyncio.get_running_loop().time()


_Rates = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class _Found:
    seconds: float
    processor_s: float


def _ratio(ours: float, theirs: float) -> float | None:
    return round(ours / theirs, 3) if theirs else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    """Return a quantile rounded to milliseconds, or `None` without values."""
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 3) if values else None
