"""Claims that do not read the allocations of all other servers of the host.

At each claim, upstream's tracker (`ResourceTracker._update_to_placement` in nova/compute/resource_tracker.py) first reads the allocations
of every consumer of the host, with one request each: the hundredth server of a site costs Placement a hundred requests, half of the work
of its boot. They are used only if the driver or the PCI tracker reshapes the tree of providers. The driver may do that when nova-compute
starts, and the PCI tracker if `[pci] report_in_placement` is on. In all other cases the tracker gets no allocations.
"""

from __future__ import annotations

from typing import Any

from nova.compute import manager, resource_tracker
from nova.conf import CONF


class LeanTracker(resource_tracker.ResourceTracker):
    """Upstream's tracker, which reads allocations only if they can be used."""

    reportclient: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._client = self.reportclient
        self._lean = _LeanClient(self._client)

    def _update_to_placement(self, context: Any, compute_node: Any, startup: bool) -> None:
        # The callers hold the lock of the host's resources. For any other call, both clients give the same answer.
        useful = startup or CONF.pci.report_in_placement
        self.reportclient = self._client if useful else self._lean
        try:
            super()._update_to_placement(context, compute_node, startup)
        finally:
            self.reportclient = self._client


class _LeanClient:
    """A client of Placement that returns no allocations, and asks Placement for none."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_allocations_for_provider_tree(self, _context: Any, _nodename: str) -> dict[str, Any]:
        return {}


def install() -> None:
    """Have nova-compute use `LeanTracker` (`ComputeManager.__init__` in nova/compute/manager.py)."""
    manager.resource_tracker.ResourceTracker = LeanTracker
