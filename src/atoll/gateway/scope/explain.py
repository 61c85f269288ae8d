"""Tells a person what a scope means here and now."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from atoll.gateway.scope.evaluate import Plan, Rtt, check, evaluate
from atoll.gateway.scope.model import SERVICES, ScopeError
from atoll.gateway.scope.parser import parse


def explain(text: str, here: str, members: Collection[str], reachable: Collection[str], rtt: Rtt) -> dict[str, Any]:
    """What would go where.

    Args:
        text: the scope.
        here: the site that is asked.
        members: the names of all sites of the cloud, `here` included.
        reachable: of those, the ones that can be reached now.
        rtt: see `evaluate.Rtt`.

    Returns:
        For JSON. `scope`, as it was understood; `here`; `services`: for each, `kind` (a plan's, or `none`, or `refused`), `choices`,
        `sites`, and `says`, a sentence; `sites`: for each that is named or found, `rtt_ms` from here and whether it is `reachable`.
        If the scope makes no sense, only `invalid`, with `column` and `what`: no exception, since an error's answer has no room for these.
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
        return {"kind": "none", "choices": [], "sites": [], "says": f"as without a scope, from {here}"}
    says = {
        "sharing": "all of it at {first}",
        "replicas": "created at {first}; listed from {all}; updated and deleted at all of them",
        "alternatives": "created at {choices}, the first where it works; listed from {all}",
        "around": "created at the nearest that can: {choices}; listed from {all}",
    }[plan.kind]
    choices = [" and ".join(choice) for choice in plan.choices]
    sentence = says.format(first=choices[0], choices=", or ".join(choices), all=", ".join(plan.sites))
    return {"kind": plan.kind, "choices": [list(choice) for choice in plan.choices], "sites": list(plan.sites), "says": sentence}
