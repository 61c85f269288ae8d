"""The measurements of `atoll bench guests`, in a cloud of one site with real guests and one with a fake hypervisor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atoll.bench.cloud.stage import MeasuredCloud
from atoll.bench.guests import memory, places
from atoll.bench.guests.report import GUESTS, PORTS, summary
from atoll.bench.guests.serving import served
from atoll.bench.guests.tenancy import Boot, Guest, GuestTenancy
from atoll.bench.guests.traffic import AGENT_PORT, LOADS, End, TrafficSample, await_agent, compiled, measure
from atoll.bench.own_cloud import own_cloud
from atoll.bench.processes import processor_seconds
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace
from atoll.guest import build
from atoll.services import Settings
from atoll.site.machine import obstacle
from atoll.site.state import default_cache

REAL, FAKE = "real", "fake"
"""The names of the sites."""

PATIENCE_S = 180.0
"""Seconds to wait for a guest's answer; enough for a guest without KVM on a busy machine."""

SCRIPT = """#!/bin/sh
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    timeout 60 wget -q -O traffic {url} && break
    sleep 1
done
chmod 700 traffic
exec ./traffic agent {port}
"""
"""The script that guests run for measurements of traffic: it fetches the program and starts its agent."""


@dataclass(frozen=True)
class GuestsOptions:
    """The size of the experiment.

    Attributes:
        guests: the number of guests, booted one by one; traffic is between the first two.
        rounds: the number of measurements of each kind of traffic on each path.
        seconds: the length of each measurement in seconds.
    """

    guests: int = 4
    rounds: int = 3
    seconds: float = 3.0


def run(options: GuestsOptions, work: Workspace) -> dict[str, Any]:
    """Run the whole experiment.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        The measured values, by name.

    Raises:
        AtollError: `guests.unavailable`: this machine can't run guests; `image.*`: the guest image can't be built; `bench.requirement`: a
            program is missing, such as a C compiler; `bench.failed`: a measurement failed.
    """
    why_not = obstacle()
    if why_not is not None:
        raise why_not
    program = compiled(work.root)
    image = build(default_cache(), None, work.say).path
    work.say("two sites")
    with _measured_cloud(work.root, work.environment) as cloud, ExitStack() as stack:
        before = {site: memory.of_site(cloud.state, site) for site in cloud.names}
        real, fake = (GuestTenancy(cloud, site, image) for site in cloud.names)
        guests, boots = _boot(real, program, stack, options, work.say)
        work.say(f"{options.guests} servers at the site with the fake hypervisor")
        for number in range(options.guests):
            fake.boot(f"guest-{number + 1}", PATIENCE_S)
        after = {site: memory.of_site(cloud.state, site) for site in cloud.names}
        pairs = _pairs(real, guests, program, stack, work.say)
        (switch,) = memory.processes(cloud.state, REAL)["vswitchd"]
        traffic = _traffic(pairs, switch, options, work.say)
        facts = _facts(cloud.settings(REAL))
    return summary(asdict(options) | facts, boots, traffic, before, after)


@contextmanager
def _measured_cloud(root: Path, environment: Mapping[str, str]) -> Iterator[MeasuredCloud]:
    """Start the cloud, yield it, and destroy it with its guests when the context ends."""
    sites = [{"name": REAL, "compute": "libvirt"}, {"name": FAKE, "compute": "fake"}]
    with own_cloud(root, {"name": "bench", "sites": sites, "topology": {"preset": "mesh"}}, environment) as own:
        cloud = MeasuredCloud(own.state, (REAL, FAKE), 0, environment, own.log)
        cloud.await_joined()
        yield cloud


def _boot(real: GuestTenancy, program: Path, stack: ExitStack, options: GuestsOptions, say: Say) -> tuple[list[Guest], list[Boot]]:
    """Boot guests one by one; the first two then run an agent each."""
    url = stack.enter_context(served(program, real.network, real.outside))
    guests, boots = [], []
    for number in range(options.guests):
        say(f"guest {number + 1} of {options.guests}")
        speaks = number < 2
        guest, boot = real.boot(f"guest-{number + 1}", PATIENCE_S, SCRIPT.format(url=url, port=AGENT_PORT) if speaks else "")
        if speaks:
            await_agent(_end(real, guest), PATIENCE_S)  # so that the next guest boots without competition
        guests.append(guest)
        boots.append(boot)
    return guests, boots


def _end(tenancy: GuestTenancy, guest: Guest) -> End:
    return End(tenancy.network, guest.floating, guest.port.address)


def _pairs(real: GuestTenancy, guests: list[Guest], program: Path, stack: ExitStack, say: Say) -> dict[str, places.Pair]:
    """Return the pairs of ends to compare by name, the longest paths first."""
    say("preparing a veth pair, a bridge and two ports for comparison")
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


def _traffic(pairs: Mapping[str, places.Pair], switch: int, options: GuestsOptions, say: Say) -> dict[str, dict[str, list[TrafficSample]]]:
    """Measure all loads on all paths in turn, so that other load on the machine affects all alike."""
    found: dict[str, dict[str, list[TrafficSample]]] = {path: {load.name: [] for load in LOADS} for path in pairs}
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
