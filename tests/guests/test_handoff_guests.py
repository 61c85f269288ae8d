"""Hand-offs of real guests between two sites: there and back, with a kill of each gateway, and the errors that users see."""

from __future__ import annotations

import json
import time

import psutil
import pytest
from deployment import kill, until
from landscape import FLAVOR, PATIENCE_S, Guest, Landscape

pytestmark = pytest.mark.long

WRITES = '#!/bin/sh\n[ -e /disk/mark ] || echo "written at paris" > /disk/mark; sync\necho "mark: $(cat /disk/mark)"\n'


def server(paris: Landscape, name: str, **more: object) -> Guest:
    """Boot a guest whose port Nova makes, and that writes a file at its first boot."""
    network = [{"uuid": paris.network}]
    fields = {"networks": network, "security_groups": [{"name": paris.group}], "metadata": {"role": "web"}}
    return paris.boot(name, script=WRITES, **fields, **more)


def handoff(cloud, where: str, name: str, site: str) -> dict:
    return json.loads(cloud.atoll("exec", where, "--", "atoll", "cloudlet", "handoff", name, site, "--json"))


def running(cloud, guest: Guest) -> list[str]:
    """Return the sites where a server's QEMU runs."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    guests = [line for line in lines if "qemu" in line.partition(" ")[0] and guest.id in line]
    return [site for site in ("paris", "nice") for line in guests if f"{cloud.root}/sites/{site}/" in line]


def ports(cloud, site: str, guest: Guest) -> list[dict]:
    """Return a server's ports in the Neutron of a site."""
    api = cloud.api_inside(site)
    api._endpoints["network"] = cloud.settings(site).url("network")
    return api.expect("network", "GET", f"/v2.0/ports?device_id={guest.id}")["ports"]


def test_guest_goes_to_another_site_and_returns(cloud, paris, nice):
    guest = server(paris, "wanderer")
    assert guest.await_console("mark: .*").group(0).strip() == "mark: written at paris"
    [port] = ports(cloud, "paris", guest)
    there = handoff(cloud, "paris", guest.name, "nice")
    assert (there["server"], there["source"], there["site"]) == (guest.id, "paris", "nice")
    assert there["addresses"][0]["mac"] == port["mac_address"]
    assert running(cloud, guest) == ["nice"]
    assert ports(cloud, "paris", guest) == []
    for api in (paris.api, nice.api):
        shown = api.expect("compute", "GET", f"/servers/{guest.id}")["server"]
        assert (shown["OS-EXT-AZ:availability_zone"], shown["metadata"], shown["status"]) == ("nice", {"role": "web"}, "ACTIVE")
    guest.await_console("mark: written at paris")
    assert handoff(cloud, "paris", guest.id, "nice")["source"] == "", "it is there already"
    back = handoff(cloud, "nice", guest.id, "paris")
    assert (back["source"], back["site"], back["addresses"][0]["mac"]) == ("nice", "paris", port["mac_address"])
    assert running(cloud, guest) == ["paris"]
    guest.await_console("mark: written at paris")
    for site in ("paris", "nice"):
        left = cloud.settings(site).data / "cloudlet"
        assert [path.name for name in ("handoffs", "arrivals") for path in (left / name).glob("*")] == []
    guest.delete()


@pytest.mark.parametrize("victim", ["paris", "nice"])
def test_gateway_that_is_killed_leaves_one_server(cloud, paris, nice, victim):
    guest = server(paris, f"killed-{victim}")
    guest.await_console("mark: written at paris")
    paris.api._endpoints["cloudlet"] = paris.api.endpoint("identity").partition("/identity")[0]
    path = f"/cloudlet/v1/servers/{guest.id}/handoff"
    begun = paris.api.call("cloudlet", "POST", path, {"site": "nice"}).body
    until(lambda: _state(paris, path, begun) not in {"copying", ""}, "the server is being stopped", PATIENCE_S)
    kill(cloud.pids()[f"{victim}/gateway"])
    until(lambda: _state(paris, path, begun) in {"done", "failed", "copying"}, "the hand-off has ended", PATIENCE_S)
    until(lambda: len(running(cloud, guest)) == 1, "the server runs", PATIENCE_S)
    for _ in range(10):
        assert len(running(cloud, guest)) == 1
        time.sleep(0.5)
    if running(cloud, guest) == ["paris"]:
        until(lambda: not guest.show()["locked"], "the server is unlocked", PATIENCE_S)
        assert handoff(cloud, "paris", guest.id, "nice")["site"] == "nice"
    assert running(cloud, guest) == ["nice"]
    guest.await_console("mark: written at paris")
    guest.delete()


def _state(paris: Landscape, path: str, begun: dict) -> str:
    try:
        answer = paris.api.call("cloudlet", "GET", f"{path}?id={begun['id']}")
    except OSError:
        return ""
    return str(answer.body.get("state", "")) if answer.status in {200, 202} else ""


def test_errors_are_one_line_and_stop_nothing(cloud, paris, nice):
    guest = server(paris, "stays")

    def refused(*words: str) -> str:
        return str(cloud.refused("exec", "paris", "--", "atoll", "cloudlet", "handoff", *words))

    assert refused("nobody", "nice") == "no server is called nobody: expected the name of one, or an id"
    assert refused(guest.id, "lyon") == "there is no site lyon in this cloud"
    guest.act(pause=None)
    guest.await_status("PAUSED")
    assert refused(guest.id, "nice") == "the server's status is PAUSED: expected ACTIVE or SHUTOFF, and no task"
    guest.act(unpause=None)
    guest.await_status("ACTIVE")
    guest.act(lock=None)
    assert refused(guest.id, "nice") == "the server is locked: unlock it first"
    guest.act(unlock=None)
    assert running(cloud, guest) == ["paris"]
    hint = {"atoll_handoff": "0" * 36, "atoll_handoff_server": "11111111-1111-4111-8111-111111111111"}
    fields = {"name": "given", "imageRef": paris.image, "flavorRef": FLAVOR, "networks": "none"}
    answer = paris.api.call("compute", "POST", "/servers", {"server": fields, "os:scheduler_hints": hint})
    assert answer.status == 403, "only a gateway gives an id"
    guest.delete()
