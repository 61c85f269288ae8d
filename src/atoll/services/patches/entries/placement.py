"""Registry entries of Placement's patches."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind

_TESTS = f"{UNIT}patches/placement/test_abandoned_consumers.py::"

PATCHES = (
    Patch(
        "placement-abandoned-consumers",
        "openstack-placement",
        PatchKind.WRAPPER,
        ("placement.handlers.util.ensure_consumer",),
        "A Placement that is killed between a consumer's record and its allocations refuses all later allocations of the consumer.",
        "atoll.services.patches.placement.abandoned_consumers",
        f"{_TESTS}test_a_consumer_that_a_killed_placement_left_gets_allocations",
        f"{_TESTS}test_upstream_refuses_it",
        sources={
            "placement/handlers/util.py:ensure_consumer": "02f29a93",
            "placement/objects/consumer.py:delete_consumers_if_no_allocations": "f467d61c",
        },
    ),
)
