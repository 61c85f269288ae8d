"""What a scope means for one service: which sites are asked, and in what order. Pure: members and round trips are passed in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Literal

from atoll.gateway.scope.model import Alternatives, Around, Cross, Expression, Replicas, Scope, ScopeError, Site, sites

Rtt = Callable[[str, str], float | None]
"""An estimate of the round trip between two sites in milliseconds; None: not known."""

Choice = tuple[str, ...]
"""Sites that all have to do something: one, or several that shall hold the same."""

MOST_CHOICES = 64
"""Choices of one plan. A scope that needs more (each `||` within an `&` multiplies them) is a mistake, or hostile."""

_BY_ITSELF = {
    "identity": "identity is the same at every site anyway: name one site",
    "placement": "what placement holds is about the hosts of its own site: name one site",
}
"""Services whose resources can't be replicated by a scope, and why."""


@dataclass(frozen=True)
class Plan:
    """Where the requests to one service go.

    Attributes:
        kind: what was asked for: sharing (one site), replicas (`&`), alternatives (`||`) or around.
        choices: in the order in which they are tried. What is created comes to be at all sites of the first choice where that works.
    """

    kind: Literal["sharing", "replicas", "alternatives", "around"]
    choices: tuple[Choice, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites, each once: where something is looked for, and what a list is the union of."""
        return tuple(dict.fromkeys(site for choice in self.choices for site in choice))


def evaluate(scope: Scope, service: str, members: Collection[str], rtt: Rtt) -> Plan | None:
    """Find where the requests to a service go.

    Args:
        scope: what the client asks for.
        service: one of `model.SERVICES`.
        members: the names of all sites of the cloud, this one included.
        rtt: see `Rtt`; asked only for `around`.

    Returns:
        The plan; None: the scope says nothing of this service, which is then asked as without a scope.

    Raises:
        ScopeError: a site is none of the cloud's, or what is asked for can't be had.
    """
    check(scope, members)
    expression = scope.of(service)
    if expression is None:
        # Identity is the same everywhere: a site far away would know nothing that this one does not.
        if scope.around is None or service == "identity":
            return None
        return Plan("around", tuple((site,) for site in _within(scope, scope.around, members, rtt)))
    choices = _choices(scope, service, expression)
    if isinstance(expression, Site):
        return Plan("sharing", choices)
    return Plan("alternatives" if len(choices) > 1 else "replicas" if len(choices[0]) > 1 else "sharing", choices)


def check(scope: Scope, members: Collection[str]) -> None:
    """See to it that all sites that are named exist.

    Raises:
        ScopeError: one does not.
    """
    named = [site for _, expression in scope.services for site in sites(expression)]
    named += [scope.prime] if scope.prime else []
    named += [scope.around.site] if scope.around else []
    for site in named:
        if site.name not in members:
            raise scope.error(site.column, f"there is no site `{site}`: expected one of {', '.join(sorted(members))}")


def _within(scope: Scope, around: Around, members: Iterable[str], rtt: Rtt) -> list[str]:
    """The sites near one, the nearest first. The site itself is always the first of them."""
    centre = around.site.name
    distances = {site: 0.0 if site == centre else rtt(centre, site) for site in members}
    near = sorted((distance, site) for site, distance in distances.items() if distance is not None and distance <= around.within_ms)
    return [centre, *(site for _, site in near if site != centre)]


def _choices(scope: Scope, service: str, expression: Expression) -> tuple[Choice, ...]:
    """An expression as alternatives of replicas: `(a || b) & c` is `a & c || b & c`."""
    match expression:
        case Site(name):
            return ((name,),)
        case Cross():
            raise _refused_cross(scope, service, expression)
        case Replicas(parts):
            if service in _BY_ITSELF:
                raise scope.error(expression.column, _BY_ITSELF[service])
            of_parts = [_choices(scope, service, part) for part in parts]
            count = 1
            for choices in of_parts:
                count *= len(choices)
            if count > MOST_CHOICES:
                raise scope.error(expression.column, f"this means {count} different choices of sites: expected {MOST_CHOICES} at most")
            return _unique(tuple(dict.fromkeys(site for choice in chosen for site in choice)) for chosen in product(*of_parts))
        case Alternatives(parts):
            found = _unique(choice for part in parts for choice in _choices(scope, service, part))
            if len(found) > MOST_CHOICES:
                raise scope.error(expression.column, f"these are {len(found)} alternatives: expected {MOST_CHOICES} at most")
            return found


def _unique(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    return tuple(dict.fromkeys(choices))


def _refused_cross(scope: Scope, service: str, expression: Cross) -> ScopeError:
    if service == "network":
        why = "networks do not span sites yet: use `&`, which makes the same network at each site, with a part of its own there"
    else:
        why = f"only a network can span sites: a resource of {service} is at one site, or with `&` the same at several"
    return scope.error(expression.column, f"`{expression}`: {why}")
