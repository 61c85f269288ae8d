"""A client's request with what has been recognised of it: what each stage of the gateway reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.gateway.request.call import Call
from atoll.gateway.resolve.routes import Operation, Resource, Route
from atoll.gateway.scope import Plan

_NOT_LOCAL = frozenset((Operation.CREATE, Operation.EVERYWHERE))


@dataclass(frozen=True)
class Request:
    """A client's request, recognised. It is made once, and each later stage reads it.

    Attributes:
        call: the request itself.
        route: what it is about.
        plan: the sites that its scope leads to; `None` if it has no scope.
        among: the sites that it may concern, this one first if it is among them.
    """

    call: Call
    route: Route
    plan: Plan | None
    among: Sequence[str]

    @property
    def resource(self) -> Resource:
        """The type of resource; there is one unless the route is local or a setting."""
        assert self.route.resource is not None
        return self.route.resource

    @property
    def is_local(self) -> bool:
        """Whether this site's own services answer it, whatever it is."""
        return self.plan is None and len(self.among) == 1 and self.route.operation not in _NOT_LOCAL
