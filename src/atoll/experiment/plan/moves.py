"""Single moves from a plan: one instance added, removed or placed elsewhere, with its price and the bounds that it would break.

A bound *binds* if it forbids a move that would make the plan cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atoll.experiment.plan.placement import Placement, Usage, price, settle, usages
from atoll.experiment.plan.problem import Problem

_NEAREST = 8
"""Greatest number of sites to which a move of an instance is tried: those with the shortest round trips."""

_LEAST = 1e-9


@dataclass(frozen=True)
class Move:
    """One move from a plan.

    Attributes:
        text: a sentence that describes the move.
        instance: the instance that is removed, moved or added, such as `paris` (a full site) or `image debian at paris`.
        extra_price: the price per hour that the move adds; negative if it makes the plan cheaper.
        breaks: the bounds that the move would break.
    """

    text: str
    instance: str
    extra_price: float
    breaks: tuple[Usage, ...]


@dataclass(frozen=True)
class Binding:
    """A bound that binds: without it, the plan could be cheaper.

    Attributes:
        usage: the bound, with its use after the move.
        move: the cheapest move that the bound forbids.
        other_bounds: the number of other bounds that the move would break too.
    """

    usage: Usage
    move: Move
    other_bounds: int


def moves(problem: Problem, placement: Placement) -> list[Move]:
    """Return single moves from a plan, the cheapest first.

    After a move, each site that it concerns is served by the cheapest full site that keeps the bounds.

    Args:
        problem: the plan in numbers.
        placement: the plan.
    """
    before = price(problem, placement)
    made = []
    for text, instance, full, copies in _changes(problem, placement):
        after = settle(problem, full, copies)
        broken = tuple(usage for usage in usages(problem, after) if usage.broken)
        made.append(Move(text, instance, price(problem, after) - before, broken))
    return sorted(made, key=lambda move: move.extra_price)


def binding(found: list[Move]) -> list[Binding]:
    """Return the bounds that forbid cheaper plans, the most expensive bound first; each with the cheapest move that it forbids."""
    bounds: dict[tuple[str, str], Binding] = {}
    for move in found:
        if move.extra_price >= -_LEAST:
            break
        for usage in move.breaks:
            bounds.setdefault((usage.bound, usage.subject), Binding(usage, move, len(move.breaks) - 1))
    return list(bounds.values())


_Change = tuple[str, str, frozenset[int], tuple[frozenset[int], ...]]


def _changes(problem: Problem, placement: Placement) -> Iterator[_Change]:
    full, copies, names = placement.full, placement.copies, problem.names
    for site in range(problem.count):
        if site not in full:
            yield f"make {names[site]} a full site", names[site], full | {site}, copies
            continue
        less = tuple(sites - {site} for sites in copies)
        if len(full) > 1 and all(less):
            yield f"make {names[site]} a compute site", names[site], full - {site}, less
        for other in _places(problem, site, full):
            moved = tuple(sites - {site} | {other} if site in sites else sites for sites in copies)
            yield f"move the full site {names[site]} to {names[other]}", names[site], full - {site} | {other}, moved
    for image, sites in enumerate(copies):
        yield from _changes_of_image(problem, placement, image, sites)


def _changes_of_image(problem: Problem, placement: Placement, image: int, sites: frozenset[int]) -> Iterator[_Change]:
    name = problem.images[image].name
    for site in sorted(placement.full):
        instance = f"image {name} at {problem.names[site]}"
        if site not in sites:
            yield f"keep image {name} at {problem.names[site]} too", instance, placement.full, _with(placement, image, sites | {site})
            continue
        if len(sites) > 1:
            yield f"keep no image {name} at {problem.names[site]}", instance, placement.full, _with(placement, image, sites - {site})
        for other in _places(problem, site, frozenset(range(problem.count)) - (placement.full - sites)):
            text = f"move image {name} from {problem.names[site]} to {problem.names[other]}"
            yield text, instance, placement.full, _with(placement, image, sites - {site} | {other})


def _with(placement: Placement, image: int, sites: frozenset[int]) -> tuple[frozenset[int], ...]:
    return tuple(sites if number == image else others for number, others in enumerate(placement.copies))


def _places(problem: Problem, site: int, taken: frozenset[int]) -> list[int]:
    """Return the nearest sites that are not taken, at most `_NEAREST`."""
    free = [other for other in range(problem.count) if other not in taken]
    return sorted(free, key=lambda other: problem.rtt_s[site][other])[:_NEAREST]
