"""Unfinished hand-offs are continued at the same time, each within bounds, whatever happens to one of them."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from itertools import pairwise
from pathlib import Path

import pytest
from gateway_cloud import Cloud
from handoff_world import World

from atoll.gateway.handoffs import api, expiry, settling, worker
from atoll.gateway.handoffs.files import HandoffFiles
from atoll.gateway.handoffs.incoming import LATE_S, START_S, Incoming, Look
from atoll.gateway.handoffs.journal import Arrival, Arriving, Departure, Journal, Leaving
from atoll.gateway.handoffs.settling import FIRST_PAUSE_S, MOST_AT_ONCE, MOST_PAUSE_S, Settling
from atoll.gateway.request.call import Unreachable


def test_attempt_that_waits_delays_no_other_one():
    async def main() -> None:
        settling, ended = Settling(), asyncio.Event()

        async def end() -> None:
            ended.set()

        settling.begin("waits", asyncio.Event().wait)
        settling.begin("ends", end)
        async with asyncio.timeout(5):
            await ended.wait()
        assert settling.busy("waits")
        settling.begin("waits", pytest.fail)
        await settling.stop()
        assert not settling.busy("waits")

    asyncio.run(main())


def test_attempts_are_bounded_in_number():
    async def main() -> None:
        settling, going, most = Settling(), 0, 0

        async def attempt() -> None:
            nonlocal going, most
            going += 1
            most = max(most, going)
            await asyncio.sleep(0)
            going -= 1

        for number in range(3 * MOST_AT_ONCE):
            settling.begin(str(number), attempt)
        while any(settling.busy(str(number)) for number in range(3 * MOST_AT_ONCE)):
            await asyncio.sleep(0)
        assert most == MOST_AT_ONCE

    asyncio.run(main())


def test_attempt_that_takes_too_long_is_cancelled(monkeypatch, caplog):
    monkeypatch.setattr(settling, "ATTEMPT_S", 0.01)

    async def main() -> None:
        attempts = Settling()
        attempts.begin("h", asyncio.Event().wait)
        async with asyncio.timeout(5):
            while attempts.busy("h"):
                await asyncio.sleep(0)

    asyncio.run(main())
    assert "hand-off h could not be settled within" in caplog.text


@pytest.mark.parametrize("error", [Unreachable("nice", "cut"), RuntimeError("a fault of this program")])
def test_failed_attempt_is_repeated_with_a_back_off(error, caplog):
    async def main() -> list[float]:
        now, times = 0.0, []
        settling = Settling(lambda: now)

        async def fail() -> None:
            times.append(now)
            raise error

        for second in range(300):
            now = float(second)
            settling.begin("h", fail)
            while settling.busy("h"):
                settling.keep({"h"})
                await asyncio.sleep(0)
        settling.keep(set())
        settling.begin("h", fail)
        while settling.busy("h"):
            await asyncio.sleep(0)
        assert times.pop() == now, "the failures of a hand-off that has ended are forgotten"
        return times

    times = asyncio.run(main())
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert set(pauses[4:]) == {MOST_PAUSE_S}
    assert ("a fault of this program" in caplog.text) == isinstance(error, RuntimeError)


def test_loop_survives_a_hand_off_that_can_not_be_settled(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(api, "LOOK_EVERY_S", 0.01)

    async def main() -> None:
        async with Cloud(tmp_path, "paris", "nice") as cloud:
            handoffs, settled = cloud["paris"].handoffs, set()
            for name in ("faulty", "hangs", "good"):
                handoffs.journal.depart(Departure(name, str(uuid.uuid4()), "p1", "nice", Leaving.COMMITTING))

            async def settle(identifier: str) -> None:
                if identifier == "faulty":
                    raise RuntimeError("a fault of this program")
                if identifier == "hangs":
                    await asyncio.Event().wait()
                settled.add(identifier)

            monkeypatch.setattr(handoffs._outgoing, "settle", settle)
            running = asyncio.create_task(handoffs.run())
            async with asyncio.timeout(20):
                while "good" not in settled:
                    await asyncio.sleep(0.01)
                monkeypatch.setattr(handoffs._expiry, "once", lambda: 1 / 0)
                settled.clear()
                while "good" not in settled or "can't be checked" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert "hand-off faulty can't be settled" in caplog.text


def test_loop_keeps_the_back_off_of_an_attempt_that_is_under_way(tmp_path):
    async def main() -> None:
        async with Cloud(tmp_path, "paris", "nice") as cloud:
            handoffs = cloud["paris"].handoffs
            handoffs.journal.depart(Departure("h", str(uuid.uuid4()), "p1", "nice", Leaving.COMMITTING))
            handoffs._settling._pauses["h"] = (0.0, 40.0)
            handoffs._settling.begin("h", asyncio.Event().wait)
            handoffs._settle()
            assert handoffs._settling._pauses["h"] == (0.0, 40.0)

    asyncio.run(main())


def test_creation_without_an_answer_is_given_up_only_when_it_can_not_reach_nova_any_more():
    async def main() -> None:
        world, now = World(), 0.0
        world.here = "stopped"
        incoming = Incoming(world.journal_there, world, world, world._sleep, lambda: now)

        async def lost(_arrival: Arrival, _token: str) -> None:
            raise Unreachable("there", "no answer")

        world.create = lost
        asked = Arrival("h", "s", "p", "here", {})
        await incoming.prepare(asked, "token")
        world.arrived.add("d")
        assert (await incoming.commit(asked, "d", "token")).state is Arriving.COMMITTED
        await asyncio.sleep(0)
        assert incoming.unsettled() == []
        now = LATE_S
        assert [each.id for each in incoming.unsettled()] == ["h"]
        await incoming.stop()

    asyncio.run(main())


def test_nobody_waits_for_ever_for_a_server_that_is_being_created():
    async def main() -> None:
        world, now = World(), 0.0
        world.here = "stopped"

        async def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        async def building(_arrival: Arrival) -> tuple[Look, dict]:
            return Look.BUILDING, {}

        incoming = Incoming(world.journal_there, world, world, sleep, lambda: now)
        world.look = building
        arrival = Arrival("h", "s", "p", "here", {}, Arriving.COMMITTED)
        world.journal_there.arrive(arrival)
        assert (await incoming.commit(arrival, "d", "token")).state is Arriving.COMMITTED
        assert START_S <= now <= START_S + 1
        await asyncio.sleep(0)
        assert [each.id for each in incoming.unsettled()] == ["h"]

    asyncio.run(main())


def test_commit_joins_the_look_of_the_background():
    async def main() -> None:
        world = World()
        world.here, world.there, world.offered = "stopped", "building", True
        arrival = Arrival("h", "s", "p", "here", {}, Arriving.COMMITTED)
        world.journal_there.arrive(arrival)
        first = asyncio.create_task(world.incoming.settle(arrival))
        await asyncio.sleep(0)
        assert world.incoming.unsettled() == []
        assert (await world.incoming.commit(arrival, "d", "token")).state is Arriving.STARTED
        await first
        assert world.steps.count("finish") == 1

    asyncio.run(main())


def test_copies_and_files_that_nobody_continues_are_deleted(tmp_path):
    journal, files, given_up = Journal(), HandoffFiles(tmp_path, tmp_path / "_base"), []
    incoming = Incoming(journal, World(), files)
    now = 0.0
    expiring = expiry.Expiry(journal, files, incoming, given_up.append, {"runs"}.__contains__, lambda: now)
    old = time.time() - expiry.EXPIRES_S - 60

    def aged(identifier: str) -> Path:
        directory = files.directory(identifier)
        os.utime(directory, (old, old))
        return directory

    for identifier in ("runs", "old", "fresh", "without files"):
        journal.depart(Departure(identifier, "s", "p", "nice"))
    journal.arrive(Arrival("prepared", "s", "p", "nice", {}))
    journal.arrive(Arrival("committed", "s", "p", "nice", {}, Arriving.COMMITTED))
    journal.arrive(Arrival("without files there", "s", "p", "nice", {}))
    kept = [aged("runs"), aged("old"), files.directory("fresh"), aged("committed"), files.directory("new, and not recorded yet")]
    gone = [aged("prepared"), aged("of nobody")]
    expiring.once()
    assert given_up == ["old"]
    assert [path.is_dir() for path in kept] == [True] * 5
    assert [path.is_dir() for path in gone] == [False] * 2
    assert {each.id for each in journal.arrivals()} == {"committed", "without files there"}
    now = expiry.EXPIRES_S + 1
    expiring.once()
    assert given_up == ["old", "old", "without files"]
    assert {each.id for each in journal.arrivals()} == {"committed"}
    journal.close()


def test_journals_of_a_gateway_that_ends_a_hand_off_in_the_background_are_not_continued_by_a_client(tmp_path):
    async def main() -> None:
        async with Cloud(tmp_path, "paris", "nice") as cloud:
            paris = cloud["paris"]
            paris.services.people = {"ours": ("p1", ("member",))}
            server = paris.services.add_server("web", "2026-01-01T00:00:00Z")
            paris.handoffs.journal.depart(Departure("h", server, "p1", "nice"))
            paris.handoffs._settling.begin("h", asyncio.Event().wait)
            target = f"/cloudlet/v1/servers/{server}/handoff"
            status, said, _ = await cloud.ask("paris", "POST", target, json={"site": "nice"}, headers={"X-Auth-Token": "ours"})
            assert (status, said["id"], said["running"]) == (202, "h", True)
            assert paris.handoffs._runs == {}

    asyncio.run(main())


def test_residue_of_a_stopped_server_does_not_wait_for_those_of_servers_that_run(monkeypatch):
    async def main() -> None:
        started: list[str] = []
        go_on = asyncio.Event()

        class Process:
            returncode = 0

            def __init__(self) -> None:
                self.wait = go_on.wait

            async def communicate(self, data: bytes) -> tuple[bytes, bytes]:
                started.append(json.loads(data)["name"])
                await go_on.wait()
                return b"{}", b""

        async def create(*_arguments: object, **_more: object) -> Process:
            return Process()

        monkeypatch.setattr(asyncio, "create_subprocess_exec", create)
        monkeypatch.setattr(worker, "_turns", asyncio.Semaphore(worker.MOST_AT_ONCE))
        monkeypatch.setattr(worker, "_stopped_turn", asyncio.Semaphore(1))
        running = [asyncio.create_task(worker.work({"name": f"live {number}"})) for number in range(4)]
        stopped = [asyncio.create_task(worker.work({"name": f"stopped {number}"}, stopped=True)) for number in range(2)]
        async with asyncio.timeout(5):
            while len(started) < worker.MOST_AT_ONCE + 1:
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert sorted(started) == ["live 0", "live 1", "stopped 0"]
        go_on.set()
        await asyncio.gather(*running, *stopped)
        assert len(started) == 6

    asyncio.run(main())
