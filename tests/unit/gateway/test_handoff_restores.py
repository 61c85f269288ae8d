"""A site that is restored from a back-up during or after a hand-off: its journal alone, or all of it, is as it was at an earlier step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from handoff_world import Killed, World

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Arrival, Arriving, Departure, Leaving


async def interrupted(at: int, side: str) -> tuple[World, list[dict[str, Any]]]:
    """Return a world whose gateways were killed after a step, and the back-ups of one site after each step until then."""
    copies: list[dict[str, Any]] = []
    world = World()

    def fault(number: int, _name: str, after: bool) -> None:
        if after:
            copies.append(world.back_up(side))
            if number == at:
                raise Killed

    world.fault = fault
    world.depart()
    copies.append(world.back_up(side))
    try:
        await world.outgoing.carry_out("h", "token")
        await asyncio.sleep(0)
    except Killed:
        pass
    copies.append(world.back_up(side))
    await world.kill()
    world.fault = lambda *_: None
    return world, copies


async def settled(world: World) -> None:
    for _ in range(30):
        await world.settle()
    await world.kill()


def length() -> int:
    async def main() -> int:
        world, _ = await interrupted(-1, "here")
        return len(world.steps)

    return asyncio.run(main())


def undecided(world: World) -> bool:
    """Return whether the source waits for an administrator, and says why."""
    return world.departure.state in {Leaving.COMMITTING, Leaving.STARTED} and "no record" in world.departure.reason


@pytest.mark.parametrize("side", ["here", "there"])
def test_journal_that_is_restored_alone_never_makes_two_servers(side):
    async def main(at: int) -> None:
        _, copies = await interrupted(at, side)
        for moment in range(0, len(copies), 2):
            world, again = await interrupted(at, side)
            world.restore(side, again[moment], whole=False)
            world.start()
            await settled(world)  # each step checks that the server runs once at most
            where = (at, moment, world.steps, world.departure)
            assert len(world.runs) == 1 or undecided(world) or world.departure.state is Leaving.COPYING, where
            if world.departure.state is Leaving.DONE:
                assert world.runs == ["there"], where

    for at in range(0, length() + 1, 2):
        asyncio.run(main(at))


def test_destination_without_a_record_says_that_it_has_the_server():
    last = length() - 4

    async def main() -> None:
        world, copies = await interrupted(last, "there")
        assert world.there == "runs"
        world.here = "stopped"
        world.journal_here.depart(Departure("h", "s", "p", "there", Leaving.COMMITTING))
        world.restore("there", copies[0], whole=False)
        world.was_taken = False  # Nova's cache of images was cleaned
        world.start()
        await settled(world)
        assert (world.departure.state, world.here) == (Leaving.COMMITTING, "stopped")
        assert "no record of the hand-off, as after a restore: an administrator must delete one of both" in world.departure.reason

    asyncio.run(main())


@pytest.mark.parametrize("state", [Leaving.FENCING, Leaving.FENCED, Leaving.RETURNING])
def test_source_that_is_restored_whole_to_a_stopped_server_does_not_start_it(state):
    async def main() -> None:
        world = World()
        world.depart()
        await world.outgoing.carry_out("h", "token")
        assert (world.here, world.there) == ("gone", "runs")
        world.restore("here", {"records": ([Departure("h", "s", "p", "there", state)], []), "server": "stopped"}, whole=True)
        world.start()
        await settled(world)
        assert world.runs == ["there"], world.steps
        assert (world.departure.state, world.here) == (Leaving.DONE, "gone")

    asyncio.run(main())


def test_source_that_is_cut_off_waits_before_it_starts_the_server_of_a_journal():
    async def main() -> None:
        world = World()
        world.journal_here.depart(Departure("h", "s", "p", "there", Leaving.FENCED))
        world.here, world.cut = "stopped", True
        await settled(world)
        assert (world.departure.state, world.here) == (Leaving.FENCED, "stopped")
        world.cut = False
        await settled(world)
        assert (world.departure.state, world.here) == (Leaving.COPYING, "runs")

    asyncio.run(main())


def test_source_keeps_the_only_server_when_the_destination_was_restored_whole():
    async def main() -> None:
        world = World()
        world.journal_here.depart(Departure("h", "s", "p", "there", Leaving.STARTED))
        world.here = "stopped"
        await settled(world)
        assert (world.departure.state, world.runs) == (Leaving.FAILED, ["here"])
        assert world.departure.reason == "there had started the server, and has it no more"

    asyncio.run(main())


def test_server_that_is_here_already_is_not_taken_again():
    async def main() -> None:
        world = World()
        world.here, world.there = "stopped", "runs"
        with pytest.raises(HandoffRefused, match="at this site already, and would be there twice"):
            await world.incoming.prepare(Arrival("h", "s", "p", "here", {}), "token")
        world.there = ""
        world.journal_there.arrive(Arrival("other", "s", "p", "third", {}, Arriving.COMMITTED))
        with pytest.raises(HandoffRefused, match="arriving at this site by another hand-off"):
            await world.incoming.prepare(Arrival("h", "s", "p", "here", {}), "token")

    asyncio.run(main())


def test_new_hand_off_of_a_server_replaces_one_that_the_source_has_given_up():
    async def main() -> None:
        world = World()
        await world.incoming.prepare(Arrival("old", "s", "p", "here", {}), "token")
        await world.incoming.prepare(Arrival("of another", "t", "p", "here", {}), "token")
        await world.incoming.prepare(Arrival("new", "s", "p", "here", {}), "token")
        assert [each.id for each in world.journal_there.arrivals()] == ["of another", "new"]

    asyncio.run(main())


def test_copy_that_the_destination_has_started_already_is_not_told_to_be_here_alone():
    async def main() -> None:
        world = World()
        world.depart()
        world.here, world.there = "gone", "runs"
        world.journal_there.arrive(Arrival("h", world.departure.server, "project", "here", {}, Arriving.STARTED))
        await world.outgoing.expire("h")
        assert world.departure.state is Leaving.FAILED
        assert world.departure.reason.startswith("there has started the server by this hand-off already")
        assert len(world.journal_there.arrivals()) == 1

    asyncio.run(main())
