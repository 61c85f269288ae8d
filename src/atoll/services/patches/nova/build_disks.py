"""The kind of a new server's root disk, volume or not, taken from the request instead of from the database.

While it builds a server, the resource tracker asks whether the server boots from a volume, and reads the server's disks for that. The
conductor has read or created the same disks just before, and sends them with the request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from nova.compute import manager, utils
from nova.objects.block_device import BlockDeviceMappingList


def _knowing_disks(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method that builds a server."""
    signature = inspect.signature(upstream)

    @wraps(upstream)
    def build(self: Any, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> Any:
        disks = signature.bind(self, context, instance, *arguments, **keywords).arguments["block_device_mapping"]
        if isinstance(disks, BlockDeviceMappingList):
            self.rt.is_bfv[instance.uuid] = utils.is_volume_backed_instance(context, instance, disks)
        try:
            return upstream(self, context, instance, *arguments, **keywords)
        finally:
            if instance.uuid not in self.rt.tracked_instances:  # the tracker removes the entries of those instances itself
                self.rt.is_bfv.pop(instance.uuid, None)

    return build


def install() -> None:
    """Put the method in the place of upstream's."""
    manager.ComputeManager._do_build_and_run_instance = _knowing_disks(manager.ComputeManager._do_build_and_run_instance)
