"""The identity and the owner of objects, and the requester of an operation."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from multidict import CIMultiDict
from replica_sites import USER, call

from atoll.gateway.copies import ownership
from atoll.gateway.request import requester
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.requester import Requester, Requesters

IMAGE = "/v2/images/i"


@pytest.mark.parametrize(
    ("service", "path", "body", "expected"),
    [
        ("image", IMAGE, {"owner": "o", "os_hash_value": "h", "name": "n"}, {"owner": "o", "hash": "h"}),
        ("image", IMAGE, {"owner": "o", "os_hash_value": None}, {"owner": "o"}),
        ("compute", "/v2.1/servers/s", {"server": {"tenant_id": "o"}}, {"owner": "o"}),
        ("compute", "/v2.1/flavors/f", {"flavor": {"name": "n", "ram": 1, "disk": 0}}, {"name": "n", "ram": "1", "disk": "0"}),
        ("compute", "/v2.1/os-keypairs/k", {"keypair": {"user_id": "u", "fingerprint": "f"}}, {"user": "u", "fingerprint": "f"}),
        ("network", "/v2.0/networks/n.json", {"network": {"project_id": "o"}}, {"owner": "o"}),
        ("network", "/v2.0/subnets/s", {"subnet": {"project_id": "o", "cidr": "c"}}, {"owner": "o", "cidr": "c"}),
        ("network", "/v2.0/networks/n", [], {}),
        ("network", "/v2.0/networks/n", {}, {}),
        ("network", "/v2.0/networks/n", {"network": "x"}, {}),
    ],
)
def test_identity(service: str, path: str, body: Any, expected: dict[str, str]):
    assert ownership.identity(service, path, body) == expected


@pytest.mark.parametrize("path", ["/v2.1/os-quota-sets/p", "/v2.0/quotas/p", "/v2.0/quotas/p.json", "/"])
def test_setting_is_not_an_object(path: str):
    assert ownership.collection_of("network", path) == ""


class Keystone:
    """A Keystone that answers for a site."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.here = "paris"
        self.answers = list(answers)
        self.asked: list[Call] = []

    async def send(self, _site: str, asked: Call) -> Reply:
        self.asked.append(asked)
        status, body = self.answers.pop(0)
        return Reply(status, CIMultiDict(), json.dumps(body).encode(), "paris")


def token(*roles: str) -> dict[str, Any]:
    return {"token": {"user": {"id": "u"}, "project": {"id": "p"}, "roles": [{"name": role} for role in roles]}}


def test_requesters_come_from_keystone_and_are_cached_for_a_while(monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        keystone = Keystone((200, token("member")), (200, token("reader")))
        requesters = Requesters(keystone)
        asked = call("DELETE", IMAGE, service="image")
        for _ in range(3):
            assert await requesters.of(asked) == Requester("u", "p", ("member",))
        assert len(keystone.asked) == 1
        assert keystone.asked[0].headers["X-Subject-Token"] == keystone.asked[0].headers["X-Auth-Token"] == USER
        monkeypatch.setattr(requester, "FRESH_S", 0.0)
        assert await requesters.of(asked) == Requester("u", "p", ("reader",))

    asyncio.run(main())


@pytest.mark.parametrize("answer", [(404, {}), (401, {}), (200, {}), (200, []), (200, {"token": {}})])
def test_nobody_is_made_up(answer: tuple[int, Any]):
    async def main() -> None:
        requesters = Requesters(Keystone(answer, answer))
        assert await requesters.of(call("DELETE", IMAGE)) is None
        assert await requesters.of(call("DELETE", IMAGE, **{"X-Auth-Token": ""})) is None

    asyncio.run(main())


def test_requester_is_kept_as_text():
    one = Requester("u", "", ("admin", "member"))
    assert Requester.load(one.dump()) == one
    assert one.is_admin
    for text in ("", "{}", "[]", "null", '{"user": 1}'):
        assert Requester.load(text) is None
