"""Recovery of resizes and cold migrations that were under way when Nova was killed.

Upstream's manager (`ComputeManager._init_instance` in nova/compute/manager.py) resets the task of a server whose resize had not moved its
disk, and no more: the migration's allocation in Placement is never released. A resize that was interrupted later stays in its task
for ever, and a resize whose confirmation was accepted cannot be confirmed again. After upstream's recovery, this module recovers:

- before the disk was moved, the allocation goes back to the server, which is unchanged;
- afterwards, the server goes to ERROR, as with any other failure there, because only a message held the next step;
- a resize that lacked only the change of the server's state is completed;
- a confirmation is repeated: each of its steps is idempotent;
- allocations of migrations that have ended are released.

A site's servers are resized on their own host (`atoll.services.patches.nova.current_host_filter`).
"""

from __future__ import annotations

from typing import Any

from nova import exception, objects
from nova.compute import manager, task_states, utils, vm_states
from oslo_log import log
from oslo_utils import timeutils

LOG = log.getLogger(__name__)

BEGUN = ("accepted", "queued", "preparing", "pre-migrating", "migrating", "post-migrating", "reverting")
"""Statuses of migrations that have not finished, or are being reverted."""

FINISHED = ("finished",)
"""Status of migrations that wait for their confirmation."""

CONFIRMED = ("confirming", "confirmed")
"""Statuses of migrations whose confirmation was accepted."""

ENDED = ("confirmed", "reverted", "error", "failed", "cancelled", "completed")
"""Statuses of migrations that should hold no allocations any more."""

KINDS = ("migration", "resize")

MOVED = (task_states.RESIZE_MIGRATED, task_states.RESIZE_FINISH, task_states.RESIZE_REVERTING)
"""Task states of a server whose disk was moved, or is being moved back."""


def recover(compute: manager.ComputeManager, context: Any) -> None:
    """Recover interrupted resizes and cold migrations.

    Args:
        compute: the manager, after its `init_host`, which does upstream's part.
        context: an administrator's context.
    """
    for migration in _migrations(compute, context, BEGUN):
        _recover(_end, compute, context, migration)
    for migration in _migrations(compute, context, FINISHED):
        _recover(_finish, compute, context, migration)
    for migration in _migrations(compute, context, CONFIRMED):
        _recover(_confirm, compute, context, migration)
    _recover(_release, compute, context, None)


def _recover(step: Any, compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    try:
        step(compute, context, migration)
    except Exception:
        LOG.exception("migration %s, which the end of Nova interrupted, could not be recovered", migration.uuid if migration else "")


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
    """End a resize. Save the migration's record last, so that another start would repeat the recovery after an interruption."""
    instance = _instance(context, migration)
    if instance is not None:
        LOG.warning("Its resize was cut short by the end of Nova", instance=instance)
        if instance.task_state in MOVED:
            instance.vm_state, instance.task_state = vm_states.ERROR, None
            instance.save()
            utils.add_instance_fault_from_exc(context, instance, exception.NovaException("Nova ended while it resized this server."))
        elif compute.reportclient.get_allocations_for_consumer(context, migration.uuid):
            compute._revert_allocation(context, instance, migration)
    migration.status = "error"
    migration.save()


def _finish(_compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    """Perform the last step of `ComputeManager._finish_resize`."""
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
