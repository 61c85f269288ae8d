"""Servers that were being deleted while they were built, when nova-compute was killed.

Upstream's manager (`ComputeManager._init_instance` in nova/compute/manager.py) ends, when it starts, a deletion that an earlier process
began. But it looks first for servers whose build was cut short, which go to ERROR for good: one of which a user was told already that it
is being deleted (204) stays. Replaced: the order of the two, for a server that is both.
"""

from __future__ import annotations

from typing import Any

import nova.service
from nova.compute import manager, task_states, vm_states


class FinishingManager(manager.ComputeManager):  # type: ignore[misc]
    """Upstream's manager, that finishes these deletions too."""

    def _init_instance(self, context: Any, instance: Any) -> None:
        building = instance.host == self.host and instance.vm_state == vm_states.BUILDING
        if building and instance.task_state == task_states.DELETING:
            instance.vm_state = vm_states.ERROR  # whose deletion upstream finishes
        super()._init_instance(context, instance)


def install() -> None:
    """Have nova-compute run it (nova/service.py, `SERVICE_MANAGERS`)."""
    nova.service.SERVICE_MANAGERS["nova-compute"] = f"{__name__}.{FinishingManager.__name__}"
