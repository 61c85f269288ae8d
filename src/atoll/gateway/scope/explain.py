"""Explains the present meaning of a scope at this site."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from atoll.gateway.scope.evaluate import Plan, Rtt, check, evaluate
from atoll.gateway.scope.model import SERVICES, ScopeError
from atoll.gateway.scope.parser import parse


def explain(text: str, here: str, members: Collection[str], reachable: Collection[str], rtt: Rtt) -> dict[str, Any]:
    """Return a description of a scope, as values for JSON.

    Args:
        text: the scope.
        here: the site that answers.
        members: the names of all sites of the cloud, including `here`.
        reachable: the sites that can be reached now.
        rtt: see `evaluate.Rtt`.

    Returns:
        `scope`: the scope as it was parsed. `here`: as given. `services`: for each service, `kind` (a plan's kind, `none` or `refused`),
        `choices`, `sites`, and a sentence `says`. `sites`: for each site of a plan, `rtt_ms` from here and whether it is `reachable`.
        If the scope is malformed, only `invalid` with `column` and `what`, because an error answer has no room for these.
    """
    try:
        scope = parse(text)
        check(scope, members)
    except ScopeError as error:
        return {"invalid": {"column": error.column, "what": error.what}}
    services: dict[str, Any] = {}
    involved: dict[str, None] = {}
    for service in SERVICES:
        try:
            plan = evaluate(scope, service, members, rtt)
        except ScopeError as error:
            services[service] = {"kind": "refused", "choices": [], "sites": [], "says": f"refused: {error.what}", "column": error.column}
            continue
        services[service] = _described(plan, here)
        involved |= dict.fromkeys(plan.sites if plan else ())
    distances = {site: 0.0 if site == here else rtt(here, site) for site in involved}
    return {
        "scope": str(scope),
        "here": here,
        "services": services,
        "sites": {site: {"rtt_ms": rtt_ms, "reachable": site in {here, *reachable}} for site, rtt_ms in distances.items()},
    }


def _described(plan: Plan | None, here: str) -> dict[str, Any]:
    if plan is None:
        return {"kind": "none", "choices": [], "sites": [], "says": f"handled as without a scope, by {here}"}
    says = {
        "sharing": "everything at {first}",
        "replicas": "created at {first}; listed from {all}; updated and deleted at all of them",
        "alternatives": "created at {choices}, the first where it works; listed from {all}",
        "around": "created at the nearest that can: {choices}; listed from {all}",
    }[plan.kind]
    choices = [" and ".join(choice) for choice in plan.choices]
    sentence = says.format(first=choices[0], choices=", or ".join(choices), all=", ".join(plan.sites))
    return {"kind": plan.kind, "choices": [list(choice) for choice in plan.choices], "sites": list(plan.sites), "says": sentence}
