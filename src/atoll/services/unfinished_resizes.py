"""Resizes and cold migrations that were under way when Nova was killed, settled when nova-compute starts.

Upstream's manager (`ComputeManager._init_instance` in nova/compute/manager.py) resets the task of a server whose resize had not moved its
disk, and does no more: what the server holds in Placement stays with the migration, which nobody ends, and is never released. A later
resize stays in its task for ever, and one whose confirmation was accepted can't be confirmed again. Settled here, after upstream's part:

- before the disk was moved: the allocation goes back to the server, which is as it was;
- afterwards: the server goes to ERROR, as with any other failure there, for what is to be done next was in a message only;
- what had come to its end, but for the server's own state, is ended;
- a confirmation is done again: each of its steps may be repeated;
- what migrations that have ended still hold is released.

A site's servers are resized on the host that they are on (`atoll.services.settled`).
"""

from __future__ import annotations

from typing import Any

from nova import exception, objects
from nova.compute import manager, task_states, utils, vm_states
from oslo_log import log
from oslo_utils import timeutils

LOG = log.getLogger(__name__)

BEGUN = ("accepted", "queued", "preparing", "pre-migrating", "migrating", "post-migrating", "reverting")
"""Statuses of migrations that have not finished, or are taken back."""

FINISHED = ("finished",)
"""Status of those that wait for their confirmation."""

CONFIRMED = ("confirming", "confirmed")
"""Status of those whose confirmation was accepted."""

ENDED = ("confirmed", "reverted", "error", "failed", "cancelled", "completed")
"""Status of those that hold nothing any more."""

KINDS = ("migration", "resize")

MOVED = (task_states.RESIZE_MIGRATED, task_states.RESIZE_FINISH, task_states.RESIZE_REVERTING)
"""Tasks of a server whose disk was moved, or is moved back."""


def settle(compute: manager.ComputeManager, context: Any) -> None:
    """Settle them.

    Args:
        compute: after its `init_host`, which settles upstream's part.
        context: of an administrator.
    """
    for migration in _migrations(compute, context, BEGUN):
        _settle(_end, compute, context, migration)
    for migration in _migrations(compute, context, FINISHED):
        _settle(_finish, compute, context, migration)
    for migration in _migrations(compute, context, CONFIRMED):
        _settle(_confirm, compute, context, migration)
    _settle(_release, compute, context, None)


def _settle(step: Any, compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    try:
        step(compute, context, migration)
    except Exception:
        LOG.exception("Migration %s, which was cut short by the end of Nova, can't be settled", migration.uuid if migration else "")


def _migrations(compute: manager.ComputeManager, context: Any, states: tuple[str, ...]) -> list[Any]:
    found = objects.MigrationList.get_by_filters(context, {"host": compute.host, "status": list(states)})
    return [migration for migration in found if migration.migration_type in KINDS and migration.source_compute == compute.host]


def _instance(context: Any, migration: Any) -> Any:
    attributes = ["metadata", "system_metadata", "flavor", "info_cache", "numa_topology"]
    try:
        return objects.Instance.get_by_uuid(context, migration.instance_uuid, expected_attrs=attributes)
    except exception.InstanceNotFound:
        return None


def _end(compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    """End a resize; last of all its record, so that another start would do the rest."""
    instance = _instance(context, migration)
    if instance is not None:
        LOG.warning("Its resize was cut short by the end of Nova", instance=instance)
        if instance.task_state in MOVED:
            instance.vm_state, instance.task_state = vm_states.ERROR, None
            instance.save()
            utils.add_instance_fault_from_exc(context, instance, exception.NovaException("Nova ended while it resized this server."))
        elif compute.reportclient.get_allocations_for_consumer(context, migration.uuid):
            compute._revert_allocation(context, instance, migration)  # noqa: SLF001, RUF100
    migration.status = "error"
    migration.save()


def _finish(_compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    """Do the last step of `ComputeManager._finish_resize`."""
    instance = _instance(context, migration)
    if instance is not None and instance.task_state == task_states.RESIZE_FINISH:
        instance.vm_state, instance.task_state, instance.launched_at = vm_states.RESIZED, None, timeutils.utcnow()
        instance.save(expected_task_state=task_states.RESIZE_FINISH)


def _confirm(compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    instance = _instance(context, migration)
    if instance is None or instance.vm_state != vm_states.RESIZED:
        return
    LOG.warning("The confirmation of its resize was cut short by the end of Nova, and is done again", instance=instance)
    migration.status = "confirming"
    migration.save()
    compute.confirm_resize(context, instance, migration)


def _release(compute: manager.ComputeManager, context: Any, _migration: None) -> None:
    ended = {migration.uuid for migration in _migrations(compute, context, ENDED)}
    for node in objects.ComputeNodeList.get_all_by_host(context, compute.host) if ended else ():
        held = compute.reportclient.get_allocations_for_resource_provider(context, node.uuid).allocations
        for consumer in held.keys() & ended:
            compute.reportclient.delete_allocation_for_instance(context, consumer, consumer_type="migration", force=True)
