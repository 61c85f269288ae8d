"""Boots that claim their host with two requests to Placement: one for the candidates, and one for the claim.

Before the scheduler claims a host for a server, upstream's client (`SchedulerReportClient.claim_resources` in
nova/scheduler/client/report.py) reads the allocations that the server has already: none, unless it is being evacuated. Afterwards
nova-compute reads the claim that the scheduler has just written (`ComputeManager._build_and_run_instance`). A subclass replaces both. It
first sends the claim as for a new server. If the server holds anything, Placement refuses this as a conflict of generations, and the
subclass does as upstream. The first reader of a claim gets it from memory, if the reader works for the request that made the claim, in the
same process. A claim is forgotten when the process writes anything for the server. So no reader misses a change by another process.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from copy import deepcopy
from typing import Any

from cachetools import TTLCache
from nova import exception
from nova.scheduler.client import report

Allocations = dict[str, Any]

CLAIMS_S = 60
"""Seconds for which a claim is kept for its first reader: a build that waits longer asks Placement."""

MOST_CLAIMS = 1000

_new: ContextVar[str] = ContextVar("new", default="")
"""The URL of the allocations of a server that is taken for new."""

_claims: TTLCache[str, tuple[str, Allocations]] = TTLCache(MOST_CLAIMS, CLAIMS_S)
_lock = threading.Lock()

_CLAIM = inspect.signature(report.SchedulerReportClient.claim_resources)


class _Nothing:
    """An answer like Placement's for a consumer that holds nothing."""

    status_code = 200

    def json(self) -> dict[str, Allocations]:
        return {"allocations": {}}


class ClaimingClient(report.SchedulerReportClient):
    """Upstream's client of Placement, whose claims take one request."""

    def claim_resources(self, context: Any, consumer_uuid: str, alloc_request: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        """Claim resources for a server, first as for one that holds nothing, unless the caller has read its allocations."""
        given = _CLAIM.bind(self, context, consumer_uuid, alloc_request, *arguments, **keywords).arguments
        if given.get("consumer_generation") is None and "consumer_generation" not in alloc_request:
            token = _new.set(f"/allocations/{consumer_uuid}")
            try:
                claimed = super().claim_resources(context, consumer_uuid, alloc_request, *arguments, **keywords)
            except exception.AllocationUpdateFailed:  # the server holds something
                pass
            else:
                if claimed:
                    _keep(consumer_uuid, str(context.request_id), alloc_request["allocations"])
                return claimed
            finally:
                _new.reset(token)
        return super().claim_resources(context, consumer_uuid, alloc_request, *arguments, **keywords)

    def get(self, url: str, *arguments: Any, **keywords: Any) -> Any:
        """Ask Placement, except for the allocations of a server that is taken for new."""
        return _Nothing() if url == _new.get() else super().get(url, *arguments, **keywords)

    def get_allocations_for_consumer(self, context: Any, consumer: str) -> Any:
        """Return a server's allocations; the first time after its claim by the same request in this process, return the claim."""
        return _take(consumer, str(context.request_id)) or super().get_allocations_for_consumer(context, consumer)

    def put(self, url: str, data: Any, *arguments: Any, **keywords: Any) -> Any:
        """Write to Placement, and forget the claim of the server that the request concerns: its next reader asks Placement."""
        _forget(url, ())
        return super().put(url, data, *arguments, **keywords)

    def post(self, url: str, data: Any, *arguments: Any, **keywords: Any) -> Any:
        """Write to Placement, maybe for several servers, and forget their claims."""
        _forget(url, data if url == "/allocations" else data.get("allocations", ()) if url == "/reshaper" else ())
        return super().post(url, data, *arguments, **keywords)

    def delete(self, url: str, *arguments: Any, **keywords: Any) -> Any:
        """Delete something in Placement, and forget the claim of the server that the request concerns."""
        _forget(url, ())
        return super().delete(url, *arguments, **keywords)


def _keep(consumer: str, request: str, allocations: Allocations) -> None:
    with _lock:
        _claims[consumer] = request, deepcopy(allocations)


def _take(consumer: str, request: str) -> Allocations | None:
    with _lock:
        found = _claims.pop(consumer, None)
    return found[1] if found is not None and found[0] == request else None


def _forget(url: str, consumers: Iterable[str]) -> None:
    """Forget the claims of the servers that a request writes for: the one that the URL names, and others."""
    before, _, named = url.rpartition("/")
    with _lock:
        for consumer in (*consumers, *((named,) if before == "/allocations" else ())):
            _claims.pop(consumer, None)


def install() -> None:
    """Have all parts of Nova in this process use `ClaimingClient`."""
    report.SchedulerReportClient = ClaimingClient
