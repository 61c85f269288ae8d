"""The experiment: measures each operation at a full site, some at a compute site with several round-trip times, and periodic tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from statistics import median
from typing import Any

from atoll.bench import workload
from atoll.bench.progress import Say
from atoll.bench.traffic import periodic, predictions
from atoll.bench.traffic.figures import ratios, slope
from atoll.bench.traffic.operations import SETTLE_S, Actor, TracedOperation
from atoll.bench.traffic.stage import CONTROL, EDGE, REDUCED, STOCK, VARIANTS, Variant, stage
from atoll.bench.workspace import Workspace
from atoll.trace.counts import count

IDLE_S = 5.0
"""Seconds during which the processor time of the idle clouds is measured."""

FAR = ("boot", "attach", "delete")
"""The operations that are measured at the compute site."""

Samples = dict[str, list[TracedOperation]]


@dataclass(frozen=True)
class TrafficOptions:
    """The size of the experiment.

    Attributes:
        rtts_ms: round trips between the compute site and its control site, in milliseconds.
        guests: the numbers of guests at the compute site; the periodic task of its host is measured with each number.
        repeats: the number of times that each operation is measured.
        traffic: the clouds to measure, from `VARIANTS`.
    """

    rtts_ms: tuple[float, ...] = (0, 20, 50, 100, 200)
    guests: tuple[int, ...] = (1, 10)
    repeats: int = 2
    traffic: tuple[str, ...] = VARIANTS


def run(options: TrafficOptions, work: Workspace) -> dict[str, Any]:
    """Run the whole experiment.

    Args:
        options: the size of the experiment.
        work: the experiment's workspace.

    Returns:
        `operations`: the figures of each operation at the full site's host. `far`: latencies at the compute site by round-trip time,
        and the number of sequential `round_trips`. `periodic`: the figures of the update of a host's resources, by number of guests.
        `crowded`: those of a boot on the host that has this number of guests. Each of these is a mapping of `stock`, `reduced` and, if
        both were measured, their `ratios`. `whatif`: the errors of `atoll trace whatif`, in percent.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    work.say(f"{' and '.join(options.traffic)} traffic: a cloud of a full site and a compute site for each")
    with stage(work.root, work.environment, options.traffic) as variants:
        actors = [replace(Actor.prepare(each.api, each.cloud.state), name=each.name, processor_s=each.processor_s) for each in variants]
        report: dict[str, Any] = {"options": asdict(options), "operations": _here(actors, options, work.say)}
        far, found = _far(actors, variants, options, work.say)
        report |= {"far": far, "whatif": found}
        report |= _by_guests(actors, options, work.say)
    return report


def _by_guests(actors: Sequence[Actor], options: TrafficOptions, say: Say) -> dict[str, Any]:
    """Measure the update of the compute site's host, and a boot on it, with each number of guests."""
    report: dict[str, Any] = {"periodic": {}, "crowded": {}}
    for actor in actors:
        workload.allow(actor.api, max(options.guests))
    for guests in sorted(options.guests):
        say(f"{guests} guests on the compute site")
        for actor in actors:
            periodic.fill(actor, guests)
        report["periodic"][str(guests)] = _compared(periodic.measure(actors))
        samples = {actor.name: periodic.boot(actor) for actor in actors}
        report["crowded"][str(guests)] = _compared({actor.name: _figures(actor, [samples[actor.name]]) for actor in actors})
    return report


