"""The choice of a server and the URL of its console, with a double of the gateway."""

import json
from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import ConnectFailure

from atoll.errors import AtollError
from atoll.site.console import Console, Consoles

ID = "8c0a6f0e-6a53-4c3f-9d8d-3b0a5d4b6d0b"
SETTINGS = SimpleNamespace(site="paris", public_url=lambda endpoint, path: f"http://paris:8080/{endpoint}{path}")


class Gateway:
    """A double of a keystoneauth session."""

    def __init__(self, servers=(), status=200, missing=None):
        self.servers = [dict({"OS-EXT-AZ:availability_zone": "lyon"}, **each) for each in servers]
        self.status = status
        self.missing = missing
        self.asked = []

    def request(self, url, method, *, headers, raise_exc, json=None):
        assert (headers["OpenStack-API-Version"], raise_exc) == ("compute 2.31", False)
        self.asked.append((method, url.removeprefix("http://paris:8080/compute/v2.1"), json))
        if method == "POST":
            return self.answer(
                self.status, {"remote_console": {"url": "ws://paris:8080/console/lyon/serial?token=t"}}, "conflictingRequest"
            )
        if "?" in url:
            return self.answer(200, {"servers": self.servers})
        found = [each for each in self.servers if url.endswith(each["id"])]
        return self.answer(200, {"server": found[0]}) if found else self.answer(503 if self.missing else 404, {}, "itemNotFound")

    def answer(self, status, body, fault="x"):
        text = body if status == 200 else {fault: {"code": status, "message": "not\nnow"}}
        headers = {"X-Atoll-Missing": self.missing} if self.missing else {}
        return SimpleNamespace(status_code=status, headers=headers, json=lambda: json.loads(json.dumps(text)))


def serial(gateway, wanted):
    return Consoles(SETTINGS, gateway).serial(wanted)


def refusal(gateway, wanted):
    with pytest.raises(AtollError) as caught:
        serial(gateway, wanted)
    return caught.value.kind.code, caught.value.message


def test_by_name_and_by_id():
    gateway = Gateway([{"id": ID, "name": "web.1"}])
    console = Console("web.1", "lyon", "ws://paris:8080/console/lyon/serial?token=t")
    assert serial(gateway, "web.1") == serial(gateway, ID.upper()) == console
    made = ("POST", f"/servers/{ID}/remote-consoles", {"remote_console": {"protocol": "serial", "type": "serial"}})
    assert gateway.asked == [
        ("GET", "/servers/detail?all_tenants=1&name=%5Eweb%5C.1%24", None),
        made,
        ("GET", f"/servers/{ID}", None),
        made,
    ]


def test_none_and_several():
    assert refusal(Gateway(), "web") == ("server.unknown", "no server has the name or id web")
    assert refusal(Gateway(missing="lyon"), "web") == ("server.unknown", "no server has the name or id web; lyon can't be asked now")
    assert refusal(Gateway(missing="lyon"), ID) == ("server.unknown", f"no server has the name or id {ID}; lyon can't be asked now")
    two = Gateway([{"id": "1", "name": "web"}, {"id": "2", "name": "web"}])
    assert refusal(two, "web") == ("server.unknown", "2 servers are called web: 1 at lyon, 2 at lyon: expected one")


def test_no_console_now():
    gateway = Gateway([{"id": ID, "name": "web"}], status=409)
    assert refusal(gateway, "web") == ("console.unavailable", "web has no serial console now: not now")


def test_nobody_answers():
    class Nobody:
        def request(self, *_arguments, **_more):
            raise ConnectFailure("refused\nand more")

    assert refusal(Nobody(), "web") == ("site.not_running", "paris gives an unexpected answer: refused")
