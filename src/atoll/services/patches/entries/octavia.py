"""Registry entries of Octavia's patches."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind

PATCHES = (
    Patch(
        "octavia-event-lock",
        "ovn-octavia-provider",
        PatchKind.CONSTANT,
        ("ovn_octavia_provider.agent.OVN_EVENT_LOCK_NAME",),
        "The provider agent's connections to OVN's two databases, which one server holds, would exclude each other.",
        "atoll.services.patches.octavia.event_lock",
        f"{UNIT}patches/octavia/test_event_lock.py::test_no_lock_is_requested",
        f"{UNIT}patches/octavia/test_event_lock.py::test_upstream_requests_a_lock",
        sources={"ovn_octavia_provider/agent.py:OvnProviderAgent": "a1916032"},
    ),
)
