"""Requests for servers that Nova's API or conductor had begun when Nova was killed, settled at the next start.

nova-compute looks at its start after the servers of its host (`ComputeManager._init_instance`), and the bus hands out again which casts
were acknowledged and not begun. What neither knows upstream forgets, so that a server stays in BUILD for ever, or a record stays of none:

- a build that the conductor had begun, or the API had recorded and not sent: the server goes to ERROR, as one for which no host was found;
- a server without a host that nobody builds: the same;
- a record (`instance_mappings`, the specification, the allocation) of a server whose deletion removed the request to build it;
- a record that counts against the quota although the server is gone, or is being deleted.

It runs before anything else of Nova does, in the process that holds all of Nova but nova-compute of compute sites. One of those may
just be about to build a server without a host: it goes on, and the server becomes ACTIVE. With another bus than `zenoh://`, whose
journal tells which casts are executed yet, nothing is done.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from atoll.bus import journal
from atoll.services.contract import Settings

LOG = logging.getLogger(__name__)

_UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def settle(settings: Settings) -> None:
    """Settle them; Nova's databases must be configured, and Placement must answer. What can't be settled now is left to the next start."""
    if not settings.transport_url.startswith("zenoh:"):
        return
    from nova import context, objects

    admin = context.get_admin_context()
    later = coming(settings.data / "bus" / "journal")
    cells = list(objects.CellMappingList.get_all(admin))
    for step in (_end_builds, _fail_without_host, _forget_unmapped, _count_deleted):
        try:
            step(admin, cells, later)
        except Exception:
            LOG.exception("requests that were cut short by the end of Nova are not all settled")


def coming(journals: Path) -> frozenset[str]:
    """Return all ids in messages that are executed yet.

    Args:
        journals: the directory of the bus's journals. Call it while nobody listens under the names of those who died.
    """
    return frozenset(found.decode() for frame in journal.unbegun(journals) for found in _UUID.findall(frame))


def _end_builds(admin: Any, cells: list[Any], later: frozenset[str]) -> None:
    """Have each request to build become a server: the one that is in a cell already, or one in cell0."""
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
            # It releases, too, what the server holds in Placement: see `buried_builds`.
            conductor._bury_in_cell0(admin, _specification(admin, uuid), _cut_short(), build_requests=[request])  # noqa: SLF001, RUF100
            continue
        mapping = objects.InstanceMapping.get_by_instance_uuid(admin, uuid)
        mapping.cell_mapping = cell
        mapping.save()
        request.destroy()  # it has no host: see `_fail_without_host`


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
        _release(admin, uuid)
        specification = _specification(admin, uuid)
        if specification is not None:
            specification.destroy()
        mapping.destroy()


def _count_deleted(admin: Any, cells: list[Any], _later: frozenset[str]) -> None:
    """As the API does after it has sent the message that deletes a server (`API._update_queued_for_deletion`)."""
    from nova import objects

    for cell in cells:
        mappings = objects.InstanceMappingList.get_not_deleted_by_cell_and_project(admin, cell.uuid, None)
        alive = {uuid for uuid, deleting in _rows(admin, cell) if not deleting}
        for mapping in mappings:
            if mapping.instance_uuid not in alive:
                mapping.queued_for_delete = True
                mapping.save()


def _rows(admin: Any, cell: Any, uuids: list[str] | None = None) -> list[tuple[str, bool]]:
    """The servers of a cell that are not deleted, all or some of them, and whether they are being deleted."""
    from nova import context
    from nova.compute import task_states
    from nova.db.main import api, models

    @api.pick_context_manager_reader  # type: ignore[untyped-decorator]
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


def _release(admin: Any, uuid: str) -> None:
    from nova.scheduler.client import report

    report.report_client_singleton().delete_allocation_for_instance(admin, uuid, force=True)


def _cut_short() -> Any:
    from nova import exception

    return exception.NovaException("Nova ended while it built this server. Delete it, and boot another.")