def _compared(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {**figures, "ratios": ratios(figures[REDUCED], figures[STOCK])} if {REDUCED, STOCK} <= set(figures) else dict(figures)


def _here(actors: Sequence[Actor], options: TrafficOptions, say: Say) -> dict[str, Any]:
    """Measure all operations at the full site's own host, next to the control plane."""
    say("warming up")
    for actor in actors:
        _round(actor, CONTROL, lambda act: act())
    _measure_idle(actors)
    found: dict[str, Samples] = {actor.name: {} for actor in actors}
    for number in range(options.repeats):
        for actor in actors if number % 2 else reversed(actors):
            say(f"round {number + 1} of {options.repeats}, {actor.name}")
            for sample in _round(actor, CONTROL, actor.costed):
                found[actor.name].setdefault(sample.operation, []).append(sample)
    names = found[actors[0].name]
    return {name: _compared({actor.name: _figures(actor, found[actor.name][name]) for actor in actors}) for name in names}


def _round(actor: Actor, host: str, measured: Callable[[Callable[[], TracedOperation]], TracedOperation]) -> list[TracedOperation]:
    """Perform each operation once, in an order in which earlier operations create the resources that later ones need."""
    samples = [measured(lambda: actor.boot(host))]
    samples += [measured(act) for act in (actor.attach, actor.show, actor.list, actor.event, actor.delete)]
    samples.append(measured(lambda: actor.boot_on_port(host)))
    actor.delete()
    return samples


def _measure_idle(actors: Sequence[Actor]) -> None:
    time.sleep(SETTLE_S)
    begun, before = time.monotonic(), [actor.processor_s() for actor in actors]
    time.sleep(IDLE_S)
    seconds = time.monotonic() - begun
    for actor, used in zip(actors, before, strict=True):
        actor.idle = (actor.processor_s() - used) / seconds


def _figures(actor: Actor, samples: Sequence[TracedOperation]) -> dict[str, Any]:
    """Return the figures of an operation: the medians of its times, and the counts of its last sample, which was taken with warm caches."""
    counts = count([actor.trace(samples[-1])]).to_json()
    return {
        **counts,
        "wall_s": round(median(each.wall_s for each in samples), 4),
        "cpu_s": round(median(each.cpu_s for each in samples), 4),
        "samples": [round(each.wall_s, 4) for each in samples],
    }


def _far(
    actors: Sequence[Actor], variants: Sequence[Variant], options: TrafficOptions, say: Say
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure at the compute site with all round-trip times, and compare the results with the predictions of `atoll trace whatif`."""
    found = _at_edge(actors, variants, options, say)
    first = found[options.rtts_ms[0]]
    far = {}
    for name in (*FAR, "boot and delete"):
        parts = name.split(" and ")
        far[name] = _compared({
            actor.name: _over_rtts({rtt: each[actor.name] for rtt, each in found.items()}, parts)
            | (_figures(actor, first[actor.name][name]) if name in FAR else {}) for actor in actors
        })  # fmt: skip
    told = [each for actor in actors for each in predictions.check(actor, {rtt: each[actor.name] for rtt, each in found.items()})]
    return far, told


def _at_edge(actors: Sequence[Actor], variants: Sequence[Variant], options: TrafficOptions, say: Say) -> dict[float, dict[str, Samples]]:
    """Measure each round-trip time once in each round, so that other load on the machine affects all round-trip times alike.

    Each operation begins when the events of the one before have been handled: otherwise Nova's lock of a server's network information, and
    the work of the other cloud, would add to its time.
    """
    found: dict[float, dict[str, Samples]] = {rtt: {each.name: {name: [] for name in FAR} for each in actors} for rtt in options.rtts_ms}
    say("warming up the compute site")
    for actor in actors:
        _on_edge(actor)
    for number in range(options.repeats):
        say(f"at the compute site, round {number + 1} of {options.repeats}")
        for rtt, actor in product(options.rtts_ms, actors if number % 2 else actors[::-1]):
            for variant in variants:
                variant.set_rtt(rtt)
            for sample in _on_edge(actor):
                found[rtt][actor.name][sample.operation].append(sample)
    for variant in variants:
        variant.set_rtt(0)
    return found


def _on_edge(actor: Actor) -> list[TracedOperation]:
    samples = []
    for act in (partial(actor.boot, EDGE), actor.attach, actor.delete):
        samples.append(act())
        time.sleep(SETTLE_S)
    return samples


def _over_rtts(found: Mapping[float, Samples], parts: Sequence[str]) -> dict[str, Any]:
    """Return the latency in seconds at each round-trip time, and the number of sequential round trips: the slope of the latencies."""
    columns = {rtt: [_walls(each[part]) for part in parts] for rtt, each in found.items()}
    points = [(rtt, 1000 * sum(times)) for rtt, each in columns.items() for times in zip(*each, strict=True)]
    by_rtt = {f"{rtt:g}": round(median(y for x, y in points if x == rtt) / 1000, 4) for rtt in found}
    return {"by_rtt_s": by_rtt, "round_trips": slope(points)}


def _walls(samples: Sequence[TracedOperation]) -> list[float]:
    return [each.wall_s for each in samples]
