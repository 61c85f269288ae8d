"""Guests' interfaces and their end, against upstream's real driver."""

import pytest
from upstream import check, inside

pytest.importorskip("libvirt")

RENDER = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import nova.virt.libvirt
    from nova.virt import driver
    from nova.virt.libvirt import config, host
    from atoll.services import guest_driver

    guest_driver.install(sys.argv[1])
    loaded = driver.load_compute_driver(None, "libvirt.GuestDriver")
    conf = config.LibvirtConfigGuestInterface()
    conf.net_type, conf.source_dev, conf.mac_addr, conf.model, conf.target_dev = "bridge", "br-int", "fa:16:3e:00:00:01", "virtio", "tap1"
    plain = guest_driver.PlainInterface.like(conf)
    tell({
        "vif": type(loaded.vif_driver).__name__,
        "upstream": conf.to_xml(),
        "ours": plain.to_xml(),
        "equal": conf == plain,
    })
"""


@pytest.mark.parametrize(("datapath", "driver"), [("netdev", "PlainVIFDriver"), ("system", "LibvirtGenericVIFDriver")])
def test_only_interfaces_of_a_switch_in_user_space_offer_no_offloads(datapath, driver):
    found = inside(RENDER, datapath)
    assert found["vif"] == driver
    assert "<host" not in found["upstream"]
    assert '<host csum="off" gso="off" tso4="off" tso6="off" ecn="off" ufo="off"/>' in found["ours"]
    assert found["equal"]


EVENTS = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from unittest import mock
    from nova.virt.libvirt import driver, host
    from atoll.services import guest_driver

    guest_driver.install("netdev")
    made = guest_driver.GuestDriver(None)
    with mock.patch.object(driver.LibvirtDriver, "init_host"), mock.patch.object(host.thread_pool_factory, "spawn"):
        made._host._event_handler = mock.Mock()
        made._host._init_events()
        before = made._host._delayed_executor._delay
        made.init_host("paris")
    tell([before, made._host._delayed_executor._delay])
    sys.stdout.flush()
    import os
    os._exit(0)  # executors' threads would keep it
"""


def test_end_of_a_guest_is_seen_soon():
    assert inside(EVENTS) == [15, 5]


def test_upstream_is_what_ours_was_written_against():
    check(
        "nova",
        {
            ("nova/virt/libvirt/vif.py", "LibvirtGenericVIFDriver.get_config"): "d620e829",
            ("nova/virt/libvirt/host.py", "Host._init_events"): "af377853",
            ("nova/virt/libvirt/config.py", "LibvirtConfigGuestInterface.format_dom"): "56fd4dda",
        },
        "services/guest_driver.py",
    )
