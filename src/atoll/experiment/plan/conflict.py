"""Finds the bounds that contradict each other when no plan keeps them all.

Bounds are left out one by one; a bound stays out if the others are infeasible without it. The bounds that remain contradict each other: if
any one of them is left out, a plan exists. Then one of them after the other is made elastic, which means that a plan may exceed it at a
cost. The smallest excess is the amount by which the bound would have to be relaxed.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.experiment.plan.problem import Problem
from atoll.experiment.plan.program import Bound, Model, Slack, bounds
from atoll.experiment.plan.solver import solve
from atoll.experiment.quantities import spell_bytes, spell_seconds

_SHOWN = 2
_LEAST = 1e-6


def explain(problem: Problem, limit_s: float) -> str:
    """Return one line that names the bounds that contradict each other, with values that would make a plan possible.

    Args:
        problem: a plan in numbers that is infeasible.
        limit_s: seconds for each run of the solver.
    """
    out: frozenset[Bound] = frozenset()
    for bound in bounds(problem):
        if solve(Model(problem, out | {bound}).program, limit_s, gap=1.0).infeasible:
            out |= {bound}
    left = [bound for bound in bounds(problem) if bound not in out]
    said = [_excess(problem, bound, out, limit_s) for bound in left]
    if len(said) == 1:
        return f"no plan is possible: {said[0]} can't be kept"
    return f"no plan is possible: {' and '.join(said)} contradict"


def _excess(problem: Problem, bound: Bound, out: frozenset[Bound], limit_s: float) -> str:
    """Return the name of a bound, with the sites at which it would have to be relaxed, and the values that would suffice.

    Args:
        problem: a plan in numbers.
        bound: the bound.
        out: the bounds that are left out.
        limit_s: seconds for the run of the solver.
    """
    name = f"`{bound.kind}` of {bound.operation}" if bound.operation else f"`{bound.kind}`"
    model = Model(problem, out, bound)
    answer = solve(model.program, limit_s)
    if answer.values is None:
        return name
    found = [(slack, answer.values[column] * abs(slack.scale)) for column, slack in model.slacks.items() if answer.values[column] > _LEAST]
    found.sort(key=lambda each: -each[1])
    if not found:
        return name
    spelled = ", ".join(_spell(problem, bound, slack, excess) for slack, excess in found[:_SHOWN])
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{name} ({spelled}{more})"


def _spell(problem: Problem, bound: Bound, slack: Slack, excess: float) -> str:
    where = f"at {slack.subject}" if slack.subject else "of the cloud"
    if bound.kind == "kind":
        return f"{where}: another kind would suffice"
    offset, spell = _UNITS[bound.kind]
    limit = slack.limit + offset(problem, bound)
    enough = limit + excess if slack.scale > 0 else limit - excess
    subject = where if bound.kind != "within" else f"at {slack.subject.rpartition(' at ')[2]}"
    return f"{subject}: {spell(enough)} would suffice instead of {spell(limit)}"


def _time(problem: Problem, bound: Bound) -> float:
    return next(demand.costs.time_s for demand in problem.demands if demand.name == bound.operation)


def _hourly_rate(count: float) -> str:
    return f"{count * 8 / 3600 / 1e6:.4g} Mbit/s"


_UNITS: dict[str, tuple[Callable[[Problem, Bound], float], Callable[[float], str]]] = {
    "memory": (lambda problem, _bound: problem.compute, spell_bytes),
    "disk": (lambda _problem, _bound: 0.0, spell_bytes),
    "wan": (lambda _problem, _bound: 0.0, _hourly_rate),
    "within": (_time, spell_seconds),
    "survive": (lambda _problem, _bound: -1.0, lambda count: f"{count:.0f}"),
    "full_sites": (lambda _problem, _bound: 0.0, lambda count: f"{count:.0f}"),
}
"""For each kind of bound, two functions: one returns the constant by which the limit in the file exceeds the limit of the program's row,
the other returns an amount as text with its unit."""
