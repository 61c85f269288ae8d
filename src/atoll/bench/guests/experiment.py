"""`atoll bench guests`: all its measurements, in one cloud of a site that runs guests and one that only says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atoll.bench.cloud.stage import Stage
from atoll.bench.command import atoll
from atoll.bench.guests import memory, places
from atoll.bench.guests.report import GUESTS, PORTS, summary
from atoll.bench.guests.serving import served
from atoll.bench.guests.tenancy import Boot, Guest, Tenancy
from atoll.bench.guests.traffic import AGENT_PORT, LOADS, End, Sample, await_agent, compiled, measure
from atoll.bench.measure import Say, processor_seconds
from atoll.cloud import Cloud, dump_cloud
from atoll.guest import build
from atoll.services import Settings
from atoll.site.machine import obstacle
from atoll.site.state import State, default_cache

REAL, FAKE = "real", "fake"
"""The names of the sites."""

PATIENCE_S = 180.0
"""Seconds that a guest may take to answer, or to fetch a program: without KVM, on a machine that others use too."""

SCRIPT = """#!/bin/sh
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    timeout 60 wget -q -O traffic {url} && break
    sleep 1
done
chmod 700 traffic
exec ./traffic agent {port}
"""
"""What the guests do between which traffic is measured."""


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        guests: how many are booted, one by one; traffic is between the first two.
        rounds: how often each kind of traffic is measured on each path.
        seconds: for how long.
    """

    guests: int = 4
    rounds: int = 3
    seconds: float = 3.0


def run(options: Options, root: Path, environment: Mapping[str, str], say: Say) -> dict[str, Any]:
    """Do the whole experiment.

    Args:
        options: how much.
        root: a directory of the experiment's own.
        environment: of the commands.
        say: told what goes on.

    Returns:
        The numbers.

    Raises:
        AtollError: `guests.unavailable`, `image.*`, `bench.requirement`, `bench.failed`.
    """
    why_not = obstacle()
    if why_not is not None:
        raise why_not
    program = compiled(root)
    image = build(default_cache(), None, say).path
    say("two sites")
    with _stage(root, environment) as stage, ExitStack() as stack:
        before = {site: memory.of_site(stage.state, site) for site in stage.names}
        real, fake = (Tenancy(stage, site, image) for site in stage.names)
        guests, boots = _boot(real, program, stack, options, say)
        say(f"{options.guests} servers at the other site")
        for number in range(options.guests):
            fake.boot(f"guest-{number + 1}", PATIENCE_S)
        after = {site: memory.of_site(stage.state, site) for site in stage.names}
        pairs = _pairs(real, guests, program, stack, say)
        (switch,) = memory.processes(stage.state, REAL)["vswitchd"]
        traffic = _traffic(pairs, switch, options, say)
        facts = _facts(stage.settings(REAL))
    return summary(asdict(options) | facts, boots, traffic, before, after)


@contextmanager
def _stage(root: Path, environment: Mapping[str, str]) -> Iterator[Stage]:
    """The cloud; it is destroyed in the end, guests too."""
    state, file, log = State(root / "s"), root / "cloud.yaml", root / "commands.log"
    sites = [{"name": REAL, "compute": "libvirt"}, {"name": FAKE, "compute": "fake"}]
    file.write_text(dump_cloud(Cloud.model_validate({"name": "bench", "sites": sites, "topology": {"preset": "mesh"}})))
    try:
        atoll(state, log, environment, "up", str(file))
        stage = Stage(state, (REAL, FAKE), 0, environment, log)
        stage.await_joined()
        yield stage
    finally:
        atoll(state, log, environment, "destroy", "--yes")


def _boot(real: Tenancy, program: Path, stack: ExitStack, options: Options, say: Say) -> tuple[list[Guest], list[Boot]]:
    """Guests one by one; the first two then have an agent each."""
    url = stack.enter_context(served(program, real.network, real.outside))
    guests, boots = [], []
    for number in range(options.guests):
        say(f"guest {number + 1} of {options.guests}")
        speaks = number < 2
        guest, boot = real.boot(f"guest-{number + 1}", PATIENCE_S, SCRIPT.format(url=url, port=AGENT_PORT) if speaks else "")
        if speaks:
            await_agent(_end(real, guest), PATIENCE_S)  # so that the next one has the machine for itself
        guests.append(guest)
        boots.append(boot)
    return guests, boots


def _end(tenancy: Tenancy, guest: Guest) -> End:
    return End(tenancy.network, guest.floating, guest.port.address)


def _pairs(real: Tenancy, guests: list[Guest], program: Path, stack: ExitStack, say: Say) -> dict[str, places.Pair]:
    """What is compared, by name, those that have most to do first."""
    say("a veth pair, a bridge and two ports")
    for guest in guests[2:]:
        real.delete(guest)
    settings = real.settings
    ports = tuple(real.port(**{"binding:host_id": settings.site}) for _ in range(2))
    pairs = {
        GUESTS: (_end(real, guests[0]), _end(real, guests[1])),
        PORTS: stack.enter_context(places.plugged(program, settings, real.network, (ports[0], ports[1]))),
        "bridge": stack.enter_context(places.bridge(program)),
        "veth": stack.enter_context(places.veth(program)),
    }
    for port in ports:
        real.await_port(port, PATIENCE_S)
    return pairs


def _traffic(pairs: Mapping[str, places.Pair], switch: int, options: Options, say: Say) -> dict[str, dict[str, list[Sample]]]:
    """All loads on all paths, in turns, so that what else the machine does meets all of them."""
    found: dict[str, dict[str, list[Sample]]] = {path: {load.name: [] for load in LOADS} for path in pairs}
    for number in range(options.rounds):
        say(f"traffic, round {number + 1} of {options.rounds}")
        for load in LOADS:
            for path, (source, target) in pairs.items():
                before = processor_seconds([switch]).get(switch, 0.0)
                sample = measure(source, target, load, options.seconds)
                spent_s = processor_seconds([switch]).get(switch, 0.0) - before
                through = path in {GUESTS, PORTS} and sample.packets
                found[path][load.name].append(replace(sample, switch_us=spent_s * 1e6 / sample.packets) if through else sample)
    return found


def _facts(settings: Settings) -> dict[str, str]:
    return {
        "accelerator": "KVM" if settings.hypervisor == "kvm" else "TCG",
        "datapath": "kernel" if settings.datapath == "system" else "userspace",
    }
