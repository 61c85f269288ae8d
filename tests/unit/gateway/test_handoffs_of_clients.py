"""Hand-offs as clients see them: refusals in one sentence, the rights of projects and sites, and servers that have moved."""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from pathlib import Path

import pytest
from aiohttp import web
from gateway_cloud import Cloud
from multidict import CIMultiDict

from atoll.gateway.edge import MobilityEvent, Status
from atoll.gateway.handoffs.api import _sizes
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import KEPT_S, Departure, Journal, Leaving
from atoll.gateway.request.call import Call, to_gateway
from atoll.gateway.request.headers import GIVEN_ID
from atoll.gateway.resolve.routes import COMPUTE

OURS, THEIRS = {"X-Auth-Token": "ours"}, {"X-Auth-Token": "theirs"}


def run(directory: Path, test) -> None:
    async def main() -> None:
        async with Cloud(directory, "paris", "lyon", "nice") as cloud:
            for site in ("paris", "lyon", "nice"):
                cloud[site].services.people = {"ours": ("p1", ("member",)), "theirs": ("p2", ("member",)), "reader": ("p1", ("reader",))}
            await test(cloud)

    asyncio.run(main())


def path(server: str) -> str:
    return f"/cloudlet/v1/servers/{server}/handoff"


def test_refusals_are_one_sentence(tmp_path):
    async def test(cloud: Cloud) -> None:
        server = cloud["paris"].services.add_server("web", "2026-01-01T00:00:00Z")

        async def refused(body: object, target: str = path(server), headers: dict = OURS, method: str = "POST") -> tuple[int, str]:
            status, said, _ = await cloud.ask("paris", method, target, json=body, headers=headers)
            return status, said["error"]["message"]

        nice = {"site": "nice"}
        expected = 'the body of the request is malformed: expected {"site": SITE}'
        for body in ({}, [], {"site": 7}, {"site": "nice", "more": 1}, {"site": ""}):
            assert await refused(body) == (400, expected)
        assert await refused(nice, headers={}) == (401, "the request has no token: expected an X-Auth-Token header")
        assert await refused(nice, headers={"X-Auth-Token": "reader"}) == (403, "the token may create nothing in a project")
        assert await refused({"site": "metz"}) == (404, "there is no site metz in this cloud")
        unknown = str(uuid.uuid4())
        missing = f"no site that can be reached has a server {unknown} of your project"
        assert await refused(nice, path(unknown)) == (404, missing)
        foreign = cloud["paris"].services.add_server("db", "2026-01-01T00:00:00Z", "p2")
        assert await refused(nice, path(foreign)) == (404, missing.replace(unknown, foreign)), "as for one that does not exist"
        assert (await refused(nice, method="PUT"))[0] == 404
        assert (await refused(nice, "/cloudlet/v1/servers/x/handoff"))[0] == 404
        cloud["paris"].services.servers[server]["status"] = "PAUSED"
        status, said = await refused(nice)
        assert (status, said) == (409, "the server's status is PAUSED: expected ACTIVE or SHUTOFF, and no task")

    run(tmp_path, test)


def test_second_hand_off_of_a_server_is_refused_and_the_same_one_is_joined(tmp_path):
    async def test(cloud: Cloud) -> None:
        server = cloud["paris"].services.add_server("web", "2026-01-01T00:00:00Z")
        journal = cloud["paris"].handoffs.journal
        journal.depart(Departure("h", server, "p1", "nice", Leaving.COMMITTING))
        status, said, _ = await cloud.ask("paris", "POST", path(server), json={"site": "lyon"}, headers=OURS)
        assert (status, said["error"]["message"]) == (409, "the server is being handed off to nice already")
        for site in ("paris", "lyon"):
            status, said, _ = await cloud.ask(site, "POST", path(server), json={"site": "nice"}, headers=OURS)
            assert (status, said["id"], said["from"], said["state"]) == (202, "h", "paris", "committing"), "lyon passes it on"

    run(tmp_path, test)


