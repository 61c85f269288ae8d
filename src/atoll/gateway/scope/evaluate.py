"""Evaluates a scope for one service: the sites to send requests to, and their order. No I/O: members and round trips are arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Literal

from atoll.gateway.scope.model import Alternatives, Around, Cross, Expression, Replicated, Scope, ScopeError, Site, sites

Rtt = Callable[[str, str], float | None]
"""A function that returns the estimated round trip between two sites in milliseconds; `None` if it is unknown."""

Choice = tuple[str, ...]
"""Sites that all carry out a request: one, or several that hold copies of the same resource."""

MOST_CHOICES = 64
"""Greatest number of choices of one plan. Each `||` within an `&` multiplies them, so a scope with more is a mistake or hostile."""

_BY_ITSELF = {
    "identity": "identity is the same at every site anyway: name one site",
    "placement": "placement describes the hosts of its own site: name one site",
}
"""Services whose resources a scope can't replicate, each with the reason."""


@dataclass(frozen=True)
class Plan:
    """The sites to which the requests to one service go.

    Attributes:
        kind: `sharing` (one site), `replicas` (`&`), `alternatives` (`||`) or `around`.
        choices: the choices in the order in which they are tried. A resource is created at all sites of the first choice that succeeds.
    """

    kind: Literal["sharing", "replicas", "alternatives", "around"]
    choices: tuple[Choice, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites of the choices, each once: where resources are searched, and whose lists are merged."""
        return tuple(dict.fromkeys(site for choice in self.choices for site in choice))


def evaluate(scope: Scope, service: str, members: Collection[str], rtt: Rtt) -> Plan | None:
    """Return the plan for the requests to a service.

    Args:
        scope: the client's scope.
        service: one of `model.SERVICES`.
        members: the names of all sites of the cloud, including this one.
        rtt: see `Rtt`; used for `around` only.

    Returns:
        The plan; `None` if the scope does not name the service: requests to it are then handled as if there were no scope.

    Raises:
        ScopeError: a site is not a member of the cloud, or the service does not support the operators of the scope.
    """
    check(scope, members)
    expression = scope.of(service)
    if expression is None:
        # Identity data are the same at all sites, so that any of them can answer.
        if scope.around is None or service == "identity":
            return None
        return Plan("around", tuple((site,) for site in _within(scope, scope.around, members, rtt)))
    choices = _choices(scope, service, expression)
    if isinstance(expression, Site):
        return Plan("sharing", choices)
    return Plan("alternatives" if len(choices) > 1 else "replicas" if len(choices[0]) > 1 else "sharing", choices)


def check(scope: Scope, members: Collection[str]) -> None:
    """Check that all named sites are members of the cloud.

    Raises:
        ScopeError: a site is not a member.
    """
    named = [site for _, expression in scope.services for site in sites(expression)]
    named += [scope.prime] if scope.prime else []
    named += [scope.around.site] if scope.around else []
    for site in named:
        if site.name not in members:
            raise scope.error(site.column, f"there is no site `{site}`: expected one of {', '.join(sorted(members))}")


def _within(scope: Scope, around: Around, members: Iterable[str], rtt: Rtt) -> list[str]:
    """Return the centre site, then the sites within the round trip, the nearest first."""
    centre = around.site.name
    distances = {site: 0.0 if site == centre else rtt(centre, site) for site in members}
    near = sorted((distance, site) for site, distance in distances.items() if distance is not None and distance <= around.within_ms)
    return [centre, *(site for _, site in near if site != centre)]


def _choices(scope: Scope, service: str, expression: Expression) -> tuple[Choice, ...]:
    """Return an expression as alternatives of replicas: `(a || b) & c` becomes `a & c || b & c`."""
    match expression:
        case Site(name):
            return ((name,),)
        case Cross():
            raise _refused_cross(scope, service, expression)
        case Replicated(parts):
            if service in _BY_ITSELF:
                raise scope.error(expression.column, _BY_ITSELF[service])
            of_parts = [_choices(scope, service, part) for part in parts]
            count = 1
            for choices in of_parts:
                count *= len(choices)
            if count > MOST_CHOICES:
                raise scope.error(expression.column, f"this expression means {count} choices of sites: expected at most {MOST_CHOICES}")
            return _unique(tuple(dict.fromkeys(site for choice in chosen for site in choice)) for chosen in product(*of_parts))
        case Alternatives(parts):
            found = _unique(choice for part in parts for choice in _choices(scope, service, part))
            if len(found) > MOST_CHOICES:
                raise scope.error(expression.column, f"this expression means {len(found)} alternatives: expected at most {MOST_CHOICES}")
            return found


def _unique(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    return tuple(dict.fromkeys(choices))


def _refused_cross(scope: Scope, service: str, expression: Cross) -> ScopeError:
    if service == "network":
        why = "networks do not span sites yet: use `&`, which creates the same network at each site, each with its own local part"
    else:
        why = f"only a network can span sites: a resource of {service} is at one site, or, with `&`, the same at several"
    return scope.error(expression.column, f"`{expression}`: {why}")
