"""The request context: a client's request with its route and sites, which every stage of the gateway reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.gateway.request.call import Call
from atoll.gateway.resolve.routes import Operation, Resource, Route
from atoll.gateway.scope import Plan

_NOT_LOCAL = frozenset((Operation.CREATE, Operation.EVERYWHERE))


@dataclass(frozen=True)
class Request:
    """The context of a client's request. `Recogniser` constructs it once; later stages read it.

    Attributes:
        call: the request itself; its body is parsed once (`Call.value`).
        route: the operation and the resource of the request.
        plan: the sites that the scope of the request means; `None` if it has no scope.
        among: the sites that the request may concern, this site first if it is one of them.
    """

    call: Call
    route: Route
    plan: Plan | None
    among: Sequence[str]

    @property
    def resource(self) -> Resource:
        """The type of the resource; every route has one, except local ones and settings."""
        assert self.route.resource is not None
        return self.route.resource

    @property
    def is_local(self) -> bool:
        """True if this site's own services alone answer the request."""
        return self.plan is None and len(self.among) == 1 and self.route.operation not in _NOT_LOCAL