def test_application_may_forbid_a_hand_off_or_wants_to_confirm_it(tmp_path):
    async def test(cloud: Cloud) -> None:
        paris = cloud["paris"]
        server = paris.services.add_server("web", "2026-01-01T00:00:00Z")
        paris.services.flavors["f"] = {"id": "f", "name": "m1", "vcpus": 1, "ram": 64, "disk": 1}
        paris.services.servers[server] |= {"flavor": {"id": "f"}, "image": {"id": str(uuid.uuid4())}, "OS-EXT-STS:task_state": None}
        paris.services.servers[server] |= {"locked": False, "os-extended-volumes:volumes_attached": []}
        disk = paris.options.data.parent / "instances" / server / "disk"
        disk.parent.mkdir(parents=True)
        disk.write_bytes(struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 0, 1))
        told: list[MobilityEvent] = []
        paris.handoffs.publish = told.append

        async def asked(*levels: str) -> tuple[int, str]:
            devices = {f"atoll_mobility_device_{number}": level for number, level in enumerate(levels)}
            paris.services.servers[server]["metadata"] = {"atoll_mobility": '{"expiry":0,"until":0}', **devices}
            status, said, _ = await cloud.ask("lyon", "POST", path(server), json={"site": "nice"}, headers=OURS)
            return status, said["error"]["message"] if "error" in said else said["state"]

        refused = "the application has registered at level 1, APP_MOBILITY_NOT_ALLOWED: the server stays here"
        assert await asked('["a",3,0]', '["b",1,0]') == (409, refused)
        assert told == []
        status, said = await asked('["a",2,0]', '["b",2,1]')
        assert (status, said) == (409, "the application has been asked, and must confirm the hand-off of its devices first: try again then")
        assert told == [MobilityEvent(server, "p1", Status.TRIGGERED)]
        assert paris.handoffs.journal.latest(server) is None
        assert await asked('["a",2,1]') == (202, "copying")
        departure = paris.handoffs.journal.latest(server)
        assert departure.wish["metadata"]["atoll_mobility_device_0"] == '["a",2,0]', "it has confirmed this one alone"
        async with asyncio.timeout(10):
            while len(told) < 3:  # nice has no such image, and refuses
                await asyncio.sleep(0.01)
        assert [event.status for event in told] == [Status.TRIGGERED, Status.TRIGGERED, Status.FAILED]
        journal = Journal(":memory:", paris.handoffs._publish_end)
        journal.depart(Departure("h", server, "p1", "nice", Leaving.DONE))
        assert told[-1] == MobilityEvent(server, "p1", Status.COMPLETED)

    run(tmp_path, test)


def test_state_is_shown_to_the_servers_project_alone(tmp_path):
    async def test(cloud: Cloud) -> None:
        server, handoff = str(uuid.uuid4()), str(uuid.uuid4())
        departure = Departure(handoff, server, "p1", "nice", Leaving.FAILED, reason="no valid host")
        cloud["paris"].handoffs.journal.depart(departure)
        for site in ("paris", "nice"):
            status, said, _ = await cloud.ask(site, "GET", f"{path(server)}?id={handoff}", headers=OURS)
            assert (status, said["state"], said["reason"], said["running"]) == (200, "failed", "no valid host", False)
            assert (await cloud.ask(site, "GET", f"{path(server)}?id={handoff}", headers=THEIRS))[0] == 404
            assert (await cloud.ask(site, "GET", f"{path(server)}?id={uuid.uuid4()}", headers=OURS))[0] == 404
            assert (await cloud.ask(site, "GET", f"{path(server)}?id=h", headers=OURS))[0] == 400
            assert (await cloud.ask(site, "GET", path(server), headers=OURS))[0] == 404, "none is under way"
        cloud["paris"].handoffs.journal.depart(Departure(str(uuid.uuid4()), server, "p1", "lyon", Leaving.COMMITTING))
        for site in ("paris", "nice"):
            status, said, _ = await cloud.ask(site, "GET", path(server), headers=OURS)
            assert (status, said["site"], said["state"]) == (202, "lyon", "committing")
            assert (await cloud.ask(site, "GET", path(server), headers=THEIRS))[0] == 404

    run(tmp_path, test)


def test_server_that_was_handed_off_is_found_at_its_new_site(tmp_path):
    async def test(cloud: Cloud) -> None:
        server = cloud["paris"].services.add_server("web", "2026-01-01T00:00:00Z")
        item = f"/compute/v2.1/servers/{server}"
        for site in ("paris", "lyon"):
            assert (await cloud.ask(site, "GET", item))[1]["server"]["where"] == "paris"
        cloud["nice"].services.servers[server] = cloud["paris"].services.servers.pop(server)
        cloud["paris"].handoffs.journal.depart(Departure("h", server, "p1", "nice", Leaving.DONE))
        for site in ("paris", "lyon", "nice"):
            assert (await cloud.ask(site, "GET", item))[1]["server"]["where"] == "nice"
        assert cloud["lyon"].gateway.locations.get(COMPUTE["servers"], server) == "nice"
        # A week later, paris does not know about the hand-off any more, and nobody remembers that the server was there.
        cloud["paris"].handoffs.journal._clock = lambda: time.time() + KEPT_S + 1
        cloud["paris"].handoffs.journal.depart(Departure("g", str(uuid.uuid4()), "p1", "nice", Leaving.DONE))
        assert cloud["paris"].handoffs.moved(server) is None
        cloud["lyon"].gateway.locations._sites.clear()
        assert (await cloud.ask("lyon", "GET", item))[1]["server"]["where"] == "nice"
        assert (await cloud.ask("lyon", "DELETE", item))[0] == 204
        assert (await cloud.ask("lyon", "GET", item))[0] == 404

    run(tmp_path, test)


