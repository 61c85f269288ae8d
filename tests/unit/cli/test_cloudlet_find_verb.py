"""`atoll cloudlet find`: credentials of clouds.yaml, one request to the gateway, and each error in one line."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from atoll.cloudlet.find import PATH

pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB")  # openstacksdk warns of it whatever the configuration is

ZONE = {"edgeCloudZoneId": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "edgeCloudZoneName": "paris", "edgeCloudProvider": "atoll"}
URL = "http://10.77.1.1:8080/identity/v3"


class Gateway(ThreadingHTTPServer):
    """A gateway whose answer to a discovery request a test sets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.answer: tuple[int, Any] = 200, ZONE
        self.asked: list[tuple[Any, str]] = []
        self.overlays: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.server.root}/identity/v3/"}]}
        self._send(200, {"version": version})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == PATH:
            self.server.overlays.append(self.headers["X-Atoll-Overlay"])
            self.server.asked.append((body, self.headers["X-Auth-Token"]))
            self._send(*self.server.answer)
        elif body["auth"]["identity"]["password"]["user"]["password"] == "right":
            self._send(201, {"token": {"expires_at": "2099-01-01T00:00:00Z", "methods": ["password"], "catalog": []}})
        else:
            self._send(401, {"error": {"code": 401, "title": "Unauthorized", "message": "wrong password"}})

    def _send(self, status: int, body: Any) -> None:
        self.send_response(status)
        data = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            "X-Subject-Token": "token",
            "X-Atoll-Zone-Url": URL,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        """Print no line for a request."""


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """Serve a gateway, and write a clouds.yaml with the clouds `right`, `wrong` and `other`."""
    served = Gateway()
    threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()

    def cloud(url: str, password: str) -> dict[str, Any]:
        auth = {"auth_url": url, "username": "u", "password": password, "project_name": "p"}
        return {"region_name": "RegionOne", "auth": auth | {"user_domain_id": "default", "project_domain_id": "default"}}

    identity = f"{served.root}/identity/v3"
    clouds = {"right": cloud(identity, "right"), "wrong": cloud(identity, "wrong"), "other": cloud(f"{served.root}/v3", "right")}
    clouds |= {"away": cloud("http://127.0.0.1:9/identity/v3", "right"), "scoped": cloud(f"{served.root}/scope/lyon/identity/v3", "right")}
    path = tmp_path / "clouds.yaml"
    path.write_text(json.dumps({"clouds": clouds}))
    for name in ("OS_CLOUD", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
    yield served
    served.shutdown()
    served.server_close()


def test_the_zone_is_printed_with_its_region_and_url(atoll, gateway, monkeypatch):
    ran = atoll("cloudlet", "find", "--cloud", "right")
    assert (ran.code, ran.out) == (0, f"paris  RegionOne  {URL}\n"), ran.err
    monkeypatch.setenv("OS_CLOUD", "right")
    ran = atoll("cloudlet", "find", "--json")
    assert json.loads(ran.out) == {"id": ZONE["edgeCloudZoneId"], "name": "paris", "provider": "atoll", "region": "RegionOne", "url": URL}
    assert gateway.asked == [({}, "token")] * 2


def test_a_gateway_can_not_command_the_terminal(atoll, gateway):
    gateway.answer = 200, ZONE | {"edgeCloudZoneName": "paris\x1b[2J\n"}
    assert atoll("cloudlet", "find", "--cloud", "right").out == f"paris\\x1b[2J\\n  RegionOne  {URL}\n"
    gateway.answer = 422, {"code": "A\x1b[2J", "message": "B\x1b[2J\n\x9b2J"}
    ran = atoll("cloudlet", "find", "--cloud", "right")
    assert ran.err == "error: B\\x1b[2J \\x9b2J (A\\x1b[2J)\n"


@pytest.mark.parametrize(
    ("address", "identifier"),
    [
        ("10.1.2.3", {"ipv4Address": {"publicAddress": "10.1.2.3", "privateAddress": "10.1.2.3"}}),
        ("2001:DB8::1", {"ipv6Address": "2001:db8::1"}),
    ],
)
def test_another_device_is_named_in_the_body(atoll, gateway, address, identifier):
    assert atoll("cloudlet", "find", "--cloud", "right", "--device", address).code == 0
    assert gateway.asked == [({"device": identifier}, "token")]


def test_the_image_of_an_overlay_is_named_in_a_header(atoll, gateway):
    image = "0A0A0A0A-0000-4000-8000-000000000001"
    assert atoll("cloudlet", "find", "--cloud", "right", "--overlay", image).code == 0
    assert atoll("cloudlet", "find", "--cloud", "right").code == 0
    assert gateway.overlays == [image.lower(), None]
    ran = atoll("cloudlet", "find", "--overlay", "app")
    assert (ran.code, "is not a valid UUID" in ran.err) == (2, True)


@pytest.mark.parametrize("address", ["paris", "10.1.2.0/24", "fe80::1%eth0", ""])
def test_a_device_is_an_address(atoll, address):
    ran = atoll("cloudlet", "find", "--device", address)
    assert ran.code == 2
    assert "is not an IPv4 or IPv6 address" in ran.err


REFUSAL = {"status": 422, "code": "UNNECESSARY_IDENTIFIER", "message": "this token asks about itself only"}


@pytest.mark.parametrize(
    ("cloud", "answer", "error", "hint"),
    [
        ("right", (422, REFUSAL), "this token asks about itself only (UNNECESSARY_IDENTIFIER)", "leave out --device"),
        ("right", (503, {"status": 503, "code": "UNAVAILABLE", "message": "Keystone is away"}), "Keystone is away (UNAVAILABLE)", ""),
        ("right", (404, ["no such path"]), "HTTP 404, and no message: the gateway may be of an earlier version (Not Found)", ""),
        ("right", (200, {"edgeCloudZoneId": "1"}), "has no 'edgeCloudZoneName': expected an edge cloud zone", ""),
        ("wrong", None, "wrong password", "name a cloud"),
        ("other", None, "expected the URL of a site's gateway", "name a cloud"),
        ("absent", None, "Cloud absent was not found", "name a cloud"),
        ("away", None, "Unable to establish connection", ""),
    ],
)
def test_each_failure_is_one_line(atoll, gateway, cloud, answer, error, hint):
    gateway.answer = answer or gateway.answer
    ran = atoll("cloudlet", "find", "--cloud", cloud)
    assert (ran.code, ran.out) == (1, "")
    lines = ran.err.splitlines()
    assert lines[0].startswith("error: ")
    assert error in lines[0]
    assert len(lines) == (2 if hint else 1)
    assert hint in lines[-1]


def test_a_scope_in_the_credentials_is_not_part_of_the_path(atoll, gateway):
    assert atoll("cloudlet", "find", "--cloud", "scoped").code == 0
    assert gateway.asked == [({}, "token")]


def test_no_credentials_at_all_are_one_line(atoll, tmp_path, monkeypatch):
    for name in ("OS_CLOUD", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "absent.yaml"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ran = atoll("cloudlet", "find")
    assert (ran.code, len(ran.err.splitlines())) == (1, 2)
    assert "auth_url" in ran.err
