"""A manager of nova-compute that makes its calls in batches while it builds or deletes a server at a compute site."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nova.service
from nova.compute import manager
from oslo_concurrency import lockutils

from atoll.services.patches.nova import batched_claims, batches, network_reads
from atoll.services.patches.nova.batch_actions import BatchAction
from atoll.services.patches.nova.batches import Batch
from atoll.services.patches.nova.recovering_manager import RecoveringManager

_BUILD = inspect.signature(manager.ComputeManager._do_build_and_run_instance)

LOCAL = frozenset({"capabilities", "default_device_names_for_instance", "default_root_device_name", "network_binding_host_id"})
"""Attributes of drivers that change nothing outside of the process."""


class BatchingManager(RecoveringManager):
    """The manager of a compute site."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._deallocating: dict[str, Batch | None] = {}
        self._attaching: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(*arguments, **keywords)

    @property
    def driver(self) -> Any:
        """The driver of the hypervisor; the waiting calls of the thread's batch are sent before the driver changes anything."""
        return _Ordered(self._driver) if _waits() else self._driver

    @driver.setter
    def driver(self, driver: Any) -> None:
        self._driver = driver

    @property
    def compute_task_api(self) -> Any:
        """The client of the conductor's tasks; the waiting calls of the thread's batch are sent before it is used."""
        batches.flush()
        return self._compute_task_api

    @compute_task_api.setter
    def compute_task_api(self, api: Any) -> None:
        self._compute_task_api = api

    @property
    def compute_rpcapi(self) -> Any:
        """The client of other hosts; the waiting calls of the thread's batch are sent before it is used."""
        batches.flush()
        return self._compute_rpcapi

    @compute_rpcapi.setter
    def compute_rpcapi(self, api: Any) -> None:
        self._compute_rpcapi = api

    def _do_build_and_run_instance(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> Any:
        """Build a server, with one batch for the whole build.

        Its first message also reads the service and the claim, which each build needs.
        """
        given = _BUILD.bind(self, context, instance, *arguments, **keywords).arguments
        network_reads.networks_of_build(context, instance.uuid, given["requested_networks"])
        with batches.opened(instance.uuid, [self._service(context), batched_claims.claim(context, instance.uuid)]):
            return super()._do_build_and_run_instance(context, instance, *arguments, **keywords)

    def _allocate_network_async(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> Any:
        """Allocate the networks of a new server, in a thread of its own."""
        with batches.opened(instance.uuid, fresh_cache=not instance.get_network_info()):
            return super()._allocate_network_async(context, instance, *arguments, **keywords)

    def terminate_instance(self, context: Any, instance: Any, bdms: Any) -> Any:
        """Delete a server, with one batch for the whole deletion, whose first message reads all that upstream reads.

        While another task has the server's lock, a message of its own records that the deletion has begun, because the lock may be held for
        long.
        """
        elevated = context.elevated()
        ahead = [
            BatchAction.ahead(elevated, "ShareMappingList", "get_by_instance_uuid", instance.uuid),
            BatchAction.ahead(context, "ResourceList", "get_by_instance_uuid", instance.uuid),
            self._service(context),
        ]
        with batches.opened(instance.uuid, ahead, deletes=True) as batch:
            if batch is not None:
                batch.prompt = is_locked(instance.uuid)
            return super().terminate_instance(context, instance, bdms)

    def _service(self, context: Any) -> BatchAction:
        return BatchAction.ahead(context.elevated(), "Service", "get_by_compute_host", self.host)

    def set_host_enabled(self, context: Any, enabled: bool) -> Any:
        """Enable or disable the host, and discard the service's record that batches have read ahead."""
        batches.forget("Service.")
        return super().set_host_enabled(context, enabled)

    def _shutdown_instance(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> Any:
        """Destroy a guest; if the server is being deleted, list its ports at the same time."""
        batch = batches.current()
        if batch is not None and batch.deletes and not self._attaching[instance.uuid]:
            network_reads.ports_of_deletion(context, instance.uuid)
        try:
            return super()._shutdown_instance(context, instance, *arguments, **keywords)
        finally:
            network_reads.forget_ports(instance.uuid)

    def attach_interface(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> Any:
        """Attach an interface; until that is done, a deletion of the server does not list its ports in advance."""
        with self._attachment(instance.uuid):
            return super().attach_interface(context, instance, *arguments, **keywords)

    @contextmanager
    def _attachment(self, server: str) -> Iterator[None]:
        with self._lock:
            self._attaching[server] += 1
        network_reads.forget_ports(server)
        try:
            yield
        finally:
            with self._lock:
                self._attaching[server] -= 1
                if not self._attaching[server]:
                    del self._attaching[server]

    def _try_deallocate_network(self, context: Any, instance: Any, requested_networks: Any = None) -> None:
        """Release the networks of a server, in another thread that uses this thread's batch."""
        self._deallocating[instance.uuid] = batches.current()
        try:
            super()._try_deallocate_network(context, instance, requested_networks)
        finally:
            self._deallocating.pop(instance.uuid, None)

    def _deallocate_network(self, context: Any, instance: Any, requested_networks: Any = None) -> None:
        batch = batches.current() or self._deallocating.get(instance.uuid)
        with batches.joined(batch):
            super()._deallocate_network(context, instance, requested_networks)


def is_locked(server: str) -> bool:
    """Return whether a task of this process has the lock of a server (`nova.utils.synchronized`)."""
    try:
        with lockutils.lock(server, lock_file_prefix="nova-", blocking=False):
            return False
    except lockutils.AcquireLockFailedException:
        return True


def _waits() -> bool:
    batch = batches.current()
    return batch is not None and batch.waits


class _Ordered:
    """A driver that first sends the waiting calls of the thread's batch."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        if name not in LOCAL:
            batches.flush()
        return getattr(self._driver, name)


def install() -> None:
    """Have nova-compute use `BatchingManager` (`SERVICE_MANAGERS` in nova/service.py)."""
    nova.service.SERVICE_MANAGERS["nova-compute"] = f"{__name__}.{BatchingManager.__name__}"
