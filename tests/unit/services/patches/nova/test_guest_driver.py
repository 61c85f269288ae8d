"""Guests' interfaces, consoles and ends, with upstream's real driver."""

import pytest
from upstream import inside

pytest.importorskip("libvirt")

RENDER = """
    import types
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import nova.virt.libvirt
    from unittest import mock
    from nova.virt import driver
    from nova.virt.libvirt import config, guest
    from atoll.services.patches.nova import guest_driver

    conf = config.LibvirtConfigGuestInterface()
    conf.net_type, conf.mac_addr, conf.model, conf.target_dev = "ethernet", "fa:16:3e:00:00:01", "virtio", "tap1"
    upstream = conf.to_xml()
    guest_driver.install(types.SimpleNamespace(datapath=sys.argv[1]))
    virtio = conf.to_xml()
    domain = mock.Mock()
    domain.XMLDesc.return_value = f"<domain><devices>{virtio}</devices></domain>"
    found = guest.Guest(domain).get_interface_by_cfg(conf)
    conf.model = "e1000"
    tell({
        "loaded": type(driver.load_compute_driver(None, "libvirt.GuestDriver")).__name__,
        "upstream": upstream,
        "virtio": virtio,
        "e1000": conf.to_xml(),
        "found": found.mac_addr,
    })
"""

OFF = '<host csum="off" gso="off" tso4="off" tso6="off" ecn="off" ufo="off"/>'


@pytest.mark.parametrize(("datapath", "off"), [("netdev", True), ("system", False)])
def test_only_interfaces_of_a_switch_in_user_space_offer_no_offloads(datapath, off):
    found = inside(RENDER, datapath)
    assert found["loaded"] == "GuestDriver"
    assert OFF not in found["upstream"] + found["e1000"]
    assert (OFF in found["virtio"]) is off
    assert found["found"] == "fa:16:3e:00:00:01", "Nova must find the interface when it is detached"


EVENTS = """
    import types
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from unittest import mock
    from nova.virt.libvirt import host
    from atoll.services.patches.nova import guest_driver, kept_memory

    guest_driver.install(types.SimpleNamespace(datapath="netdev"))
    made = guest_driver.GuestDriver(None)
    with mock.patch.object(kept_memory.KeptMemory, "init_host"), mock.patch.object(host.thread_pool_factory, "spawn"):
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


LAUNCH = """
    import types
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import nova.virt.libvirt
    from unittest import mock
    from nova.virt.libvirt import guest
    from atoll.services.patches.nova import guest_driver

    guest_driver.install(types.SimpleNamespace(datapath=sys.argv[1]))
    done = []
    domain = mock.Mock()
    domain.XMLDesc.return_value = "<domain><devices><interface><target dev='tap1'/></interface></devices></domain>"
    domain.createWithFlags.side_effect = lambda flags: done.append(flags)
    with mock.patch.multiple(
        guest_driver.layout,
        reopen_port=lambda _settings, interface: done.append(f"reopen {interface}"),
        raise_port=lambda _settings, interface: done.append(f"raise {interface}"),
    ):
        guest.Guest(domain).launch(pause=True)
    tell(done)
"""


@pytest.mark.parametrize(("datapath", "done"), [("netdev", ["reopen tap1", 1, "raise tap1"]), ("system", [1])])
def test_switch_in_user_space_lets_go_of_interfaces_before_qemu_makes_them_anew_and_leaves_none_down(datapath, done):
    assert inside(LAUNCH, datapath) == done


RECONNECT = """
    import threading, types
    from nova import exception, monkey_patch
    monkey_patch.patch(backend="threading")
    import nova.virt.libvirt
    from unittest import mock
    from nova.virt.libvirt import driver
    from atoll.services.patches.nova import guest_driver

    guest_driver.RECONNECT_S = 0.01
    guest_driver.install(types.SimpleNamespace(datapath="netdev", sockets=guest_driver.layout.Path("/run")))
    made = guest_driver.GuestDriver(None)
    done, answers = [], iter([False, False, True, True])
    refusals = iter([exception.HypervisorUnavailable(), None])

    def connect():
        refusal = next(refusals)
        done.append("refused" if refusal else "connected")
        if refusal:
            raise refusal

    with mock.patch.object(driver.LibvirtDriver, "_handle_conn_event", lambda _self, enabled, _reason: done.append(enabled)), \\
         mock.patch.object(guest_driver.layout, "answers", lambda _path: next(answers)), \\
         mock.patch.object(made._host, "get_connection", connect):
        made._handle_conn_event(True, None)
        made._handle_conn_event(False, "gone")
        for thread in threading.enumerate():
            if thread.name == "libvirt-reconnect":
                thread.join(10)
    tell(done)
"""


def test_libvirt_is_reconnected_as_soon_as_it_runs_again():
    assert inside(RECONNECT) == [True, False, "refused", "connected"]


CONSOLES = """
    import types
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import nova.virt.libvirt
    from unittest import mock
    from nova.conf import CONF
    from nova.virt.libvirt import driver
    from atoll.services.patches.nova import guest_driver

    guest_driver.install(types.SimpleNamespace(datapath="netdev"))
    CONF.set_override("enabled", True, "serial_console")
    known = mock.Mock()
    known.get_xml_desc.return_value = "<d><devices><serial type='tcp'><source host='127.0.0.1' service='10000'/></serial></devices></d>"

    def consoles(made):
        with mock.patch.object(made._host, "get_guest", return_value=known), \\
             mock.patch.object(made, "_create_serial_consoles") as create, mock.patch.object(made, "_get_console_log_path"), \\
             mock.patch.object(driver.hardware, "get_number_of_serial_ports", return_value=1):
            made._create_consoles_qemu_kvm(None, None, None, None)
        return create.call_count

    tell([consoles(driver.LibvirtDriver(None)), consoles(guest_driver.GuestDriver(None))])
"""


def test_guest_that_libvirt_knows_gets_a_serial_console_when_it_is_defined_anew():
    assert inside(CONSOLES) == [0, 1]
