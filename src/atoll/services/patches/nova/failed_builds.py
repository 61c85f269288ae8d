"""Failed builds that hold nothing in Placement.

If Placement is killed after it has recorded the scheduler's claim, the answer is lost, and the scheduler assumes that Placement refused the
host. In the end the server is buried in cell0 (`ComputeTaskManager._bury_in_cell0` in nova/conductor/manager.py), or deleted, and
Placement's allocation stays for ever: nova-compute checks only allocations of servers of its own cell. The subclass releases it when the
server is buried.
"""

from __future__ import annotations

import logging
from typing import Any

from nova.conductor import manager

LOG = logging.getLogger(__name__)


class ReleasingManager(manager.ComputeTaskManager):
    """Upstream's manager, which releases the allocations of buried servers."""

    def _bury_in_cell0(self, context: Any, request_spec: Any, exc: Any, build_requests: Any = None, **others: Any) -> None:
        super()._bury_in_cell0(context, request_spec, exc, build_requests=build_requests, **others)
        for request in build_requests or ():
            try:
                self.report_client.delete_allocation_for_instance(context, request.instance_uuid, force=True)
            except Exception:
                LOG.exception(
                    "the build of server %s has failed, and its allocations in Placement can't be released", request.instance_uuid
                )


def install() -> None:
    """Have the conductor use `ReleasingManager` (`ConductorManager.__init__` in nova/conductor/manager.py)."""
    manager.ComputeTaskManager = ReleasingManager
