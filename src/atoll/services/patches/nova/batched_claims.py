"""The allocations of a server at a compute site, which travel with its batches.

nova-compute asks Placement for the claim that the scheduler has made for a new server, and deletes it when the server is deleted: a round
trip each. In a build the conductor reads the claim as part of the batch's first message. In a deletion it deletes the allocations in their
place in the batch: after the server was saved as deleted, and before the server's record is deleted (`ComputeManager._delete_instance` in
nova/compute/manager.py). If that fails, the record stays, as with upstream's code.
"""

from __future__ import annotations

from typing import Any

from nova.scheduler.client import report

from atoll.services.patches.nova import batches
from atoll.services.patches.nova.batch_actions import BatchAction
from atoll.services.patches.nova.placement_claims import ClaimingClient


class BatchedClient(ClaimingClient):
    """The client that nova-compute of a compute site uses for Placement."""

    def get_allocations_for_consumer(self, context: Any, consumer: str) -> Any:
        """Return the allocations of a server: those that the batch has read ahead, otherwise Placement's answer."""
        batch = batches.current()
        if batch is not None:
            known, allocations = batch.read(claim(context, consumer))
            if known:
                return allocations
        return super().get_allocations_for_consumer(context, consumer)

    def delete_allocation_for_instance(self, context: Any, uuid: str, consumer_type: str = "instance", force: bool = False) -> Any:
        """Delete the allocations of a server; if the thread's batch deletes this server, the call waits for its turn in the batch."""
        batch = batches.current()
        if batch is None or not batch.deletes or batch.server != uuid:
            return super().delete_allocation_for_instance(context, uuid, consumer_type, force)
        batch.defer(BatchAction.of_placement(context, "delete_allocation_for_instance", uuid, consumer_type, force))
        return True

    @staticmethod
    def alone(context: Any, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method of the client outside of any batch."""
        with batches.joined(None):
            return getattr(report.report_client_singleton(), method)(context, *arguments, **keywords)


def claim(context: Any, server: str) -> BatchAction:
    """Return the call that reads the allocations of a server."""
    return BatchAction.of_placement(context, "get_allocations_for_consumer", server, optional=True)


def install() -> None:
    """Have nova-compute use `BatchedClient` for its requests to Placement."""
    report.SchedulerReportClient = BatchedClient
