"""Deleted builds that hold nothing in Placement.

If a server is deleted before it is in a cell, the conductor finds that the request to build it is gone. Upstream then deletes the server's
mapping, and after that the scheduler's claim in Placement (`ComputeTaskManager.schedule_and_build_instances` in nova/conductor/manager.py).
If Nova is killed in between, nothing records that the server has existed, and its allocations stay forever. So a mapping without a cell
first releases the server's allocations. A mapping that stays, also because Placement does not answer, is removed at the next start of Nova
(`services.nova.recovery.requests`).
"""

from __future__ import annotations

import logging

from nova.objects import instance_mapping
from nova.scheduler.client import report

LOG = logging.getLogger(__name__)

_destroy = instance_mapping.InstanceMapping.destroy


def destroy(mapping: instance_mapping.InstanceMapping) -> None:
    """Delete the mapping of a server as upstream does; if the server is in no cell, release its allocations first.

    If Placement does not release them, the mapping stays, because nothing else records the server.
    """
    if mapping.cell_mapping is None and not _released(mapping):
        LOG.warning("the next start of Nova releases the allocations of server %s", mapping.instance_uuid)
        return
    _destroy(mapping)


def _released(mapping: instance_mapping.InstanceMapping) -> bool:
    uuid = mapping.instance_uuid
    try:
        answer = report.report_client_singleton().delete_allocation_for_instance(mapping._context, uuid, force=True)
    except Exception:
        LOG.exception("server %s was deleted before it was built, and its allocations in Placement can't be released", uuid)
        return False
    return answer is not None  # upstream returns None if Placement can't be reached, and False if there was no allocation


def install() -> None:
    """Have this process release the allocations of servers that are deleted before they are in a cell."""
    instance_mapping.InstanceMapping.destroy = destroy
