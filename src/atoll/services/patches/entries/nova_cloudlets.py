"""Registry entries of Nova's patches for servers from overlays and for servers that are handed off."""

from __future__ import annotations

from atoll.services.patches.patch import UNIT, Patch, PatchKind, fingerprints_in

_TESTS = f"{UNIT}patches/nova/"
_MODULE = "atoll.services.patches.nova."

PATCHES = (
    Patch(
        "nova-overlay-images",
        "nova",
        PatchKind.SUBCLASS,
        ("nova.virt.libvirt.driver.LibvirtDriver",),
        "A server's disk can be made from a base and an overlay, which Nova's drivers have no extension point for.",
        f"{_MODULE}overlay_images",
        f"{_TESTS}test_overlay_images.py::test_root_disk_is_that_of_the_launch_image_and_read_as_the_caller",
        f"{_TESTS}test_overlay_images.py::test_upstream_would_start_the_overlay_itself",
        sources={
            "nova/virt/libvirt/driver.py:LibvirtDriver._try_fetch_image_cache": "b5fcb4b6",
            "nova/virt/libvirt/driver.py:LibvirtDriver._create_and_inject_local_root": "b51b1b9b",
            "nova/virt/libvirt/driver.py:LibvirtDriver._rebase_original_qcow2_image": "707f6cb1",
            "nova/virt/libvirt/driver.py:LibvirtDriver._needs_rebase_original_qcow2_image": "8e1eea08",
            "nova/virt/libvirt/imagebackend.py:Image.cache": "cb6712c4",
            "nova/virt/libvirt/imagebackend.py:Qcow2.create_image": "c21620c6",
            "nova/virt/libvirt/imagecache.py:ImageCacheManager._scan_base_images": "bc811dc6",
            "nova/virt/images.py:do_image_deep_inspection": "38dc01df",
            "nova/image/glance.py:_extract_attributes_v2": "0d1ff522",
        },
    ),
    Patch(
        "nova-resumed-guests",
        "nova",
        PatchKind.SUBCLASS,
        ("nova.virt.libvirt.driver.LibvirtDriver", "nova.virt.libvirt.guest.Guest"),
        "A server goes on from captured memory, or from that which it keeps when it is handed off (`kept_memory`); "
        "Nova's drivers can only boot it.",
        f"{_MODULE}resumed_guests",
        f"{_TESTS}test_resumed_guests.py::test_new_guest_resumes_and_gets_its_interfaces",
        f"{_TESTS}test_resumed_guests.py::test_upstream_boots_each_guest",
        sources=fingerprints_in(
            "nova/virt/libvirt/",
            {
                "driver.py:LibvirtDriver.spawn": "14dcbc65",
                "driver.py:LibvirtDriver._create_guest": "ba048d27",
                "driver.py:LibvirtDriver._create_guest_with_network": "72bcfd27",
                "driver.py:LibvirtDriver.power_off": "a8314cae",
                "driver.py:LibvirtDriver.power_on": "0b31ede0",
                "driver.py:LibvirtDriver._hard_reboot": "2de916de",
                "driver.py:LibvirtDriver._clean_shutdown": "f534c65b",
                "driver.py:LibvirtDriver._destroy": "4cb137ef",
                "host.py:Host.get_canonical_machine_type": "d15d99f1",
                "driver.py:LibvirtDriver._get_guest_cpu_model_config": "ae9dd149",
                "guest.py:Guest.create": "c95343f1",
                "guest.py:Guest.resume": "9f289cb3",
                "utils.py:get_machine_type": "57cf50ca",
            },
        ),
    ),
    Patch(
        "nova-arriving-servers",
        "nova",
        PatchKind.WRAPPER,
        (
            "nova.compute.api.uuidutils",
            "nova.compute.api.API._provision_instances",
            "nova.network.neutron.API._create_port_minimal",
            "nova.network.neutron.API.deallocate_for_instance",
        ),
        "A server that moves to another site would get another id and other MAC addresses, and leave its ports behind.",
        f"{_MODULE}arriving_servers",
        f"{_TESTS}test_arriving_servers.py::test_only_the_gateway_gives_an_id",
        f"{_TESTS}test_arriving_servers.py::test_upstream_still_chooses_the_id_itself",
        sources={
            "nova/compute/api.py:API._provision_instances": "b2ff0f10",
            "nova/network/neutron.py:API._create_port_minimal": "86942a8c",
            "nova/network/neutron.py:API.deallocate_for_instance": "2f6e455b",
        },
    ),
)
