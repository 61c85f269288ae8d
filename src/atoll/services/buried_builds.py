"""Servers for which no host was found, which hold nothing in Placement.

If the answer to the scheduler's claim is lost, since Placement was killed after it had noted it, the scheduler takes the host for refused.
The server is buried in cell0 in the end (`ComputeTaskManager._bury_in_cell0` in nova/conductor/manager.py), or deleted, and what
Placement has noted stays for ever: nova-compute looks only after allocations of servers of its own cell. Replaced: that method, which
releases it.
"""

from __future__ import annotations

import logging
from typing import Any

from nova.conductor import manager

LOG = logging.getLogger(__name__)


class ReleasingManager(manager.ComputeTaskManager):  # type: ignore[misc]
    """Upstream's manager, that releases what buried servers hold."""

    def _bury_in_cell0(self, context: Any, request_spec: Any, exc: Any, build_requests: Any = None, **others: Any) -> None:
        super()._bury_in_cell0(context, request_spec, exc, build_requests=build_requests, **others)
        for request in build_requests or ():
            try:
                self.report_client.delete_allocation_for_instance(context, request.instance_uuid, force=True)
            except Exception:
                LOG.exception("what server %s, which nobody builds, holds in Placement can't be released", request.instance_uuid)


def install() -> None:
    """Have the conductor use it (`ConductorManager.__init__` in nova/conductor/manager.py)."""
    manager.ComputeTaskManager = ReleasingManager
