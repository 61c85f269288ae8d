"""Servers and networks with real guests and packets, as a user of a cloud expects them."""

import json
import re
from typing import Any

import psutil
import pytest
from deployment import kill, until
from landscape import PATIENCE_S, Guest

from atoll.site import guests


@pytest.fixture(scope="module")
def web(paris) -> Guest:
    """Boot a guest at paris that runs while others are created and deleted."""
    guest = paris.boot("web")
    yield guest
    guest.delete()


@pytest.fixture(scope="module")
def floating(paris, web) -> str:
    """Create a floating IP for that guest."""
    _id, address = paris.floating_ip(web)
    return address


def test_guests_of_two_sites_answer_http_across_the_wan(paris, nice, web, floating):
    other = nice.boot("other")
    _id, address = nice.floating_ip(other)
    assert "told by: the metadata service" in paris.await_page(floating, "web")
    nice.await_page(address, "other")
    paris.await_page(address, "other", site="paris")
    nice.await_page(floating, "web", site="nice")
    assert web.show()["OS-EXT-SRV-ATTR:hypervisor_hostname"] == "paris"
    other.delete()


def test_guests_of_one_network_reach_each_other_by_address_name_and_floating_ip(paris, web, floating):
    places = f"{web.address} web web.atoll.internal {floating}"
    script = f"#!/bin/sh\nping -c 3 {web.address}\nfor each in {places}; do wget -q -O - http://$each/; done\necho 'fetched: all'\n"
    peer = paris.boot("peer", script=script)
    assert peer.await_console(r"(?s)3 packets received.*fetched: all").group(0).count("<h1>web</h1>") == 4
    peer.delete()


def test_security_group_closes_and_opens(paris, floating, web):
    paris.await_page(floating, "web")
    paris.close(floating)
    paris.allow(paris.group, "tcp")
    paris.await_page(floating, "web")


def test_floating_ip_moves(paris, web, floating):
    second = paris.boot("second")
    (found,) = paris.api.expect("network", "GET", f"/v2.0/floatingips?floating_ip_address={floating}")["floatingips"]
    for guest in (second, web):
        paris.api.expect("network", "PUT", f"/v2.0/floatingips/{found['id']}", {"floatingip": {"port_id": guest.port}})
        paris.await_page(floating, guest.name)
    second.delete()


def test_guest_reboots_and_its_snapshot_boots(paris):
    first = paris.boot("first", script="#!/bin/sh\n[ -e /disk/mark ] || echo made by first >/disk/mark; sync; echo marked\n")
    first.await_console("marked")
    before = first.process().pid
    first.act(reboot={"type": "HARD"})
    first.await_status("ACTIVE")
    assert first.process().pid != before
    first.await_ready()
    first.act(createImage={"name": "of-first"})
    images = until(lambda: paris.api.expect("image", "GET", "/v2/images?name=of-first&status=active")["images"], "the snapshot", PATIENCE_S)
    second = paris.boot("from-snapshot", image=images[0]["id"], script="#!/bin/sh\necho mark: $(cat /disk/mark)\n")
    assert second.await_console(r"mark: (.*)").group(1).strip() == "made by first"
    first.delete()
    second.delete()
    paris.api.call("image", "DELETE", f"/v2/images/{images[0]['id']}")


def test_guest_goes_on_while_all_services_are_killed_and_is_managed_afterwards(cloud, paris, web, floating):
    page, process = paris.await_page(floating, "web"), web.process()
    kill(*(pid for name, pid in cloud.pids().items() if name.startswith("paris/")))
    until(lambda: _all_ready(cloud), "all services ready again", PATIENCE_S)
    assert process.is_running()
    assert _uptime(paris.await_page(floating, "web")) > _uptime(page)
    web.act(pause=None)
    web.await_status("PAUSED")
    assert paris.page(floating, 2.0) == ""
    web.act(unpause=None)
    web.await_status("ACTIVE")
    paris.await_page(floating, "web")
    late = paris.boot("late")
    late.await_ready()
    late.delete()


def test_guest_whose_qemu_dies_is_shut_off_within_ten_seconds_and_can_be_started(paris):
    guest = paris.boot("mortal")
    guest.await_ready()
    kill(guest.process().pid)
    guest.await_status("SHUTOFF", 10.0)
    guest.act(**{"os-start": None})
    guest.await_status("ACTIVE")
    guest.await_ready()
    guest.delete()


def test_cut_off_site_boots_guests_and_tells_them_who_they_are(cloud, nice):
    cloud.atoll("wan", "cut", "nice")
    try:
        guest = nice.boot("lonely")
        _id, address = nice.floating_ip(guest)
        assert "told by: the metadata service" in nice.await_page(address, "lonely")
        guest.delete()
    finally:
        cloud.atoll("wan", "heal", "nice")


