"""Recovery of tasks that nova-compute had begun when it was killed, and that upstream does not recover.

An accepted request sets a server's `task_state` and sends a message. Once nova-compute has begun to execute the message, the message
exists only in the memory of nova-compute: after a kill the server stays in this task state for ever, and every request but a deletion is
refused (409). Upstream (`ComputeManager._init_instance`) recovers deletions, builds, reboots, stops, starts and snapshots. After upstream's
recovery, this module recovers:

- a soft deletion and a restoration, which were acknowledged: they are repeated;
- any other task: it is abandoned. The server keeps the power state that it has in the hypervisor; upstream's next poll records it.

Tasks whose message the bus redelivers are left to the bus. Resizes have a module of their own (`resizes`), live migrations are upstream's.
"""

from __future__ import annotations

from typing import Any

from nova import objects
from nova.compute import manager, task_states
from oslo_log import log

from atoll.services.nova.recovery.redelivery import Redelivery

LOG = log.getLogger(__name__)

AGAIN = {task_states.SOFT_DELETING: "soft_delete_instance", task_states.RESTORING: "restore_instance"}
"""Methods that repeat a task, by task state."""

RESET = frozenset(
    {
        task_states.PAUSING,
        task_states.UNPAUSING,
        task_states.SUSPENDING,
        task_states.RESUMING,
        task_states.RESCUING,
        task_states.UNRESCUING,
        task_states.UPDATING_PASSWORD,
        task_states.SHELVING,
        task_states.SHELVING_IMAGE_PENDING_UPLOAD,
        task_states.SHELVING_IMAGE_UPLOADING,
        task_states.SHELVING_OFFLOADING,
        task_states.UNSHELVING,
        task_states.IMAGE_BACKUP,
    }
)
"""Task states that are reset, because the task is abandoned."""

ELSEWHERE = frozenset(
    {
        task_states.DELETING,
        task_states.SCHEDULING,
        task_states.BLOCK_DEVICE_MAPPING,
        task_states.NETWORKING,
        task_states.SPAWNING,
        task_states.REBUILDING,
        task_states.REBUILD_BLOCK_DEVICE_MAPPING,
        task_states.REBUILD_SPAWNING,
        task_states.IMAGE_SNAPSHOT,
        task_states.IMAGE_SNAPSHOT_PENDING,
        task_states.IMAGE_PENDING_UPLOAD,
        task_states.IMAGE_UPLOADING,
        task_states.REBOOTING,
        task_states.REBOOT_PENDING,
        task_states.REBOOT_STARTED,
        task_states.REBOOTING_HARD,
        task_states.REBOOT_PENDING_HARD,
        task_states.REBOOT_STARTED_HARD,
        task_states.POWERING_OFF,
        task_states.POWERING_ON,
        task_states.RESIZE_PREP,
        task_states.RESIZE_MIGRATING,
        task_states.RESIZE_MIGRATED,
        task_states.RESIZE_FINISH,
        task_states.RESIZE_REVERTING,
        task_states.RESIZE_CONFIRMING,
        task_states.MIGRATING,
    }
)
"""Task states that upstream or `resizes` recovers."""


def recover(compute: manager.ComputeManager, context: Any, redelivery: Redelivery) -> None:
    """Recover the interrupted tasks of the host's servers.

    Args:
        compute: the manager, after its `init_host` and before it receives messages.
        context: an administrator's context.
        redelivery: the casts that Nova will still execute.
    """
    later = redelivery.ids()
    for instance in objects.InstanceList.get_by_host(context, compute.host, expected_attrs=["info_cache", "metadata", "system_metadata"]):
        if instance.uuid in later:
            continue
        try:
            _recover(compute, context, instance)
        except Exception:
            LOG.exception("Its task, which the end of Nova interrupted, could not be recovered", instance=instance)


def _recover(compute: manager.ComputeManager, context: Any, instance: Any) -> None:
    task = instance.task_state
    if task in AGAIN:
        LOG.warning("Its task %s was cut short by the end of Nova, and is done again", task, instance=instance)
        getattr(compute, AGAIN[task])(context, instance)
    elif task in RESET:
        LOG.warning("Its task %s was cut short by the end of Nova", task, instance=instance)
        instance.task_state = None
        instance.save(expected_task_state=task)
