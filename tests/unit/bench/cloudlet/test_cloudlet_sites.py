"""Requests of `atoll bench cloudlet` to its sites, and the material that servers start from."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from atoll.bench.api import Answer
from atoll.bench.cloudlet import material, sites
from atoll.bench.cloudlet.commands import result
from atoll.bench.cloudlet.guest import CloudletGuest
from atoll.bench.cloudlet.handoff_state import newest_handoff
from atoll.bench.cloudlet.inside import InsideApi
from atoll.bench.cloudlet.material import OverlayMaker
from atoll.bench.cloudlet.parts import LINKS, OPEN
from atoll.bench.cloudlet.sites import NomadSites, least_flavor
from atoll.bench.guests.places import Port
from atoll.cloud.network import Wire
from atoll.errors import AtollError
from atoll.gateway.handoffs.journal import Departure, Journal

PORT = Port("port-1", "fa:16:3e:00:00:01", "10.90.0.5", 1400)


class DoubleApi:
    """A client that gives prepared answers."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.bodies = list(statuses), []

    def call(self, _service, _method, _path, body=None):
        self.bodies.append(body)
        status = self.statuses.pop(0)
        return Answer(status, {"server": {"id": "server-1"}} if status < 300 else {"error": "the image is on its way"}, {})


def nomads(api: DoubleApi, monkeypatch) -> NomadSites:
    monkeypatch.setattr(sites, "_AGAIN_S", 0.0)
    made = NomadSites.__new__(NomadSites)
    made.cloud = SimpleNamespace(api=lambda _site: api)
    made.network, made._flavor = "network-1", "2"
    return made


def test_request_is_repeated_while_the_image_is_on_its_way(monkeypatch):
    api = DoubleApi(503, 504, 202)
    assert nomads(api, monkeypatch).create("edge", "one", "image-1", "") == "server-1"
    assert len(api.bodies) == 3
    assert api.bodies[-1]["server"]["networks"] == [{"uuid": "network-1"}]
    assert api.bodies[-1]["server"]["availability_zone"] == "edge"


def test_refusal_is_no_reason_to_wait(monkeypatch):
    api = DoubleApi(403, 202)
    with pytest.raises(AtollError, match="POST /servers at edge: HTTP 403"):
        nomads(api, monkeypatch).create("edge", "one", "image-1", "")
    assert api.statuses == [202]


def test_server_with_a_port_names_no_group(monkeypatch):
    api = DoubleApi(202)
    nomads(api, monkeypatch).create("edge", "one", "image-1", "#!/bin/sh\n", PORT)
    server = api.bodies[0]["server"]
    assert server["networks"] == [{"port": "port-1"}]
    assert "security_groups" not in server
    assert server["user_data"] == "IyEvYmluL3NoCg=="


def test_failed_command_is_told_by_its_error():
    script = "import sys; print('{\"image\": \"i\"}'); print('error: no space', file=sys.stderr); sys.exit(int(sys.argv[2]))"
    for code in (0, 1):
        words = [sys.executable, "-c", script, "upload", str(code)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if code:
            with pytest.raises(AtollError, match="`atoll upload 1`: no space"):
                result(process)
        else:
            assert result(process) == {"image": "i"}


def test_inside_client_asks_the_services_of_its_site():
    settings = SimpleNamespace(
        public_url=lambda kind, path: f"http://gateway/{kind}{path}",
        url=lambda kind, path="": f"http://{kind}{path}",
        secrets={"admin": "secret"},
    )
    api = InsideApi(-1, settings)
    assert api.url("network", "/v2.0/ports") == "http://network/v2.0/ports"
    assert api.url("compute", "/servers") == "http://compute/v2.1/servers"
    assert api.url("cloudlet", "/cloudlet/v1") == "http://gateway/cloudlet/v1"
    assert api.url("identity", "/auth/tokens") == "http://gateway/identity/v3/auth/tokens"


FLAVORS = [{"id": "1", "ram": 64, "disk": 1}, {"id": "2", "ram": 512, "disk": 1}, {"id": "3", "ram": 2048, "disk": 20}]


@pytest.mark.parametrize(("memory_mib", "disk_gib", "wanted"), [(96, 1, "2"), (64, 1, "1"), (64, 8, "3"), (1024, 1, "3")])
def test_smallest_flavor_that_fits(memory_mib, disk_gib, wanted):
    assert least_flavor(FLAVORS[::-1], memory_mib, disk_gib) == wanted


def test_no_flavor_fits():
    with pytest.raises(AtollError, match="no flavor has 4096 MiB of memory and a disk of 8 GiB"):
        least_flavor(FLAVORS, 4096, 8)


@pytest.mark.parametrize("link", [OPEN, *LINKS.values()])
def test_links_are_wires(link):
    wire = Wire(**link.changes())
    assert 2 * wire.delay_ms == link.rtt_ms
    assert (wire.rate_mbit, wire.loss) == (link.rate_mbit, link.loss)


def test_newest_handoff_of_a_server(tmp_path):
    path = tmp_path / "handoffs.db"
    assert newest_handoff(path, "server-1") == ""
    assert not path.exists()
    journal = Journal(path)
    for identifier, server in (("a", "server-1"), ("b", "server-1"), ("c", "server-2")):
        journal.depart(Departure(identifier, server, "project", "home"))
    assert newest_handoff(path, "server-1") == "b"
    assert newest_handoff(path, "server-3") == ""
    journal.close()


def made_by(tmp_path: Path, application: Path | None = None) -> tuple[OverlayMaker, list[tuple[str, ...]]]:
    disk = tmp_path / "guest.img"
    disk.write_bytes(b"g" * 5000)
    calls: list[tuple[str, ...]] = []
    return OverlayMaker(CloudletGuest("guest", disk, application, "", 96), tmp_path, lambda *words: calls.append(words)), calls


def test_each_base_and_overlay_is_new_to_every_site(tmp_path):
    maker, calls = made_by(tmp_path)
    bases = [maker.base() for _ in range(2)]
    overlays = [maker.overlay(bases[0]) for _ in range(2)]
    disks = [path.read_bytes() for path in (*(base.disk for base in bases), *(overlay.disk for overlay in overlays))]
    assert len(set(disks)) == 4
    assert all(len(disk) % 4096 == 0 and disk.startswith(b"g" * 5000) for disk in disks)
    assert all(disk.startswith(disks[0]) and material.code() in disk for disk in disks[2:])
    assert calls[0] == ("cloudlet", "base", str(bases[0].directory), "--disk", str(bases[0].disk))
    assert calls[-1][:3] == ("cloudlet", "overlay", str(overlays[1].file))


def test_given_application_is_used_as_it_is(tmp_path):
    application = tmp_path / "application.img"
    application.write_bytes(b"a" * 4096)
    maker, _calls = made_by(tmp_path, application)
    made = maker.overlay(maker.base()).disk.read_bytes()
    assert made.startswith(b"a" * 4096)
    assert len(made) == 8192


def test_disk_has_room_for_what_is_appended(tmp_path):
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(8 * 2**30)
    assert CloudletGuest("image", disk, None, "", 1024).disk_gib == 9
