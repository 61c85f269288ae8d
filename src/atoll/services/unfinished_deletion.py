"""Work that nova-compute finishes when it starts, and upstream forgets: deletions that began during a build, resizes, other tasks.

Upstream's manager (`ComputeManager._init_instance` in nova/compute/manager.py) ends, when it starts, a deletion that an earlier process
began. But it looks first for servers whose build was cut short, which go to ERROR for good: one of which a user was told already that it
is being deleted (204) stays. Replaced: the order of the two, for a server that is both. Resizes and other tasks are settled
after all of `init_host`, by `unfinished_resizes` and `unfinished_tasks`.
"""

from __future__ import annotations

from typing import Any

import nova.service
from nova import context as contexts
from nova.compute import manager, task_states, vm_states

from atoll.services import unfinished_resizes, unfinished_tasks


class FinishingManager(manager.ComputeManager):  # type: ignore[misc]
    """Upstream's manager, that finishes these too."""

    def init_host(self, service_ref: Any) -> None:
        """As upstream; then settle resizes and other tasks."""
        super().init_host(service_ref)
        admin = contexts.get_admin_context()
        unfinished_resizes.settle(self, admin)
        unfinished_tasks.settle(self, admin)

    def _init_instance(self, context: Any, instance: Any) -> None:
        building = instance.host == self.host and instance.vm_state == vm_states.BUILDING
        if building and instance.task_state == task_states.DELETING:
            instance.vm_state = vm_states.ERROR  # whose deletion upstream finishes
        super()._init_instance(context, instance)


def install() -> None:
    """Have nova-compute run it (nova/service.py, `SERVICE_MANAGERS`)."""
    nova.service.SERVICE_MANAGERS["nova-compute"] = f"{__name__}.{FinishingManager.__name__}"
