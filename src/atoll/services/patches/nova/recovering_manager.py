"""A manager of nova-compute that recovers work which upstream forgets: deletions during a build, resizes and other tasks.

At its start, upstream's manager (`ComputeManager._init_instance` in nova/compute/manager.py) finishes a deletion that an earlier process
began. But it first looks for servers whose build was interrupted, which go to ERROR: such a server stays although its deletion was
acknowledged (204). The subclass finishes the deletion of such a server. `nova.recovery` recovers resizes and other tasks after
`init_host`.

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


class RecoveringManager(manager.ComputeManager):
    """Upstream's manager, which also recovers the work that it forgets.

    Attributes:
        progress: called before each server of the host is recovered at the start; see `report_to`.
    """

    progress: Callable[[], None] = staticmethod(lambda: None)

    def init_host(self, service_ref: Any) -> None:
        """Start as upstream does, then recover resizes and other tasks."""
        super().init_host(service_ref)
        admin = contexts.get_admin_context()
        resizes.recover(self, admin)
        tasks.recover(self, admin)

    def _init_instance(self, context: Any, instance: Any) -> None:
        self.progress()
        building = instance.host == self.host and instance.vm_state == vm_states.BUILDING
        if building and instance.task_state == task_states.DELETING:
            instance.vm_state = vm_states.ERROR  # upstream finishes the deletion of a server in ERROR
        super()._init_instance(context, instance)


def report_to(progress: Callable[[], None]) -> None:
    """Have the manager report its progress at the start.

    Args:
        progress: called before each server of the host is recovered.
    """
    RecoveringManager.progress = staticmethod(progress)


def install() -> None:
    """Have nova-compute use `RecoveringManager` (`SERVICE_MANAGERS` in nova/service.py)."""
    nova.service.SERVICE_MANAGERS["nova-compute"] = f"{__name__}.{RecoveringManager.__name__}"
