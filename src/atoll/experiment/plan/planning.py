"""Solves and evaluates a plan, and writes the result as JSON and as the file of a cloud."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import inf, isfinite
from shlex import quote
from typing import Any

import yaml

from atoll.cloud import Cloud, dump_cloud
from atoll.errors import AtollError
from atoll.experiment.plan.conflict import explain
from atoll.experiment.plan.document import PlacementPlan
from atoll.experiment.plan.moves import Binding, Move, binding, moves
from atoll.experiment.plan.placement import Placement, disk, latency_s, memory, price, traffic, usages, waiting_s
from atoll.experiment.plan.problem import HOUR_S, Problem, problem
from atoll.experiment.plan.program import Model
from atoll.experiment.plan.solver import library, solve
from atoll.experiment.plan.start import start
from atoll.trace.tree import Trace

SERVICES = ("keystone", "placement", "glance", "neutron", "nova")
"""The services of which each full site runs one instance."""


_START = 0.2
"""Share of the time limit, from 0 to 1, that may be spent on finding a first placement."""


@dataclass(frozen=True)
class Solved:
    """A plan with its solution.

    Attributes:
        problem: the plan in numbers.
        placement: the best placement that was found.
        gap: a proven bound of the difference to the optimum, as a share of the price; 0 means optimal, infinity that no bound is proven.
        seconds: the time that the solver took.
        moves: single moves from the placement, the cheapest first.
        binding: the bounds that bind.
    """

    problem: Problem
    placement: Placement
    gap: float
    seconds: float
    moves: list[Move]
    binding: list[Binding]


def solve_plan(plan: PlacementPlan, find: Callable[[str], Trace], limit_s: float, gap: float = 0.0) -> Solved:
    """Solve and evaluate a plan.

    Args:
        plan: the document.
        find: returns the trace that a file, given by its path in the document, holds.
        limit_s: seconds after which the best placement found so far is taken.
        gap: the relative gap to the optimum at which the solver may stop.

    Raises:
        AtollError: `plan.requirement`: the solver is not installed; `plan.infeasible`: the bounds contradict; `plan.unsolved`: no placement
            was found in time; `trace.*`: a trace can't be read, or is incomplete.
    """
    library()
    numbers = problem(plan, find)
    placement, proven, seconds = place(numbers, limit_s, gap)
    found = moves(numbers, placement)
    return Solved(numbers, placement, proven, seconds, found, binding(found))


def place(numbers: Problem, limit_s: float, gap: float = 0.0) -> tuple[Placement, float, float]:
    """Return the best placement that is found in time, its proven relative gap, and the solver's seconds; see `solve_plan`."""
    begun = time.monotonic()
    model = Model(numbers)
    first = start(numbers, limit_s * _START)
    left_s = max(0.001, limit_s - (time.monotonic() - begun))
    answer = solve(model.program, left_s, gap, None if first is None else model.values(first))
    if answer.infeasible:
        raise AtollError("plan.infeasible", explain(numbers, limit_s), "change one of these bounds in the file")
    if answer.values is None and first is not None:
        return first, inf, time.monotonic() - begun
    if answer.values is None:
        text = f"no plan was found in {limit_s:g} s, but one may exist: the search was not complete"
        raise AtollError("plan.unsolved", text, "give the solver more time: --seconds")
    placement = model.placement(answer.values)
    broken = [usage for usage in usages(numbers, placement) if usage.broken]
    assert not broken, broken
    return placement, answer.gap, time.monotonic() - begun


def to_json(solved: Solved) -> dict[str, Any]:
    """Return a solved plan, ready for `json.dumps`: sizes in bytes, times in seconds, traffic in bytes per hour, prices per hour."""
    numbers, placement = solved.problem, solved.placement
    full = sorted(placement.full)
    names = [numbers.names[site] for site in full]
    used, total = traffic(numbers, placement)
    return {
        "price": price(numbers, placement),
        "gap": solved.gap if isfinite(solved.gap) else None,
        "optimal": solved.gap <= 1e-9,
        "solver_s": round(solved.seconds, 3),
        "instances": {**dict.fromkeys(SERVICES, len(full)), "nova-compute": numbers.count},
        "full_sites": names,
        "replicas": {"identity": names},
        "images": {image.name: _names(numbers, placement.copies[index]) for index, image in enumerate(numbers.images)},
        "sites": [_site(numbers, placement, site, used[site]) for site in range(numbers.count)],
        "wan_bytes_per_hour": total,
        "waiting_s_per_hour": waiting_s(numbers, placement),
        "memory_bytes": sum(memory(numbers, placement, site) for site in range(numbers.count)),
        "bounds": [{**asdict(usage)} for usage in usages(numbers, placement)],
        "binding": [
            {**asdict(each.usage), "forbids": each.move.text, "saves": -each.move.extra_price, "other_bounds": each.other_bounds}
            for each in solved.binding
        ],
        "moves": [
            {"move": move.text, "instance": move.instance, "more": move.extra_price, "breaks": [asdict(usage) for usage in move.breaks]}
            for move in solved.moves
        ],
    }


def _names(numbers: Problem, sites: frozenset[int]) -> list[str]:
    return [numbers.names[site] for site in sorted(sites)]


def _site(numbers: Problem, placement: Placement, site: int, bytes_per_hour: float) -> dict[str, Any]:
    control = placement.controls[site]
    return {
        "name": numbers.names[site],
        "kind": "full" if control == site else "compute",
        "control": None if control == site else numbers.names[control],
        "rtt_s": numbers.rtt_s[site][control],
        "images": [image.name for image, sites in zip(numbers.images, placement.copies, strict=True) if site in sites],
        "memory_bytes": memory(numbers, placement, site),
        "disk_bytes": disk(numbers, placement, site),
        "wan_bytes_per_hour": bytes_per_hour,
        "latency_s": {
            demand.name: latency_s(numbers, placement, number, site) for number, demand in enumerate(numbers.demands) if demand.load[site]
        },
    }


def keep_commands(solved: Solved) -> list[str]:
    """Return the commands that have each image kept at the planned sites, because a cloud's file can't describe images."""
    numbers = solved.problem
    return [
        f"atoll openstack image set --property atoll_keep={','.join(_names(numbers, sites))} {quote(image.name)}"
        for image, sites in zip(numbers.images, solved.placement.copies, strict=True)
    ]


def cloud_file(plan: PlacementPlan, solved: Solved) -> str:
    """Return the file of the planned cloud, for `atoll up`."""
    sites = [
        {"name": each["name"]} | ({"kind": "compute", "control": each["control"]} if each["control"] else {})
        for each in to_json(solved)["sites"]
    ]
    data: dict[str, Any] = {"name": plan.name, "sites": sites}
    if plan.topology is not None:
        data["topology"] = plan.topology.model_dump(mode="json", exclude_defaults=True)
    notes = ["# The plan of `atoll plan`.", *(f"# Once the images are uploaded: {command}" for command in keep_commands(solved))]
    return "\n".join([*notes, dump_cloud(Cloud.model_validate(yaml.safe_load(yaml.safe_dump(data))))])


def rate(bytes_per_hour: float) -> float:
    """Convert a rate from bytes per hour to megabits (10^6 bits) per second."""
    return bytes_per_hour * 8 / HOUR_S / 1e6
