"""The routes of a morning, by PyVRP: bins that are likely to be full must be visited, others are worth a detour by their risk.

Distances are those of streets in a grid: metres east plus metres north.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pyvrp import Model, Solution
from pyvrp.stop import MaxIterations

from use_cases.waste.city import DEPOT, Point

TRUCKS = 4
TRUCK_LITRES = 5_000
COMPACTION = 3
"""Litres of loose waste that a truck presses into one."""
SHIFT_S = 6 * 3600
STOP_S = 150
"""Seconds to empty a bin."""
SPEED_M_S = 6
ITERATIONS = 150
"""Iterations of the solver; a number of them, unlike a time, gives the same routes on each machine."""
MUST, MAY = 0.5, 0.08
"""Risks from which on a bin must be visited, and from which on it may be."""
PRIZE_M = 4_000
"""Metres of detour that a bin is worth which is certain to be full."""


@dataclass(frozen=True)
class Stop:
    """A bin that may be visited.

    Attributes:
        name: its name.
        at: its position.
        litres: its expected content.
        risk: the probability that it is full before the next round.
    """

    name: str
    at: Point
    litres: int
    risk: float


@dataclass(frozen=True)
class Plan:
    """The routes of a day.

    Attributes:
        routes: the names of the bins of each truck, in their order.
        metres: the length of all routes.
        left: bins that must be visited and have no place in any route.
    """

    routes: list[list[str]]
    metres: int
    left: list[str]


def metres(one: Point, other: Point) -> int:
    """Return the distance of two points."""
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def length(points: Sequence[Point]) -> int:
    """Return the length of a route from the depot through points and back."""
    way = [DEPOT, *points, DEPOT]
    return sum(metres(one, other) for one, other in pairwise(way))


def plan(stops: Sequence[Stop], seed: int = 0, trucks: int = TRUCKS) -> Plan:
    """Return the best routes that the solver finds; the same stops and seed give the same routes.

    No stop is strictly required, so that a morning with too many full bins has a plan as well: a bin that must be visited has a prize above
    every detour, and those which have no place are named.
    """
    worth = [stop for stop in stops if stop.risk >= MAY]
    if not worth:
        return Plan([], 0, [])
    model, places = Model(), [DEPOT, *(stop.at for stop in worth)]
    locations = [model.add_location(*at) for at in places]
    depot = model.add_depot(locations[0])
    model.add_vehicle_type(trucks, TRUCK_LITRES * COMPACTION, depot, depot, shift_duration=SHIFT_S, name="truck")
    for stop, location in zip(worth, locations[1:], strict=True):
        prize = round(stop.risk * (100_000 if stop.risk >= MUST else PRIZE_M))
        model.add_client(location, pickup=max(stop.litres, 1), service_duration=STOP_S, prize=prize, required=False, name=stop.name)
    for one, begin in zip(locations, places, strict=True):
        for other, end in zip(locations, places, strict=True):
            model.add_edge(one, other, metres(begin, end), round(metres(begin, end) / SPEED_M_S))
    solution = model.solve(MaxIterations(ITERATIONS), seed=seed, display=False, collect_stats=False).best
    return _plan(solution, worth)


def _plan(solution: Solution, worth: Sequence[Stop]) -> Plan:
    routes = [[worth[visit.idx].name for visit in route if visit.is_client()] for route in solution.routes()]
    at = {stop.name: stop.at for stop in worth}
    visited = {name for route in routes for name in route}
    left = [stop.name for stop in worth if stop.risk >= MUST and stop.name not in visited]
    return Plan(routes, sum(length([at[name] for name in route]) for route in routes), left)
