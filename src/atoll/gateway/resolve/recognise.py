"""The first stage of a request's way: what it is about, and among which sites that is looked for or made."""

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
    """Recognises requests.

    Args:
        sites: those of the cloud.
        mesh: tells how far they are.
    """

    def __init__(self, sites: Sites, mesh: Mesh) -> None:
        self._sites = sites
        self._mesh = mesh

    def recognise(self, call: Call, scope: str | None) -> Request:
        """Find out what a request is about.

        Args:
            call: the request.
            scope: where it is to be looked for or made, in the scope language; nothing: anywhere.

        Raises:
            ScopeError: the scope makes no sense.
        """
        route = match(call.method, call.service, call.path)
        counted_before = route.resource.counted_before if route.resource is not None else NEVER
        if counted_before > NEVER and counted_before > microversion(call.headers):
            route = LOCAL  # each site counts these ids for itself, and 1 is another thing at each
        plan = self._plan(scope, call.service) if scope else None
        if plan is not None:
            return Request(call, route, plan, plan.sites)
        everywhere = route.operation is not Operation.LOCAL and not scope
        return Request(call, route, None, self._sites.everywhere() if everywhere else [self._sites.here])

    def _plan(self, scope: str, service: str) -> scopes.Plan | None:
        members = {self._sites.here, *self._sites.others()}
        return scopes.evaluate(_parsed(scope), service, members, self._mesh.rtt_ms)


@lru_cache(maxsize=256)
def _parsed(text: str) -> scopes.Scope:
    return scopes.parse(text)
