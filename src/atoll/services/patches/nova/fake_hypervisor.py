"""Nova's fake hypervisor with guests that survive a restart.

Upstream's driver (nova/virt/fake.py) keeps its guests in a dictionary, which is empty after a restart of nova-compute: the servers are
still in the database, but a request to stop, start or detach from one fails, because the guest does not exist. A real hypervisor's guests
outlive nova-compute, and so must these. `init_host` restores them; the parent class is upstream's variant that keeps its node's identity,
without which nova-compute refuses its second start. Guests stay records: nothing runs, and no packet flows.

Upstream's `FakeDriver.snapshot` uploads nothing, so that the image stays queued for ever; here it uploads a small empty disk.
`get_host_uptime`, which upstream lacks, is the uptime of this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import nova.virt.fake
from nova import context, objects
from nova.compute import power_state, vm_states
from nova.image import glance

SNAPSHOT_BYTES = 4096

NAME = "RestoredFakeDriver"


class RestoredFakeDriver(nova.virt.fake.FakeDriverWithoutFakeNodes):
    """Upstream's fake driver, which restores its guests from the database."""

    def init_host(self, host: str) -> None:
        """Restore the guests of this host, with their power state and their interfaces."""
        super().init_host(host)
        for instance in objects.InstanceList.get_by_host(context.get_admin_context(), host, expected_attrs=["flavor", "info_cache"]):
            if instance.vm_state not in (vm_states.BUILDING, vm_states.ERROR, vm_states.SHELVED_OFFLOADED):
                self._restore(instance)

    def _restore(self, instance: Any) -> None:
        state = instance.power_state if instance.power_state is not None else power_state.RUNNING
        flavor = instance.flavor
        self.resources.claim(vcpus=flavor.vcpus, mem=flavor.memory_mb, disk=flavor.root_gb)
        self.instances[instance.uuid] = nova.virt.fake.FakeInstance(instance.name, state, instance.uuid)
        if instance.info_cache is not None:
            self._interfaces.update({vif["id"]: vif for vif in instance.info_cache.network_info or ()})

    def snapshot(self, context: Any, instance: Any, image_id: str, update_task_state: Callable[..., None]) -> None:
        """Upload an empty disk as the image of a guest.

        Raises:
            InstanceNotRunning: the guest does not exist.
        """
        super().snapshot(context, instance, image_id, update_task_state)
        # As libvirt's driver does (`_snapshot` in nova/virt/libvirt/driver.py): properties and data in one update.
        fields = {"disk_format": "raw", "container_format": "bare"}
        glance.API().update(context, image_id, fields, BytesIO(bytes(SNAPSHOT_BYTES)))

    def get_host_uptime(self) -> str:
        """Return the uptime of this machine, in the form of uptime(1)."""
        seconds = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return f"up {timedelta(seconds=int(seconds))}"


def install() -> None:
    """Put the driver into `nova.virt.fake`, where nova-compute looks for `fake.RestoredFakeDriver`."""
    setattr(nova.virt.fake, NAME, RestoredFakeDriver)
