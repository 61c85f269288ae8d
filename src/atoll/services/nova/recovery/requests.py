"""Recovery of requests for servers that Nova's API or conductor had begun when Nova was killed.

At its start, nova-compute recovers the servers of its host (`ComputeManager._init_instance`), and the bus redelivers casts that were
acknowledged and not begun. Upstream does not recover other requests, so that a server stays in BUILD for ever, or the record of a server
that does not exist stays. This module recovers:

- a build that the conductor had begun, or that the API had recorded and not sent: the server goes to ERROR, as if no host had been found;
- a server without a host that no process builds: it goes to ERROR too;
- a record (`instance_mappings`, the specification, the allocation) of a server whose deletion removed the request to build it;
- a record that counts against the quota although the server is gone, or is being deleted.

Recovery runs before the rest of Nova, in the process that holds all of Nova but nova-compute of compute sites. If a compute site is just
about to build a server without a host, it continues, and the server becomes ACTIVE. Nothing is recovered with a bus other than `zenoh://`,
because only its journal shows which casts will still be executed.

On a Nova that several sites share, another site may be carrying a young request out. There, only requests older than `YOUNG_S` are
recovered; the next start of any of these sites recovers the others.
"""

from __future__ import annotations

import logging
from typing import Any

from atoll.services.contract import Settings
from atoll.services.nova.recovery.redelivery import Redelivery

LOG = logging.getLogger(__name__)

YOUNG_S = 600.0
"""Age in seconds from which a request on a shared Nova is given up by a site that starts: longer than any step of a build takes."""


def recover(settings: Settings, redelivery: Redelivery) -> None:
    """Recover interrupted requests; a recovery that fails is left to the next start.

    Nova's databases must be configured, and Placement must answer.

    Args:
        settings: the site's settings.
        redelivery: the casts that Nova will still execute.
    """
    if not settings.transport_url.startswith("zenoh:"):
        return
    from nova import context, objects

    admin = context.get_admin_context()
    later = redelivery.ids() | (_young(admin) if settings.sharing else frozenset())
    cells = list(objects.CellMappingList.get_all(admin))
    for step in (_end_builds, _fail_without_host, _forget_unmapped, _count_deleted):
        try:
            step(admin, cells, later)
        except Exception:
            LOG.exception("interrupted requests could not all be recovered; the next start tries again")


def _young(admin: Any) -> frozenset[str]:
    """Return the ids of the servers whose request is younger than `YOUNG_S`."""
    from datetime import timedelta

    from nova.db.api import api, models
    from oslo_utils import timeutils

    def read(context: Any) -> list[Any]:
        since = timeutils.utcnow() - timedelta(seconds=YOUNG_S)
        return list(context.session.query(models.InstanceMapping.instance_uuid).filter(models.InstanceMapping.created_at >= since))

    return frozenset(uuid for (uuid,) in api.context_manager.reader(read)(admin))


def _end_builds(admin: Any, cells: list[Any], later: frozenset[str]) -> None:
    """Replace each recorded request for a build by a server: the one that is in a cell already, or a new one in cell0."""
    from nova import objects
    from nova.conductor import manager

    for request in objects.BuildRequestList.get_all(admin):
        uuid = request.instance_uuid
        if uuid in later:
            continue
        LOG.warning("The build of server %s was cut short by the end of Nova", uuid)
        cell = next((cell for cell in cells if _rows(admin, cell, [uuid])), None)
        if cell is None:
            conductor = manager.ComputeTaskManager()
            # This also releases the server's allocations: see `patches.nova.failed_builds`.
            conductor._bury_in_cell0(admin, _specification(admin, uuid), _cut_short(), build_requests=[request])
            continue
        mapping = objects.InstanceMapping.get_by_instance_uuid(admin, uuid)
        mapping.cell_mapping = cell
        mapping.save()
        request.destroy()  # the server has no host; `_fail_without_host` handles it


def _fail_without_host(admin: Any, cells: list[Any], later: frozenset[str]) -> None:
    from nova import context, objects
    from nova.compute import task_states, utils, vm_states

    for cell in cells:
        with context.target_cell(admin, cell) as targeted:
            for instance in objects.InstanceList.get_by_filters(targeted, {"vm_state": vm_states.BUILDING, "deleted": False}):
                if instance.host or instance.uuid in later or instance.task_state == task_states.DELETING:
                    continue
                LOG.warning("The build of server %s was cut short by the end of Nova", instance.uuid)
                instance.vm_state, instance.task_state = vm_states.ERROR, None
                instance.save()
                utils.add_instance_fault_from_exc(targeted, instance, _cut_short())


def _forget_unmapped(admin: Any, _cells: list[Any], later: frozenset[str]) -> None:
    from nova import objects

    building = {request.instance_uuid for request in objects.BuildRequestList.get_all(admin)}
    for mapping in objects.InstanceMappingList.get_by_cell_id(admin, None):
        uuid = mapping.instance_uuid
        if uuid in building or uuid in later:
            continue
        specification = _specification(admin, uuid)
        if specification is not None:
            specification.destroy()
        mapping.destroy()  # this also releases the server's allocations: see `patches.nova.deleted_builds`


def _count_deleted(admin: Any, cells: list[Any], _later: frozenset[str]) -> None:
    """Mark servers that are being deleted as queued for deletion, as the API does after it has sent the message.

    See `API._update_queued_for_deletion` in nova/compute/api.py.
    """
    from nova import objects

    for cell in cells:
        mappings = objects.InstanceMappingList.get_not_deleted_by_cell_and_project(admin, cell.uuid, None)
        alive = {uuid for uuid, deleting in _rows(admin, cell) if not deleting}
        for mapping in mappings:
            if mapping.instance_uuid not in alive:
                mapping.queued_for_delete = True
                mapping.save()


def _rows(admin: Any, cell: Any, uuids: list[str] | None = None) -> list[tuple[str, bool]]:
    """Return the servers of a cell that are not deleted, all or some of them, and whether each is being deleted."""
    from nova import context
    from nova.compute import task_states
    from nova.db.main import api, models

    @api.pick_context_manager_reader  # type: ignore[untyped-decorator]  # has no types
    def read(targeted: Any) -> list[Any]:
        query = targeted.session.query(models.Instance.uuid, models.Instance.task_state).filter_by(deleted=0)
        return list(query if uuids is None else query.filter(models.Instance.uuid.in_(uuids)))

    with context.target_cell(admin, cell) as targeted:
        return [(uuid, state == task_states.DELETING) for uuid, state in read(targeted)]


def _specification(admin: Any, uuid: str) -> Any:
    from nova import exception, objects

    try:
        return objects.RequestSpec.get_by_instance_uuid(admin, uuid)
    except exception.RequestSpecNotFound:
        return None


def _cut_short() -> Any:
    from nova import exception

    return exception.NovaException("Nova ended while it built this server. Delete it, and boot another.")