def test_site_can_push_no_server_into_a_project_without_a_token_of_it(tmp_path):
    async def test(cloud: Cloud) -> None:
        async def push(token: str, **changes: object) -> tuple[int, str]:
            body = {"server": str(uuid.uuid4()), "project": "p1", "wish": {"image": "i", "occupied_bytes": 1}} | changes
            call = to_gateway("POST", f"/atoll/handoffs/{uuid.uuid4()}", headers={"X-Auth-Token": token}).with_(json=body)
            reply = await cloud["paris"].sites.send("nice", call)
            return reply.status, reply.json()["handoff"]

        assert await push("") == (401, "the request has no token: expected an X-Auth-Token header")
        assert await push("theirs") == (403, "the token is one of another project than the server")
        assert await push("reader") == (403, "the token may create nothing in a project")
        for wrong in ("../x", uuid.uuid4().hex):
            assert await push("ours", server=wrong) == (400, "the server's id is malformed")
        assert cloud["nice"].handoffs.journal.arrivals() == []

    run(tmp_path, test)


@pytest.mark.parametrize(("service", "target", "vouched"), [("compute", "/v2.1/servers", False), ("network", "/v2.0/networks", True)])
def test_another_site_has_no_id_of_a_server_vouched_for(tmp_path, service, target, vouched):
    async def test(cloud: Cloud) -> None:
        headers = CIMultiDict({"X-Auth-Token": "ours", GIVEN_ID: "1"})
        call = Call("POST", service, target, "", headers, None, "req-1").with_(json={"server": {"name": "web"}, "network": {"name": "n"}})
        await cloud["paris"].sites.send("nice", call)
        sent = [each for each in cloud["nice"].services.headers if each.get("X-Auth-Token") == "ours"]
        assert [("X-Service-Token" in each) for each in sent] == [vouched]

    run(tmp_path, test)


@pytest.mark.parametrize(("place", "name"), [(1 << 63, b""), (32, b"a\0b"), (32, b"x" * 1000)])
def test_header_of_a_disk_that_a_guest_has_written_is_refused(tmp_path, place, name):
    disk = tmp_path / "disk"
    disk.write_bytes(struct.pack(">4sIQIIQ", b"QFI\xfb", 3, place, len(name), 0, 1) + name)
    with pytest.raises(HandoffRefused, match="is not at the machine"):
        _sizes(disk, tmp_path)


def test_refused_hand_off_leaves_no_directory(tmp_path):
    async def test(cloud: Cloud) -> None:
        image, handoff = str(uuid.uuid4()), str(uuid.uuid4())
        cloud["nice"].services.images[image] = {"id": image, "name": "i", "status": "active", "visibility": "public", "owner": "p1"}
        wish = {"image": image, "occupied_bytes": 1, "disk_bytes": 1, "flavor": "none", "flavor_name": "none"}
        body = {"server": str(uuid.uuid4()), "project": "p1", "wish": wish}
        call = to_gateway("POST", f"/atoll/handoffs/{handoff}", headers={"X-Auth-Token": "ours"}).with_(json=body)
        reply = await cloud["paris"].sites.send("nice", call)
        assert (reply.status, reply.json()["handoff"]) == (409, "nice has no flavor none")
        assert list(tmp_path.rglob(handoff)) == []

    run(tmp_path, test)


def test_site_whose_keystone_fails_does_not_hide_the_server_of_another(tmp_path):
    async def test(cloud: Cloud) -> None:
        server = cloud["nice"].services.add_server("web", "2026-01-01T00:00:00Z")
        cloud["nice"].handoffs.journal.depart(Departure("h", server, "p1", "paris", Leaving.COMMITTING))
        for status in (500, 404):  # Keystone's 404 is a token that is not valid
            cloud["lyon"].services.refuse = lambda request, code=status: web.Response(status=code) if "/auth/" in request.path else None
            found, said, _ = await cloud.ask("paris", "POST", path(server), json={"site": "paris"}, headers=OURS)
            assert (found, said["id"]) == (202, "h")

    run(tmp_path, test)
