"""The order of a hand-off's steps: with a crash or a lost message at every step, the server runs once in the end, and never twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from handoff_world import DISK, Killed, World
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Arrival, Leaving
from atoll.gateway.request.call import Unreachable


def run(world: World, trial: Callable[[World], object]) -> None:
    async def main() -> None:
        await trial(world)
        await world.kill()

    asyncio.run(main())


async def finish(world: World, *, again: bool = False) -> None:
    """Let the gateways settle what is open, without the user; then, or instead, let the user repeat the command."""
    for _ in range(40):
        await world.settle()
    if again and world.departure.state is Leaving.COPYING:
        await world.outgoing.carry_out("h", "token")


async def carry_out(world: World) -> None:
    """Carry out a hand-off, and start the gateways again if they are killed."""
    try:
        await world.outgoing.carry_out("h", "token")
    except Killed:
        await world.kill()
        world.start()


def test_server_is_handed_off():
    async def trial(world: World) -> None:
        world.depart()
        done = await world.outgoing.carry_out("h", "token")
        assert done.state is Leaving.DONE
        assert (world.here, world.there, world.arrived) == ("gone", "runs", set())
        assert world.journal_there.arrivals() == []

    run(World(), trial)


def steps() -> list[str]:
    """Return the steps of a hand-off without faults."""
    world = World()

    async def trial(world: World) -> None:
        world.depart()
        await world.outgoing.carry_out("h", "token")

    run(world, trial)
    return list(world.steps)


@pytest.mark.parametrize("again", [False, True], ids=["left alone", "repeated"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_each_step(after, again):
    names = steps()
    for at in range(len(names)):

        def fault(number: int, _name: str, now: bool, at: int = at) -> None:
            if (number, now) == (at, after):
                raise Killed

        async def trial(world: World, at: int = at) -> None:
            world.depart()
            await carry_out(world)
            await finish(world, again=again)
            where = (at, names[at], world.departure)
            assert len(world.runs) == 1, where
            assert world.departure.state in {Leaving.COPYING, Leaving.DONE, Leaving.FAILED}, where
            assert (world.departure.state is Leaving.DONE) == (world.runs == ["there"]), where
            assert not world.locked or world.here == "gone", where
            if again:
                assert world.departure.state in {Leaving.DONE, Leaving.FAILED}, where

        run(World(fault), trial)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_message_is_lost_at_each_step(after):
    """The gateways live on: the hand-off is carried out all the same."""
    names = steps()
    for at, name in enumerate(names):
        if not name.startswith(("ask", "answer")):
            continue

        def fault(number: int, _name: str, now: bool, at: int = at) -> None:
            if (number, now) == (at, after):
                raise Unreachable("there", "lost")

        async def trial(world: World) -> None:
            world.depart()
            done = await world.outgoing.carry_out("h", "token")
            assert (done.state, world.runs) == (Leaving.DONE, ["there"])

        run(World(fault), trial)


@settings(max_examples=300, deadline=None)
@given(
    kills=st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans()), max_size=5),
    outcome=st.sampled_from(("", "check", "create", "fails")),
)
def test_any_faults_leave_one_server(kills, outcome):
    plan = {(number, after): lost for number, after, lost in kills}

    def fault(number: int, name: str, now: bool) -> None:
        if (lost := plan.pop((number, now), None)) is not None:
            if lost and name.startswith(("ask", "answer")):
                raise Unreachable("there", "lost")
            raise Killed

    async def trial(world: World) -> None:
        world.refusal, world.fails = outcome, outcome == "fails"
        world.depart()
        for _ in range(8):
            try:
                await world.outgoing.carry_out("h", "token")
                for _ in range(30):
                    await world.settle()
            except Killed:
                await world.kill()
                world.start()
        assert len(world.runs) == 1, world.departure
        assert world.departure.state in {Leaving.DONE, Leaving.FAILED}, world.departure
        assert (world.departure.state is Leaving.DONE) == (world.runs == ["there"])
        assert not world.locked or world.here == "gone"

    run(World(fault), trial)


def test_refusal_before_the_server_was_stopped_stops_nothing():
    async def trial(world: World) -> None:
        world.refusal = "check"
        world.depart()
        done = await world.outgoing.carry_out("h", "token")
        assert (done.state, done.reason, world.here) == (Leaving.FAILED, "quota exceeded", "runs")
        assert "lock" not in world.steps

    run(World(), trial)


@pytest.mark.parametrize(("outcome", "reason"), [("create", "no valid host"), ("fails", "no disk")])
def test_server_that_cannot_start_there_returns(outcome, reason):
    async def trial(world: World) -> None:
        world.refusal, world.fails = outcome, outcome == "fails"
        world.depart()
        done = await world.outgoing.carry_out("h", "token")
        assert (done.state, done.reason) == (Leaving.FAILED, reason)
        assert (world.here, world.locked) == ("runs", False)
        assert world.there in {"", "gone"}

    run(World(), trial)


def test_committed_server_does_not_start_here_while_the_destination_is_cut_off():
    def fault(_number: int, name: str, now: bool) -> None:
        if (name, now) == ("answer commit", False):
            raise Killed

    async def trial(world: World) -> None:
        world.depart()
        await carry_out(world)
        world.cut = True
        for _ in range(20):
            await world.settle()
            assert (world.departure.state, world.here) == (Leaving.COMMITTING, "stopped")
        world.cut, world.fault = False, lambda *_: None
        await finish(world)
        assert (world.departure.state, world.runs) == (Leaving.DONE, ["there"])

    run(World(fault), trial)


def test_link_that_is_cut_during_the_last_copy_leaves_the_server_running_here():
    world, stops = World(), []

    def fault(number: int, name: str, now: bool) -> None:
        if name == "stop" and now and not stops:
            stops.append(number)
            world.cut = True
        elif name == "restart" and now:
            world.cut = False

    async def trial(world: World) -> None:
        world.fault = fault
        world.depart()
        done = await world.outgoing.carry_out("h", "token")
        assert world.steps.index("restart") < world.steps.index("delete here")
        assert (done.state, world.runs) == (Leaving.DONE, ["there"])

    run(world, trial)


def test_another_site_can_neither_commit_nor_revoke():
    async def trial(world: World) -> None:
        ours, evil = Arrival("h", "s", "p", "here", {}), Arrival("h", "s", "p", "evil", {})
        await world.incoming.prepare(ours, "token")
        for ask in (world.incoming.revoke, world.incoming.shown):
            with pytest.raises(HandoffRefused):
                await ask(evil)
        with pytest.raises(HandoffRefused):
            world.incoming.forget("h", "evil")
        with pytest.raises(HandoffRefused):
            await world.incoming.commit(evil, "d" * 64, "token")
        for other in (replace(ours, server="other"), replace(ours, project="other")):
            with pytest.raises(HandoffRefused, match="one of another server"):
                await world.incoming.prepare(other, "token")
            with pytest.raises(HandoffRefused, match="one of another server"):
                await world.incoming.revoke(other)
        assert world.journal_there.arrival("h").state == "prepared"

    run(World(), trial)


def test_disk_that_has_not_arrived_is_not_started():
    async def trial(world: World) -> None:
        asked = Arrival("h", "s", "p", "here", {})
        await world.incoming.prepare(asked, "token")
        found = await world.incoming.commit(asked, "e" * 64, "token")
        assert (found.state, found.reason) == ("refused", "the server's disk has not arrived")
        assert world.there == ""

    run(World(), trial)


def test_copy_that_nobody_continues_is_given_up_and_can_not_be_committed_later():
    async def trial(world: World) -> None:
        departure = world.depart()
        await world.incoming.prepare(Arrival("h", departure.server, "p", "here", {}), "token")
        world.arrived.add(DISK)
        world.incoming.expire(world.journal_there.arrival("h"))
        await world.outgoing.expire("h")
        assert (world.departure.state, world.here, world.arrived) == (Leaving.FAILED, "runs", set())
        with pytest.raises(HandoffRefused):
            await world.incoming.commit(Arrival("h", departure.server, "p", "here", {}), DISK, "token")

    run(World(), trial)
