"""The requests of other sites about hand-offs: limits, one change of files at a time, and the user's project at each step."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_cloud import Cloud

from atoll.gateway.handoffs import peer_api, room
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import MOST_REFUSED, Arrival, Arriving, Departure, Leaving
from atoll.gateway.handoffs.peer_client import MOST_FACTS, PeerClient
from atoll.gateway.request.call import Reply, Unreachable, json_reply, to_gateway

DISK, OTHER = "d" * 64, "e" * 64


def run(directory: Path, test: Callable[[Cloud], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Cloud(directory, "paris", "nice") as cloud:
            for site in ("paris", "nice"):
                cloud[site].services.people = {"ours": ("p1", ("member",)), "theirs": ("p2", ("member",)), "reader": ("p1", ("reader",))}
            await test(cloud)

    asyncio.run(main())


async def ask(cloud: Cloud, method: str, handoff: str, path: str = "", body: Any = None, token: str = "", query: str = "") -> Any:
    call = to_gateway(method, f"/atoll/handoffs/{handoff}{path}", headers={"X-Auth-Token": token} if token else {}, query=query)
    reply = await cloud["paris"].sites.send("nice", call if body is None else call.with_(json=body))
    return reply.status, reply.json()


def prepared(cloud: Cloud, **changes: Any) -> Arrival:
    """Return a hand-off from paris to nice whose disk has arrived."""
    wish = {"image": str(uuid.uuid4()), "name": "web", "flavor": "f", "networks": [], "groups": [], "disk_bytes": 1 << 20}
    arrival = Arrival(str(uuid.uuid4()), str(uuid.uuid4()), "p1", "paris", wish | changes)
    files = cloud["nice"].handoffs._peer_api._files
    directory = files.directory(arrival.id) / "states" / DISK
    directory.mkdir(parents=True)
    (directory / "disk").write_bytes(b"disk")
    cloud["nice"].handoffs.journal.arrive(arrival)
    return arrival


@pytest.mark.parametrize("open_states", [[Leaving.COPYING, Leaving.FENCED, Leaving.COMMITTING, Leaving.RETURNING]])
def test_project_can_not_occupy_all_hand_offs_of_the_source(tmp_path, open_states):
    async def test(cloud: Cloud) -> None:
        paris = cloud["paris"]
        paris.handoffs.journal.depart(Departure("ended", str(uuid.uuid4()), "p1", "nice", Leaving.FAILED))
        for state in open_states:
            paris.handoffs.journal.depart(Departure(str(uuid.uuid4()), str(uuid.uuid4()), "p1", "nice", state))
        server = paris.services.add_server("web", "2026-01-01T00:00:00Z")

        async def described(*_: Any) -> dict[str, Any]:
            return {"active": True}

        paris.handoffs._servers.describe = described
        disk = paris.handoffs._instances / server / "disk"
        disk.parent.mkdir(parents=True)
        disk.write_bytes(b"QFI\xfb" + bytes(100))
        target, headers = f"/cloudlet/v1/servers/{server}/handoff", {"X-Auth-Token": "ours"}
        status, said, _ = await cloud.ask("paris", "POST", target, json={"site": "nice"}, headers=headers)
        limit = "paris already hands off 4 servers of project p1: the limit is 4. Try again when one of these hand-offs has ended"
        assert (status, said["error"]["message"]) == (429, limit)

    run(tmp_path, test)


def test_limits_of_the_source():
    leaving = [Departure(str(number), "s", f"p{number // 4}", "nice") for number in range(room.MOST_LEAVING - 1)]
    room.require_room_to_leave(leaving, "p3", "paris")
    leaving.append(Departure("last", "s", "p3", "nice"))
    with pytest.raises(HandoffRefused, match=r"paris already hands off 16 servers in all: the limit is 16"):
        room.require_room_to_leave(leaving, "new", "paris")
    with pytest.raises(HandoffRefused, match=r"paris already hands off 4 servers of project p0: the limit is 4"):
        room.require_room_to_leave(leaving, "p0", "paris")


def test_limits_of_the_destination():
    def arriving(site: str, project: str, state: Arriving = Arriving.PREPARED) -> Arrival:
        return Arrival(str(uuid.uuid4()), "s", project, site, {}, state)

    new = arriving("paris", "p1")
    theirs = [arriving(site, "p1", state) for site, state in (("paris", Arriving.PREPARED), ("lyon", Arriving.COMMITTED))]
    ended = [arriving("paris", "p1", state) for state in (Arriving.STARTED, Arriving.REFUSED) for _ in range(20)]
    room.require_room_to_arrive([*theirs, *ended, new, arriving("metz", "p1")], new, "nice")
    for found, why in (
        ([*theirs, *theirs], "nice already takes 4 servers of project p1: the limit is 4"),
        ([arriving("paris", str(number)) for number in range(16)], "nice already takes 16 servers from paris: the limit is 16"),
        ([arriving(str(number % 8), str(number)) for number in range(64)], "nice already takes 64 servers from all sites: the limit is 64"),
    ):
        with pytest.raises(HandoffRefused, match=why):
            room.require_room_to_arrive(found, new, "nice")


def test_destination_refuses_more_servers_of_a_project_before_it_brings_an_image(tmp_path):
    async def test(cloud: Cloud) -> None:
        for _ in range(room.MOST_OF_PROJECT):
            prepared(cloud)
        body = {"server": str(uuid.uuid4()), "project": "p1", "wish": {"image": "i", "occupied_bytes": 1}}
        status, said = await ask(cloud, "POST", str(uuid.uuid4()), body=body, token="ours")
        assert (status, said["handoff"].partition(":")[0]) == (429, "nice already takes 4 servers of project p1")
        assert not any("/image/" in target for _method, target in cloud["nice"].services.requests)

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("token", "reason"), [("theirs", "another project than the server"), ("reader", "may create nothing in a project")]
)
def test_commit_with_a_token_of_another_project_starts_nothing(tmp_path, token, reason):
    async def test(cloud: Cloud) -> None:
        arrival = prepared(cloud)
        named = {"disk": DISK, "server": arrival.server, "project": "p1"}
        status, said = await ask(cloud, "POST", arrival.id, "/commit", named, token)
        assert (status, said["state"]) == (200, "refused")
        assert reason in said["reason"]
        assert ("POST", "/compute/v2.1/servers") not in cloud["nice"].services.requests
        assert list((tmp_path / "nice").rglob("arrivals/*")) == []

    run(tmp_path, test)


def test_committed_server_is_created_with_the_users_token(tmp_path):
    async def test(cloud: Cloud) -> None:
        arrival = prepared(cloud)
        await ask(cloud, "POST", arrival.id, "/commit", {"disk": DISK, "server": arrival.server, "project": "p1"}, "ours")
        assert ("POST", "/compute/v2.1/servers") in cloud["nice"].services.requests

    run(tmp_path, test)


def test_changes_of_a_disk_wait_for_each_other_although_the_source_asks_to_forget_it(tmp_path, monkeypatch):
    async def test(cloud: Cloud) -> None:
        arrival, going, most, go_on = prepared(cloud), 0, 0, asyncio.Event()

        async def work(_task: Any) -> dict[str, str]:
            nonlocal going, most
            going += 1
            most = max(most, going)
            await go_on.wait()
            going -= 1
            return {"state": "", "key": ""}

        monkeypatch.setattr(peer_api, "work", work)
        first = asyncio.create_task(ask(cloud, "POST", arrival.id, "/begin", {"digest": ""}))
        async with asyncio.timeout(20):
            while not going:
                await asyncio.sleep(0.01)
        assert await ask(cloud, "DELETE", arrival.id) == (200, {})
        assert cloud["nice"].handoffs.journal.arrival(arrival.id) == arrival, "it has not ended, and stays"
        api, arrived = cloud["nice"].handoffs._peer_api, asyncio.Event()
        arriving = api._arriving

        def noted(*given: Any) -> Arrival:
            arrived.set()
            return arriving(*given)

        monkeypatch.setattr(api, "_arriving", noted)
        second = asyncio.create_task(ask(cloud, "POST", arrival.id, "/begin", {"digest": ""}))
        async with asyncio.timeout(20):
            await arrived.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, second)
        assert most == 1

    run(tmp_path, test)


def test_files_that_a_change_makes_after_the_end_of_a_hand_off_are_deleted(tmp_path, monkeypatch):
    async def test(cloud: Cloud) -> None:
        arrival, files = prepared(cloud), cloud["nice"].handoffs._peer_api._files

        async def work(_task: Any) -> dict[str, str]:
            status, said = await ask(cloud, "POST", arrival.id, "/revoke", {"server": arrival.server, "project": "p1"})
            assert (status, said["state"]) == (200, "refused")
            (files.directory(arrival.id) / "states" / OTHER).mkdir(parents=True)
            return {"state": OTHER}

        monkeypatch.setattr(peer_api, "work", work)
        await ask(cloud, "POST", arrival.id, "/begin", {"digest": ""})
        assert list((tmp_path / "nice").rglob(arrival.id)) == []
        status, said = await ask(cloud, "POST", arrival.id, "/begin", {"digest": ""})
        assert (status, said["handoff"]) == (409, "the hand-off is refused")

    run(tmp_path, test)


def test_hand_off_is_shown_to_its_source_with_its_server_alone(tmp_path):
    async def test(cloud: Cloud) -> None:
        arrival = prepared(cloud)
        named = f"server={arrival.server}&project=p1"
        assert (await ask(cloud, "GET", arrival.id, query=named))[1]["state"] == "prepared"
        peers, departure = PeerClient(cloud["paris"].sites), Departure(arrival.id, arrival.server, "p1", "nice")
        assert (await peers.shown(departure)).state is Arriving.PREPARED
        assert (await peers.revoke(departure)).state is Arriving.REFUSED
        assert (await peers.commit(departure, "ours")).reason == "the hand-off was revoked"
        assert (await peers.shown(replace(departure, id=str(uuid.uuid4())))).state is Arriving.REFUSED, "there is neither record nor server"
        assert (await ask(cloud, "GET", arrival.id, query=named.replace("p1", "p2")))[0] == 409
        assert (await ask(cloud, "GET", arrival.id, query="server=x&project=p1"))[0] == 400
        assert (await ask(cloud, "GET", str(uuid.uuid4()), query=named))[0] == 404
        server = cloud["nice"].services.add_server("web", "2026-01-01T00:00:00Z")
        cloud["nice"].services.servers[server] |= {"OS-SRV-USG:launched_at": "2026", "addresses": {}}
        status, said = await ask(cloud, "GET", str(uuid.uuid4()), query=f"server={server}&project=p1")
        assert status == 409
        for question in (peers.shown, peers.revoke):
            with pytest.raises(Unreachable, match="no record of the hand-off, as after a restore"):
                await question(replace(departure, id=str(uuid.uuid4()), server=server))
        assert said["handoff"].startswith(f"it has a server {server}, but no record of the hand-off")

    run(tmp_path, test)


def test_source_that_lies_can_not_fill_the_journal(tmp_path):
    async def test(cloud: Cloud) -> None:
        journal = cloud["nice"].handoffs.journal
        first = prepared(cloud)
        for _ in range(MOST_REFUSED + 3):
            arrival = Arrival(str(uuid.uuid4()), str(uuid.uuid4()), "p1", "paris", {"user_data": "x" * 1000})
            journal.arrive(arrival)
            await ask(cloud, "POST", arrival.id, "/revoke", {"server": arrival.server, "project": "p1"})
        refused = [each for each in journal.arrivals() if each.state is Arriving.REFUSED]
        assert len(refused) == MOST_REFUSED
        assert all(each.wish == {} for each in refused)
        assert journal.arrival(first.id) == first, "one that has not ended stays"
        body = {"server": str(uuid.uuid4()), "project": "p1", "wish": {"user_data": "x" * peer_api.MOST_WISH}}
        status, said = await ask(cloud, "POST", str(uuid.uuid4()), body=body, token="ours")
        assert (status, said["handoff"]) == (413, "the description of the server is too large")

    run(tmp_path, test)


def test_destination_that_lies_can_not_fill_the_journal_of_the_source(tmp_path):
    async def test(cloud: Cloud) -> None:
        async def send(site: str, _call: Any, _timeout_s: float) -> Reply:
            return json_reply(200, {"state": "started", "reason": "x" * 10_000, "result": {"addresses": ["x" * MOST_FACTS]}}, site)

        sites = cloud["paris"].sites
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sites, "send", send)
            answer = await PeerClient(sites).revoke(Departure("h", "s", "p1", "nice"))
        assert (answer.state, len(answer.reason), answer.result) == (Arriving.STARTED, 300, {})

    run(tmp_path, test)
