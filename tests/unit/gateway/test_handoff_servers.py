"""Nova's servers of hand-offs: a server that its owner changes while its disk is copied, and one that does not fit at the destination."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from multidict import CIMultiDict

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Departure
from atoll.gateway.handoffs.servers import END_S, ServersHere
from atoll.gateway.request.call import Call, Reply, Unreachable

DEPARTURE = Departure("h", "s", "p", "nice", wish={"flavor": "f", "image": "i"})
STOPPED = {
    "status": "SHUTOFF",
    "OS-EXT-STS:task_state": None,
    "OS-EXT-STS:power_state": 4,
    "flavor": {"id": "f"},
    "image": {"id": "i"},
    "os-extended-volumes:volumes_attached": [],
}
FLAVOR = {"id": "f", "name": "tiny", "vcpus": 1, "ram": 64, "disk": 1}


class Nova:
    """A site with one server and one flavor."""

    here = "paris"

    def __init__(self, **changes: Any) -> None:
        self.server = STOPPED | changes
        self.calls: list[Call] = []

    async def own_token(self, _service: str) -> str:
        return "own"

    async def send(self, site: str, call: Call, _timeout_s: float = 0) -> Reply:
        self.calls.append(call)
        answers = {"servers": {"server": self.server}, "flavors": {"flavor": FLAVOR}, "limits": {"limits": {"absolute": {}}}}
        return Reply(200, CIMultiDict(), json.dumps(answers[call.path.split("/")[2]]).encode(), site)


def test_server_that_was_changed_while_its_disk_was_copied_is_not_handed_off():
    asyncio.run(ServersHere(Nova(), None).fence(DEPARTURE))
    for changes in (
        {"os-extended-volumes:volumes_attached": [{"id": "v"}]},
        {"flavor": {"id": "g"}},
        {"image": {"id": "j"}},
        {"image": ""},
    ):
        with pytest.raises(HandoffRefused, match="meanwhile"):
            asyncio.run(ServersHere(Nova(**changes), None).fence(DEPARTURE))


def test_disk_that_is_larger_than_its_flavor_is_refused():
    async def check(size: int) -> None:
        await ServersHere(Nova(), None).check({"flavor": "f", "flavor_name": "tiny", "disk_bytes": size}, "p", "token")

    asyncio.run(check(1 << 30))
    with pytest.raises(HandoffRefused, match="larger than the 1 GiB of the flavor tiny at paris"):
        asyncio.run(check((1 << 30) + 1))


def test_lock_names_the_hand_off_for_administrators():
    nova = Nova()
    asyncio.run(ServersHere(nova, None).fence(DEPARTURE))
    lock = nova.calls[0]
    assert (lock.path, lock.value) == ("/v2.1/servers/s/action", {"lock": {"locked_reason": "hand-off h to nice"}})
    assert lock.headers["OpenStack-API-Version"] == "compute 2.73"


@pytest.mark.parametrize("wait", [ServersHere.restart, ServersHere.delete_departed])
def test_wait_for_nova_is_bounded(wait):
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    nova = Nova(**{"OS-EXT-STS:task_state": "image_uploading"})
    with pytest.raises(Unreachable, match="within 180 s"):
        asyncio.run(wait(ServersHere(nova, None, sleep, lambda: now), DEPARTURE))
    assert END_S <= now <= END_S + 1
