"""Recovery of resizes and cold migrations that were under way when Nova was killed.

Upstream's manager (`ComputeManager._init_instance` in nova/compute/manager.py) resets the task of a server whose resize had not moved its
disk, and no more: the migration's allocation in Placement is never released. A resize that was interrupted later stays in its task
for ever, and a resize whose confirmation was accepted cannot be confirmed again. After upstream's recovery, this module recovers:

- before the disk was moved, the allocation goes back to the server, which is unchanged;
- afterwards, the server goes to ERROR, as with any other failure there, because only a message held the next step;
- a resize that lacked only the change of the server's state is completed;
- a confirmation is repeated: each of its steps is idempotent;
- the allocation of a migration that has ended goes back to a server that holds none, and is released otherwise.

Servers whose resize the bus will continue, because it delivers a cast again, are left to it. A site's servers are resized on their own
host (`atoll.services.patches.nova.current_host_filter`).
"""

from __future__ import annotations

from typing import Any

from nova import exception, objects
from nova.compute import manager, task_states, utils, vm_states
from oslo_log import log
from oslo_utils import timeutils

from atoll.services.nova.recovery.redelivery import Redelivery

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

METHODS = (
    "migrate_server",
    "prep_resize",
    "resize_instance",
    "finish_resize",
    "confirm_resize",
    "revert_resize",
    "finish_revert_resize",
)
"""Methods of the conductor and of nova-compute whose casts are the steps of a resize."""


def recover(compute: manager.ComputeManager, context: Any, redelivery: Redelivery) -> None:
    """Recover interrupted resizes and cold migrations.

    Args:
        compute: the manager, after its `init_host`, which does upstream's part.
        context: an administrator's context.
        redelivery: the casts that Nova will still execute.
    """
    later = redelivery.ids(METHODS)
    for states, step in ((BEGUN, _end), (FINISHED, _finish), (CONFIRMED, _confirm)):
        for migration in _migrations(compute, context, states, later):
            _recover(step, compute, context, migration)
    for migration in _holding(compute, context, _migrations(compute, context, ENDED, later)):
        _recover(_release, compute, context, migration)


def _recover(step: Any, compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    try:
        step(compute, context, migration)
    except Exception:
        LOG.exception("migration %s, which the end of Nova interrupted, could not be recovered", migration.uuid)


def _migrations(compute: manager.ComputeManager, context: Any, states: tuple[str, ...], later: frozenset[str]) -> list[Any]:
    found = objects.MigrationList.get_by_filters(context, {"host": compute.host, "status": list(states)})
    own = [migration for migration in found if migration.migration_type in KINDS and migration.source_compute == compute.host]
    return [migration for migration in own if migration.instance_uuid not in later]


def _holding(compute: manager.ComputeManager, context: Any, migrations: list[Any]) -> list[Any]:
    """Return the migrations that hold resources of the host; Placement is asked once for each of its nodes."""
    held: set[str] = set()
    for node in objects.ComputeNodeList.get_all_by_host(context, compute.host) if migrations else ():
        held.update(compute.reportclient.get_allocations_for_resource_provider(context, node.uuid).allocations)
    return [migration for migration in migrations if migration.uuid in held]


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


def _release(compute: manager.ComputeManager, context: Any, migration: Any) -> None:
    """Release the allocations in Placement of a migration that has ended; a server without allocations gets them back.

    A server has no allocations if Placement was killed after it had moved them to the migration, before Nova got the answer.
    """
    client = compute.reportclient
    instance = _instance(context, migration)
    if instance is not None and instance.host == compute.host and not client.get_allocations_for_consumer(context, instance.uuid):
        compute._revert_allocation(context, instance, migration)
    else:
        client.delete_allocation_for_instance(context, migration.uuid, consumer_type="migration", force=True)
