"""Registry entries of Placement's patches."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind

_TESTS = f"{UNIT}patches/placement/test_abandoned_consumers.py::"
_STATEMENTS = f"{UNIT}patches/placement/test_placement_statements.py::"

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
    Patch(
        "placement-attribute-caches",
        "openstack-placement",
        PatchKind.SUBCLASS,
        ("placement.attribute_cache.ResourceClassCache", "placement.attribute_cache.TraitCache"),
        "Each request of Placement reads all traits and resource classes ([for upstream](../upstream/nova-statements.md)).",
        "atoll.services.patches.placement.attribute_caches",
        f"{_STATEMENTS}test_each_request_sees_the_changes_before_it",
        f"{_STATEMENTS}test_upstream_reads_names_in_each_request",
        traffic=True,
        sources={
            "placement/attribute_cache.py:_AttributeCache": "b7ce65f2",
            "placement/objects/trait.py:Trait": "64f982a9",
            "placement/objects/resource_class.py:ResourceClass": "bfd01d8d",
        },
    ),
    Patch(
        "placement-ended-consumers",
        "openstack-placement",
        PatchKind.WRAPPER,
        ("placement.objects.consumer.delete_consumers_if_no_allocations",),
        "Each claim deletes the consumers of an empty list, by two statements ([for upstream](../upstream/nova-statements.md)).",
        "atoll.services.patches.placement.ended_consumers",
        f"{_STATEMENTS}test_a_consumer_that_was_left_without_allocations_is_deleted",
        f"{_STATEMENTS}test_upstream_looks_for_consumers_among_none",
        traffic=True,
        sources={"placement/objects/consumer.py:delete_consumers_if_no_allocations": "f467d61c"},
    ),
)
