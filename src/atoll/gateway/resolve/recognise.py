"""The first stage of a request: finds its route and the sites that it may concern."""

from __future__ import annotations

from functools import lru_cache

from atoll.gateway import scope as scopes
from atoll.gateway.request.call import Call
from atoll.gateway.request.context import Request
from atoll.gateway.request.headers import microversion
from atoll.gateway.resolve.routes import LOCAL, NEVER, Operation, match
from atoll.gateway.sites import Sites
from atoll.mesh.node import Mesh


class Recogniser:
    """Constructs the context of each request.

    Args:
        sites: the sites of the cloud.
        mesh: estimates the round trips between sites.
    """

    def __init__(self, sites: Sites, mesh: Mesh) -> None:
        self._sites = sites
        self._mesh = mesh

    def recognise(self, call: Call, scope: str | None) -> Request:
        """Return the context of a request.

        Args:
            call: the request.
            scope: the sites that the client chose, in the scope language; `None` or empty for any.

        Raises:
            ScopeError: the scope is malformed, or names an unknown site.
        """
        route = match(call.method, call.service, call.path)
        counted_before = route.resource.counted_before if route.resource is not None else NEVER
        if counted_before > NEVER and counted_before > microversion(call.headers):
            route = LOCAL  # each site numbers these resources itself, so that a number means another resource at each site
        plan = self._plan(scope, call.service) if scope else None
        if plan is not None:
            return Request(call, route, plan, self._sites.holders(plan.sites, call.service))
        everywhere = route.operation is not Operation.LOCAL and not scope
        return Request(call, route, None, self._sites.everywhere(call.service) if everywhere else [self._sites.here])

    def _plan(self, scope: str, service: str) -> scopes.Plan | None:
        members = {self._sites.here, *self._sites.others()}
        return scopes.evaluate(_parsed(scope), service, members, self._mesh.rtt_ms)


@lru_cache(maxsize=256)
def _parsed(text: str) -> scopes.Scope:
    return scopes.parse(text)
