"""Registry entries of Placement's patches."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind

_TESTS = f"{UNIT}patches/placement/test_abandoned_consumers.py::"
_REPEATED = f"{UNIT}patches/placement/test_repeated_requests.py::"
_KEPT = f"{UNIT}patches/placement/test_kept_providers.py::"
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
    Patch(
        "placement-kept-providers",
        "openstack-placement",
        PatchKind.WRAPPER,
        (
            "placement.objects.research_context._has_provider_trees",
            "placement.objects.research_context._get_roots_with_traits",
            "placement.objects.research_context.get_sharing_providers",
            "placement.objects.research_context.provider_ids_from_uuid",
            "placement.objects.trait.get_traits_by_provider_tree",
            "placement.objects.allocation_candidate._provider_ids_from_root_ids",
            "placement.objects.allocation_candidate.AllocationCandidates._get_by_requests",
            "placement.objects.project._get_project_by_external_id",
            "placement.objects.user._get_user_by_external_id",
        ),
        "Each boot reads the trees and traits of providers, and the keys of projects and users, which have not changed"
        " ([for upstream](../upstream/nova-statements.md)).",
        "atoll.services.patches.placement.kept_providers",
        f"{_KEPT}test_candidates_are_upstreams_before_and_after_each_change",
        f"{_KEPT}test_upstream_reads_it_in_each_request",
        traffic=True,
        sources={
            "placement/objects/research_context.py:RequestWideSearchContext": "e97e1020",
            "placement/objects/research_context.py:RequestGroupSearchContext": "723e3da9",
            "placement/objects/research_context.py:_has_provider_trees": "d35de9b5",
            "placement/objects/research_context.py:_get_roots_with_traits": "94be99d5",
            "placement/objects/research_context.py:get_sharing_providers": "3b6ae4f8",
            "placement/objects/research_context.py:provider_ids_from_uuid": "0ef200df",
            "placement/objects/trait.py:get_traits_by_provider_tree": "65ca14eb",
            "placement/objects/allocation_candidate.py:_provider_ids_from_root_ids": "e0660425",
            "placement/objects/allocation_candidate.py:AllocationCandidates._get_by_requests": "51eef4ef",
            "placement/objects/resource_provider.py:ResourceProvider.increment_generation": "281bc240",
            "placement/objects/project.py:_get_project_by_external_id": "5ae553fd",
            "placement/objects/user.py:_get_user_by_external_id": "7b501774",
        },
    ),
    Patch(
        "placement-repeated-requests",
        "openstack-placement",
        PatchKind.WRAPPER,
        ("placement.objects.allocation._set_allocations", "placement.handler.ROUTE_DECLARATIONS"),
        "A claim that conflicts with one of another site is repeated inside its failed transaction, in vain"
        " ([for upstream](../upstream/placement-conflicting-claims.md)).",
        "atoll.services.patches.placement.repeated_requests",
        f"{_REPEATED}test_a_request_that_conflicts_ten_times_succeeds",
        f"{_REPEATED}test_upstream_repeats_inside_the_failed_transaction",
        sources={
            "placement/objects/allocation.py:_set_allocations": "c5f51adf",
            "placement/handlers/allocation.py:_set_allocations_for_consumer": "74216ee7",
            "placement/handlers/allocation.py:set_allocations": "176ecdae",
            "placement/handlers/allocation.py:delete_allocations": "f687ad2a",
            "placement/handlers/reshaper.py:reshape": "0a6688f4",
        },
    ),
)
