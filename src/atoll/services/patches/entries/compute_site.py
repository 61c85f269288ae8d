"""Registry entries of the patches by which a compute site waits less often for its control site."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind

_TESTS = f"{UNIT}patches/nova/"
_MODULE = "atoll.services.patches.nova."
_NEEDED = f"{_TESTS}test_batching_manager.py::test_upstream_sends_a_message_for_each_call"
_SAME = f"{_TESTS}test_batching_manager.py::test_each_write_and_effect_is_that_of_upstream"

PATCHES = (
    Patch(
        "nova-conductor-batches",
        "nova",
        PatchKind.SUBCLASS,
        ("nova.conductor.manager.ConductorManager", "nova.service.SERVICE_MANAGERS"),
        "The conductor takes one call of a remote object in a message, so a distant host waits a round trip for each.",
        f"{_MODULE}conductor_batches",
        f"{_TESTS}test_batches.py::test_calls_are_performed_in_their_order_by_one_message",
        _NEEDED,
        traffic=True,
        sources={
            "nova/conductor/manager.py:ConductorManager.__init__": "bb574e9b",
            "nova/conductor/manager.py:ConductorManager.object_action": "bf993885",
            "nova/conductor/manager.py:ConductorManager.object_class_action_versions": "8e89d84d",
            "nova/conductor/manager.py:ConductorManager._object_dispatch": "98066b78",
            "oslo_messaging/_drivers/common.py:serialize_remote_exception": "b8a72d39",
        },
    ),
    Patch(
        "nova-batches",
        "nova",
        PatchKind.SUBCLASS,
        ("nova.conductor.rpcapi.ConductorAPI", "nova.objects.base.NovaObject.indirection_api", "keystoneauth1.session.Session.request"),
        "nova-compute of a compute site waits a round trip for each of the 26 calls of the conductor in a boot and a deletion.",
        f"{_MODULE}batches",
        _SAME,
        _NEEDED,
        traffic=True,
        sources={
            "nova/conductor/rpcapi.py:ConductorAPI.object_action": "a05e4c1f",
            "nova/conductor/rpcapi.py:ConductorAPI.object_class_action_versions": "e3861f6d",
            "oslo_versionedobjects/base.py:remotable": "09b91678",
            "oslo_versionedobjects/base.py:remotable_classmethod": "dc690b28",
            "oslo_messaging/_drivers/common.py:deserialize_remote_exception": "f4d6e81a",
            "keystoneauth1/session.py:Session.request": "9127870d",
            "nova/objects/instance_info_cache.py:InstanceInfoCache.refresh": "db6e0ada",
            "nova/network/neutron.py:update_instance_cache_with_nw_info": "4bfd8864",
        },
    ),
    Patch(
        "nova-node-reports",
        "nova",
        PatchKind.WRAPPER,
        ("nova.objects.compute_node.ComputeNode.save", "nova.objects.compute_node.ComputeNode._changed_fields"),
        "All builds of a distant host wait for the round trip in which a claim's statistics are saved.",
        f"{_MODULE}node_reports",
        f"{_TESTS}test_node_reports.py::test_saves_are_sent_in_order_and_the_newest_replaces_those_that_wait",
        _NEEDED,
        traffic=True,
        sources={
            "nova/objects/compute_node.py:ComputeNode.save": "2971d7ac",
            "nova/compute/resource_tracker.py:ResourceTracker._update": "25e5dbbd",
            "nova/compute/resource_tracker.py:ResourceTracker._resource_change": "b2bc9b3a",
        },
    ),
    Patch(
        "nova-batched-claims",
        "nova",
        PatchKind.SUBCLASS,
        ("nova.scheduler.client.report.SchedulerReportClient",),
        "nova-compute of a compute site waits a round trip to read a new server's claim, and another to delete it.",
        f"{_MODULE}batched_claims",
        f"{_TESTS}test_batching_manager.py::test_claims_travel_with_the_batches",
        _NEEDED,
        traffic=True,
        sources={
            "nova/scheduler/client/report.py:SchedulerReportClient.get_allocations_for_consumer": "345e429b",
            "nova/scheduler/client/report.py:SchedulerReportClient.delete_allocation_for_instance": "35d3a6e5",
            "nova/compute/manager.py:ComputeManager._complete_deletion": "f04ce130",
        },
    ),
    Patch(
        "nova-batching-manager",
        "nova",
        PatchKind.SUBCLASS,
        ("nova.compute.manager.ComputeManager", "nova.service.SERVICE_MANAGERS"),
        "Only the manager knows where a build or a deletion begins and ends, and when the hypervisor is used.",
        f"{_MODULE}batching_manager",
        _SAME,
        _NEEDED,
        traffic=True,
        sources={
            f"nova/compute/{name}": digest
            for name, digest in (
                ("manager.py:ComputeManager._do_build_and_run_instance", "996b7e2f"),
                ("manager.py:ComputeManager._build_and_run_instance", "11ccae6e"),
                ("manager.py:ComputeManager._build_resources", "b80269f8"),
                ("manager.py:ComputeManager._allocate_network", "04a2fb84"),
                ("manager.py:ComputeManager._allocate_network_async", "016a3341"),
                ("manager.py:ComputeManager._default_block_device_names", "ec00a7a2"),
                ("manager.py:ComputeManager.terminate_instance", "0e91ad9f"),
                ("manager.py:ComputeManager._delete_instance", "e199b21e"),
                ("manager.py:ComputeManager._shutdown_instance", "0246257a"),
                ("manager.py:ComputeManager._try_deallocate_network", "80db8938"),
                ("manager.py:ComputeManager._deallocate_network", "7e2a780a"),
                ("manager.py:ComputeManager.attach_interface", "d5951f87"),
                ("manager.py:ComputeManager.set_host_enabled", "3f4c5e08"),
                ("resource_tracker.py:ResourceTracker.instance_claim", "b2b12ca3"),
                ("resource_tracker.py:ResourceTracker._set_instance_host_and_node", "df282900"),
                ("resource_tracker.py:ResourceTracker._get_usage_dict", "ebf1faac"),
                ("resource_tracker.py:ResourceTracker._sync_compute_service_disabled_trait", "18a98ac8"),
                ("utils.py:EventReporter", "2aa98036"),
                ("utils.py:is_volume_backed_instance", "32a45f95"),
                ("utils.py:refresh_info_cache_for_instance", "1d3ca0e3"),
                ("share_management.py:ShareManager.get_share_info", "4d522106"),
            )
        },
    ),
    Patch(
        "nova-network-reads",
        "nova",
        PatchKind.SUBCLASS,
        ("nova.network.neutron.API", "nova.network.neutron.get_client"),
        "A build asks Neutron for the networks, and a deletion for the ports, only after it has waited for the conductor.",
        f"{_MODULE}network_reads",
        f"{_TESTS}test_network_reads.py::test_early_answers_are_used_once_and_ports_are_deleted_together",
        f"{_TESTS}test_network_reads.py::test_upstream_asks_late",
        traffic=True,
        sources={
            "nova/network/neutron.py:get_client": "0b9d4e34",
            "nova/network/neutron.py:API.allocate_for_instance": "c1daf3a6",
            "nova/network/neutron.py:API.deallocate_for_instance": "2f6e455b",
            "nova/network/neutron.py:API._delete_ports": "958a8728",
        },
    ),
)
