"""`atoll cloudlet run`: one server near the device however often it is asked for, and each failure in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1.exceptions import ConnectFailure

from atoll.cloudlet import run
from atoll.cloudlet.find import Zone
from atoll.overlay_images import BASE, TRUST

IMAGE, BASE_IMAGE = "1ade0000-0000-4000-8000-000000000001", "1ade0000-0000-4000-8000-000000000002"
NETWORK = "2e700000-0000-4000-8000-000000000001"
ADDRESSES = {"net": [{"addr": "10.1.0.7", "OS-EXT-IPS:type": "fixed"}, {"addr": "192.0.2.7", "OS-EXT-IPS:type": "floating"}]}


class Gateway:
    """Nova, Glance and Neutron behind a gateway, as a session of keystoneauth sees them."""

    def __init__(self) -> None:
        self.images = [{"id": IMAGE, "name": "app", "min_ram": 512, "min_disk": 1, BASE: "d" * 64}, {"id": BASE_IMAGE, "name": "debian"}]
        self.flavors = [
            {"id": "1", "name": "tiny", "ram": 64, "vcpus": 1, "disk": 1},
            {"id": "3", "name": "large", "ram": 4096, "vcpus": 4, "disk": 20},
            {"id": "2", "name": "small", "ram": 512, "vcpus": 1, "disk": 0},
        ]
        self.networks = [{"id": NETWORK, "name": "net"}]
        self.servers: list[dict[str, Any]] = []
        self.created: list[dict[str, Any]] = []
        self.actions: list[Any] = []
        self.new: dict[str, Any] = {"status": "ACTIVE", "addresses": ADDRESSES}
        self.missing = ""
        self.refusal: tuple[int, str] | None = None
        self.on_create: Callable[[], object] = lambda: None
        self.lose = False
        self.asked: list[str | None] = []

    def add(self, **more: Any) -> dict[str, Any]:
        number = len(self.created) + len(self.servers) + 1
        server = {"id": f"5e7f0000-0000-4000-8000-{number:012}", "name": "app", "created": "2026-01-01T00:00:00Z"}
        server |= {"metadata": {run.RUN: IMAGE}, "OS-EXT-AZ:availability_zone": "paris", "addresses": ADDRESSES, "status": "ACTIVE"} | more
        self.servers.append(server)
        return server

    def get(self, url: str, **more: Any) -> Any:
        return self.request(url, "GET", **more)

    def request(self, url: str, method: str, params: Any = None, json: Any = None, **_more: Any) -> Any:
        status, body = self._answer(method, url.removeprefix("http://gateway"), params or {}, json)
        headers = {"X-Atoll-Missing": self.missing} if self.missing else {}
        return SimpleNamespace(status_code=status, json=lambda: body, content=b"x" if body is not None else b"", headers=headers)

    def _answer(self, method: str, path: str, params: dict[str, str], body: Any) -> tuple[int, Any]:
        service, _version, kind, *rest = path.split("/")[1:]
        if service == "compute" and kind == "servers":
            return self._servers(method, rest, params, body)
        if kind == "flavors":
            return 200, {"flavors": self.flavors}
        if kind == "networks":
            return 200, {"networks": [each for each in self.networks if each["name"] == params["name"]]}
        if not rest:
            return 200, {"images": [each for each in self.images if each["name"] == params["name"]]}
        found = [each for each in self.images if each["id"] == rest[0]]
        return (200, found[0]) if found else (404, {"message": "no image"})

    def _servers(self, method: str, rest: list[str], params: dict[str, str], body: Any) -> tuple[int, Any]:
        if rest == ["detail"]:
            return 200, {"servers": [each.copy() for each in self.servers if re.search(params["name"], each["name"])]}
        if not rest:
            return self._create(body["server"])
        found = [each for each in self.servers if each["id"] == rest[0]]
        if not found:
            return 404, {"itemNotFound": {"code": 404, "message": "no server"}}
        if rest[1:] == ["action"]:
            self.actions.append(body)
            found[0]["status"] = "ACTIVE"
            return 202, None
        if method == "DELETE":
            self.servers.remove(found[0])
            return 204, None
        return 200, {"server": found[0].copy()}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        if self.refusal is not None:
            return self.refusal[0], {"forbidden": {"code": self.refusal[0], "message": self.refusal[1]}}
        self.created.append(wanted)
        self.on_create()
        made = self.add(name=wanted["name"], metadata=wanted["metadata"], **self.new)
        made["OS-EXT-AZ:availability_zone"] = wanted["availability_zone"]
        if self.lose:
            self.lose = False
            raise ConnectFailure("cut")
        return 202, {"server": {"id": made["id"]}}


@pytest.fixture
def gateway(monkeypatch):
    """Return a gateway, and let the nearest site be nice."""
    made = Gateway()
    monkeypatch.setattr(run, "credentials", lambda _cloud: (SimpleNamespace(get_session=lambda: made), "http://gateway"))
    monkeypatch.setattr(run, "LOOK_S", 0)

    def find(_cloud: Any, _device: Any, overlay: Any) -> Zone:
        made.asked.append(overlay)
        return Zone("z", "nice", "test", "r", "")

    monkeypatch.setattr(run, "find", find)
    monkeypatch.setattr(run, "_accepts", lambda address, port: (address, port) == ("10.1.0.7", 8443))
    return made


def printed(ran: Any) -> dict[str, Any]:
    assert ran.code == 0, ran
    return json.loads(ran.out)


def test_server_is_started_at_the_nearest_site_once(atoll, gateway):
    first = printed(atoll("cloudlet", "run", "app", "--json"))
    assert (first["site"], first["nearest"], first["started"], first["address"], first["port"]) == ("nice", "nice", True, "192.0.2.7", 0)
    (created,) = gateway.created
    assert created == {"name": "app", "imageRef": IMAGE, "flavorRef": "2", "availability_zone": "nice", "metadata": {run.RUN: IMAGE}}
    assert gateway.asked == [IMAGE], "sites with its base come first"
    for _ in range(2):
        again = printed(atoll("cloudlet", "run", IMAGE, "--json"))
        assert (again["server"], again["started"]) == (first["server"], False)
    assert len(gateway.servers) == 1
    ran = atoll("cloudlet", "run", "app")
    assert ran.out.startswith("192.0.2.7  app at nice, used before, ")


def test_options_name_the_parts_of_the_server(atoll, gateway, tmp_path):
    words = ("--name", "web.1", "--flavor", "large", "--network", "net", "--port", "8443", "--json")
    found = printed(atoll("cloudlet", "run", "debian", *words))
    assert (found["address"], found["port"], found["name"]) == ("10.1.0.7", 8443, "web.1"), "the address that accepts connections"
    (created,) = gateway.created
    assert (created["flavorRef"], created["networks"]) == ("3", [{"uuid": NETWORK}])
    assert gateway.asked == [None], "the image is no overlay"
    gateway.add(name="webx1", metadata={run.RUN: BASE_IMAGE})
    gateway.add(name="web.1", metadata={})
    assert printed(atoll("cloudlet", "run", "debian", *words))["server"] == found["server"], "others are not used"
    assert TRUST not in created["metadata"]


def test_stopped_server_is_started_and_a_far_one_is_named(atoll, gateway):
    gateway.add(status="SHUTOFF")
    ran = atoll("cloudlet", "run", "app")
    assert (ran.code, gateway.actions, gateway.created) == (0, [{"os-start": None}], [])
    assert "note: nice is nearer now: `atoll cloudlet handoff" in ran.err


def test_two_devices_at_the_same_moment_use_the_same_server(atoll, gateway):
    gateway.on_create = lambda: gateway.add(id="0" * 8 + "-0000-4000-8000-000000000000")
    found = printed(atoll("cloudlet", "run", "app", "--json"))
    assert (found["server"][:8], found["started"]) == ("0" * 8, False)
    assert [each["id"] for each in gateway.servers] == [found["server"]], "the other one is deleted"


def test_lost_answer_makes_no_second_server(atoll, gateway):
    gateway.lose = True
    ran = atoll("cloudlet", "run", "app")
    assert (ran.code, ran.err.partition("\n")[0]) == (1, "error: cut")
    (created,) = gateway.created
    assert printed(atoll("cloudlet", "run", "app", "--json"))["started"] is False
    assert gateway.created == [created]


def test_sites_that_do_not_answer_are_named(atoll, gateway):
    gateway.missing = "lyon"
    ran = atoll("cloudlet", "run", "app")
    assert ran.code == 0, "a site that is away blocks nobody"
    assert "note: lyon did not answer, and may have such a server too" in ran.err


def test_server_that_fails_is_deleted_unless_it_has_run(atoll, gateway):
    gateway.new = {"status": "ERROR", "fault": {"message": "none of the trusted keys signed this overlay"}}
    ran = atoll("cloudlet", "run", "app")
    assert (ran.code, ran.err) == (1, "error: the server could not start: none of the trusted keys signed this overlay\n")
    assert gateway.servers == []
    kept = gateway.add(status="ERROR", **{"OS-SRV-USG:launched_at": "2026-01-01"})
    ran = atoll("cloudlet", "run", "app")
    assert ran.err.startswith(f"error: the server {kept['id']} has failed: Nova gives no reason\n")
    assert gateway.servers == [kept], "it may have data"


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"status": "BUILD", "addresses": {}}, (), "is BUILD, and has no address yet"),
        ({}, ("--port", "22"), "does not accept connections at port 22 of 192.0.2.7, 10.1.0.7 yet"),
    ],
)
def test_server_that_is_late_stays(atoll, gateway, monkeypatch, changes, words, message):
    gateway.new |= changes
    ran = atoll("cloudlet", "run", "app", "--wait", "1", *words)
    assert ran.code == 1
    assert message in ran.err
    assert "hint: the same command waits" in ran.err
    assert len(gateway.servers) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none",), "there is no image none: expected the name of one, or an id"),
        (("1ade0000-0000-4000-8000-0000000000ff",), "there is no image 1ade0000"),
        (("app", "--flavor", "huge"), "there is no flavor huge"),
        (("app", "--network", "other"), "there is no network other"),
        (("app", "--name", "a b"), "'a b' can't be the name of the server"),
    ],
)
def test_wrong_names_start_nothing(atoll, gateway, words, message):
    ran = atoll("cloudlet", "run", *words)
    assert (ran.code, gateway.servers) == (1, [])
    assert message in ran.err.partition("\n")[0]


def test_refusals_of_nova_are_one_line(atoll, gateway):
    gateway.refusal = 409, "Multiple possible networks found, use a Network ID to be more specific."
    ran = atoll("cloudlet", "run", "app")
    assert ran.err == f"error: {gateway.refusal[1]}\nhint: name one by --network\n"
    gateway.refusal = 403, "Quota exceeded for cores\nhint: evil"
    assert atoll("cloudlet", "run", "app").err == "error: Quota exceeded for cores hint: evil\n"
    gateway.flavors = gateway.flavors[:1]
    assert "no flavor has 512 MB of memory" in atoll("cloudlet", "run", "app").err


@pytest.mark.parametrize("place", ["servers", "flavors", "images"])
@pytest.mark.parametrize("value", [7, [7], [{}], {"a": 1}])
def test_malformed_answer_is_one_line(atoll, gateway, place, value):
    setattr(gateway, place, value)
    gateway._servers = lambda _method, _rest, _params, _body: (200, {"servers": value})
    ran = atoll("cloudlet", "run", "app")
    assert (ran.code, ran.err.count("\n")) in {(1, 1), (1, 2)}
    assert ran.err.startswith("error: ")


def test_server_in_another_state_is_left_alone(atoll, gateway):
    gateway.add(status="PAUSED")
    ran = atoll("cloudlet", "run", "app")
    assert ran.err.startswith("error: the server 5e7f0000-0000-4000-8000-000000000001 is PAUSED: expected ACTIVE\n")
    assert gateway.actions == []