def test_interface_is_attached_and_detached(paris):
    guest = paris.boot("wired")
    _id, floating = paris.floating_ip(guest)
    paris.await_page(floating, "wired")
    network, _subnet = paris.make_network("10.9.0.0/24")
    made = paris.api.expect("compute", "POST", f"/servers/{guest.id}/os-interface", {"interfaceAttachment": {"net_id": network}})
    address = made["interfaceAttachment"]["fixed_ips"][0]["ip_address"]
    until(lambda: address in paris.page(floating), f"{address} taken", 60)
    path = f"/servers/{guest.id}/os-interface/{made['interfaceAttachment']['port_id']}"
    assert paris.api.call("compute", "DELETE", path).ok
    until(lambda: paris.api.call("compute", "GET", path).status == 404, "detached", PATIENCE_S)
    until(lambda: address not in (page := paris.page(floating)) and "<h1>wired</h1>" in page, f"{address} gone", 60)
    guest.delete()
    paris.api.call("network", "DELETE", f"/v2.0/networks/{network}")


def test_config_drive_says_who_the_guest_is(paris):
    """Without a network, the config drive is the guest's only source of metadata."""
    guest = paris.boot("driven", config_drive=True, networks="none")
    guest.await_ready()
    assert "atoll-guest: failed" not in guest.console()
    guest.delete()


STARTED_ANEW: dict[str, Any] = {
    "a soft reboot": [({"reboot": {"type": "SOFT"}}, "ACTIVE")],
    "a hard reboot": [({"reboot": {"type": "HARD"}}, "ACTIVE")],
    "rescue": [({"rescue": {"rescue_image_ref": "{image}"}}, "RESCUE"), ({"unrescue": None}, "ACTIVE")],
    "resize": [({"resize": {"flavorRef": "3"}}, "VERIFY_RESIZE")],
    "rebuild": [({"rebuild": {"imageRef": "{image}"}}, "ACTIVE")],
}
"""Actions that end a guest's QEMU and start another one."""


@pytest.fixture(scope="module")
def changing(paris) -> Guest:
    """Boot a guest, and yield it with its floating IP."""
    guest = paris.boot("changing")
    identifier, address = paris.floating_ip(guest)
    paris.await_page(address, "changing")
    yield guest, address
    guest.delete()
    paris.api.call("network", "DELETE", f"/v2.0/floatingips/{identifier}")


@pytest.mark.parametrize("what", STARTED_ANEW)
def test_guest_that_is_started_anew_has_its_address_and_its_console(paris, changing, what):
    """Interfaces are devices that end with QEMU; the next QEMU has new ones."""
    guest, floating = changing
    for action, status in STARTED_ANEW[what]:
        before = guest.process()
        guest.act(**json.loads(json.dumps(action).replace("{image}", paris.image)))
        guest.await_status(status)
        assert guest.process().pid != before.pid
        assert f"ready changing {guest.address} " in guest.await_console("atoll-guest: ready .*").group(0)
        paris.await_page(floating, "changing")
    if what == "resize":
        guest.act(confirmResize=None)
        guest.await_status("ACTIVE")
        command = guest.process().cmdline()
        assert command[command.index("-m") + 1] in ("2048", "size=2097152k")  # depends on the version of libvirt
        paris.await_page(floating, "changing")


def test_suspended_guest_goes_on_where_it_was(paris, changing):
    guest, floating = changing
    before = _uptime(paris.await_page(floating, "changing"))
    guest.act(suspend=None)
    guest.await_status("SUSPENDED")
    assert paris.page(floating, 2.0) == ""
    guest.act(resume=None)
    guest.await_status("ACTIVE")
    assert before < _uptime(paris.await_page(floating, "changing")) < before + 600
    assert guest.console().count("atoll-guest: ready ") <= 1, "the guest must not boot again"


def test_guests_are_back_after_down_and_up(cloud, paris, nice, web, floating):
    before = _uptime(paris.await_page(floating, "web"))
    cloud.atoll("down")
    assert guests.running(paris.settings.directory) == []
    cloud.atoll("up")
    for each in (paris, nice):
        each.come_in()
    assert _uptime(paris.await_page(floating, "web")) < before + 600
    assert web.show()["status"] == "ACTIVE"


def test_power_cut_leaves_no_program_behind_and_guests_are_back_after_it(cloud, paris, web, floating):
    paris.await_page(floating, "web")
    cloud.atoll("site", "kill", "paris")
    told = f"{paris.settings.directory}/"
    processes = psutil.process_iter(["name", "cmdline"])
    assert [each.info["name"] for each in processes if told in " ".join(each.info["cmdline"] or ())] == []
    cloud.atoll("site", "start", "paris")
    paris.come_in()
    paris.await_page(floating, "web")


def _all_ready(cloud) -> bool:
    found = [status for name, status in cloud.processes().items() if name.startswith("paris/")]
    return bool(found) and all(status.state == "ready" for status in found)


def _uptime(page: str) -> float:
    match = re.search(r"uptime: ([\d.]+) s", page)
    assert match, page
    return float(match.group(1))
