"""A first placement for the solver, found by descent.

The descent begins with as many full sites and copies as the bounds allow, and drops each one whose removal makes the plan cheaper. On a
large plan the solver may need most of its time for the first relaxation. If it starts from this placement, it always has one to return.
"""

from __future__ import annotations

import time

from atoll.experiment.plan.placement import Placement, price, settle, usages
from atoll.experiment.plan.problem import Problem


def start(problem: Problem, limit_s: float) -> Placement | None:
    """Return a placement that keeps all bounds; `None` if even the placement with the most full sites and copies breaks a bound.

    Args:
        problem: the plan in numbers.
        limit_s: seconds after which the descent ends.
    """
    until = time.monotonic() + limit_s
    full = frozenset(site for site in range(problem.count) if problem.can_be_full(site))
    if not full:
        return None
    best = settle(problem, full, _copies(problem, full))
    if _broken(problem, best):
        return None
    cost = price(problem, best)
    # Sites with little load first, because making them full sites saves least.
    for site in sorted(full, key=lambda each: problem.control_price(each, each)):
        if time.monotonic() > until:
            break
        less = tuple(sites - {site} for sites in best.copies)
        if problem.kinds[site] == "full" or len(best.full) == 1 or not all(less):
            continue
        tried = settle(problem, best.full - {site}, less)
        if (less_cost := price(problem, tried)) < cost and not _broken(problem, tried):
            best, cost = tried, less_cost
    # The program has no columns for pairs of sites that are in no optimal plan.
    better = frozenset(site for site, control in enumerate(best.controls) if site != control and problem.dominated(site, control))
    more = settle(problem, best.full | better, best.copies) if better else best
    return best if _broken(problem, more) else more


def _copies(problem: Problem, full: frozenset[int]) -> tuple[frozenset[int], ...]:
    """Return the sites that keep a copy of each image at first: all full sites with room for all images.

    If no site has so much room, an image is at all full sites that have room for it alone.
    """
    total = sum(image.bytes for image in problem.images)
    roomy = frozenset(site for site in full if problem.disk[site] >= total)
    return tuple(roomy or frozenset(site for site in full if problem.disk[site] >= image.bytes) or full for image in problem.images)


def _broken(problem: Problem, placement: Placement) -> bool:
    return any(usage.broken for usage in usages(problem, placement))
