"""A manager of nova-compute that recovers work which upstream forgets: deletions during a build, resizes and other tasks.

At its start, upstream's manager (`ComputeManager._init_instance` in nova/compute/manager.py) finishes a deletion that an earlier process
began. But it first looks for servers whose build was interrupted, which go to ERROR: such a server stays although its deletion was
acknowledged (204). The subclass finishes the deletion of such a server. `nova.recovery` recovers resizes and other tasks after
`init_host`.

Upstream also ends the task of a server whose resize or snapshot is about to begin. If the bus delivers the cast of the task again, the
server would take a second request meanwhile, and both would be executed. So the task stays.

After a loss of power, `_init_instance` also starts the guests again, one after the other, before Nova is ready. With many guests that
takes longer than the start of a service may take. So the manager reports each of them as progress.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nova.service
from nova import context as contexts
from nova.compute import manager, task_states, vm_states

from atoll.services.nova.recovery import resizes, tasks
from atoll.services.nova.recovery.redelivery import Redelivery

BEGINNING = {
    task_states.RESIZE_PREP: ("migrate_server", "prep_resize"),
    task_states.IMAGE_SNAPSHOT_PENDING: ("snapshot_instance",),
}
"""Tasks that upstream ends although a cast may still begin them, with the methods of these casts."""


class RecoveringManager(manager.ComputeManager):
    """Upstream's manager, which also recovers the work that it forgets.

    Attributes:
        progress: called before each server of the host is recovered at the start; see `prepare`.
        redelivery: the casts that the bus delivers again.
    """

    progress: Callable[[], None] = staticmethod(lambda: None)
    redelivery = Redelivery()

    def init_host(self, service_ref: Any) -> None:
        """Start as upstream does, then recover resizes and other tasks."""
        super().init_host(service_ref)
        admin = contexts.get_admin_context()
        resizes.recover(self, admin, self.redelivery)
        tasks.recover(self, admin, self.redelivery)

    def _init_instance(self, context: Any, instance: Any) -> None:
        self.progress()
        building = instance.host == self.host and instance.vm_state == vm_states.BUILDING
        if building and instance.task_state == task_states.DELETING:
            instance.vm_state = vm_states.ERROR  # upstream finishes the deletion of a server in ERROR
        task = instance.task_state
        if task not in BEGINNING or instance.uuid not in self.redelivery.ids(BEGINNING[task]):
            super()._init_instance(context, instance)
            return
        _show_task(instance, None)
        super()._init_instance(context, instance)
        _show_task(instance, task)


def _show_task(instance: Any, task: str | None) -> None:
    """Change the task of the object in memory; a save leaves the database's task as it is."""
    instance.task_state = task
    instance.obj_reset_changes(["task_state"])


def prepare(redelivery: Redelivery, progress: Callable[[], None] = lambda: None) -> None:
    """Prepare the start of the manager.

    Args:
        redelivery: the casts that the bus delivers again, read before any part of Nova in this process listens.
        progress: called before each server of the host is recovered.
    """
    RecoveringManager.redelivery = redelivery
    RecoveringManager.progress = staticmethod(progress)


def install() -> None:
    """Have nova-compute use `RecoveringManager` (`SERVICE_MANAGERS` in nova/service.py)."""
    nova.service.SERVICE_MANAGERS["nova-compute"] = f"{__name__}.{RecoveringManager.__name__}"
