"""Tasks of servers that nova-compute had begun when it was killed, and that upstream does not settle when it starts.

A request that was accepted sets a server's `task_state` and sends a message. Once nova-compute has begun to execute that, only its memory
knows of it: after a kill the server stays in its task for ever, and every request but a deletion is refused (409). Upstream
(`ComputeManager._init_instance`) settles deletions, builds, reboots, stops, starts and snapshots. Settled here, after it:

- a soft deletion and a restoration are done again: they were promised;
- any other task ends where it was. The server is as the hypervisor has it, which upstream's next look at its power state notes.

Tasks whose message the bus hands out again are left to that. Resizes have rules of their own (`unfinished_resizes`), live migrations are
upstream's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nova import objects
from nova.compute import manager, task_states
from nova.conf import CONF
from oslo_log import log

from atoll.bus.options import GROUP
from atoll.services.unfinished_requests import coming

LOG = log.getLogger(__name__)

AGAIN = {task_states.SOFT_DELETING: "soft_delete_instance", task_states.RESTORING: "restore_instance"}
"""The method that does a task again."""

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
"""Tasks that end where they were."""

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
"""Tasks that upstream settles, or `unfinished_resizes`."""


def settle(compute: manager.ComputeManager, context: Any) -> None:
    """Settle them.

    Args:
        compute: after its `init_host`, before it takes messages.
        context: of an administrator.
    """
    later = _coming()
    for instance in objects.InstanceList.get_by_host(context, compute.host, expected_attrs=["info_cache", "metadata", "system_metadata"]):
        if instance.uuid in later:
            continue
        try:
            _settle(compute, context, instance)
        except Exception:
            LOG.exception("Its task, which was cut short by the end of Nova, can't be settled", instance=instance)


def _coming() -> frozenset[str]:
    journals = getattr(getattr(CONF, GROUP, None), "journal_dir", None)
    return coming(Path(journals)) if journals else frozenset()


def _settle(compute: manager.ComputeManager, context: Any, instance: Any) -> None:
    task = instance.task_state
    if task in AGAIN:
        LOG.warning("Its task %s was cut short by the end of Nova, and is done again", task, instance=instance)
        getattr(compute, AGAIN[task])(context, instance)
    elif task in RESET:
        LOG.warning("Its task %s was cut short by the end of Nova", task, instance=instance)
        instance.task_state = None
        instance.save(expected_task_state=task)
