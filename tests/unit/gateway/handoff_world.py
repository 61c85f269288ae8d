"""Two sites with Nova's servers and disks as plain values, a link that can be cut, and gateways that can be killed at every step.

Each effect of the real parts is a *step*: a gateway may be killed before it or after it, and a request to the other site may be lost before
or after it arrives. What has happened to a server stays; what a gateway knows beyond its journal is lost with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.incoming import Incoming, Look
from atoll.gateway.handoffs.journal import ENDED, Arrival, Arriving, Departure, Journal, Leaving
from atoll.gateway.handoffs.outgoing import Outgoing, Parts, PeerAnswer, Sent
from atoll.gateway.request.call import Unreachable

SERVER, PROJECT, DISK = "11111111-1111-4111-8111-111111111111", "project", "d" * 64


class Killed(BaseException):
    """A gateway was killed."""


class World:
    """The servers and disks of both sites, and the steps that were taken.

    Args:
        fault: called with the number and the name of each step, before (`False`) and after (`True`) its effect; may raise.
    """

    def __init__(self, fault: Callable[[int, str, bool], None] = lambda _number, _name, _after: None) -> None:
        self.fault = fault
        self.steps: list[str] = []
        self.here = "runs"  # or "stopped", "gone"
        self.there = ""  # or "building", "runs", "error", "gone"
        self.locked = False
        self.arrived: set[str] = set()
        self.offered = False
        self.was_taken = False
        self.refusal = ""
        self.fails = False
        self.cut = False
        self.journal_here, self.journal_there = Journal(), Journal()
        self.start()

    def start(self) -> None:
        """Start both gateways, which know only their journals."""
        self.incoming = Incoming(self.journal_there, self, self, self._sleep)
        self.outgoing = Outgoing(Parts(self.journal_here, Here(self), Link(self), Disk(self)), self._sleep, lambda: float(len(self.steps)))

    async def kill(self) -> None:
        """Kill both gateways; their journals stay."""
        await self.incoming.stop()

    def back_up(self, side: str) -> dict[str, Any]:
        """Return the state of a site (`here` or `there`) as a back-up has it: the journal, its server and its disks."""
        journal = self.journal_here if side == "here" else self.journal_there
        records = journal.departures(), journal.arrivals()
        return {"records": records, "server": getattr(self, side), "disks": (set(self.arrived), self.offered, self.was_taken)}

    def restore(self, side: str, copy: dict[str, Any], *, whole: bool) -> None:
        """Restore the journal of a site whose gateway was killed; with `whole` also its server and disks."""
        journal = Journal()
        for departure in copy["records"][0]:
            journal.depart(departure)
        for arrival in copy["records"][1]:
            journal.arrive(arrival)
        old = getattr(self, f"journal_{side}")
        setattr(self, f"journal_{side}", journal)
        old.close()
        if whole:
            setattr(self, side, copy["server"])
            if side == "there":
                arrived, self.offered, self.was_taken = copy["disks"]
                self.arrived = set(arrived)

    async def _sleep(self, _seconds: float) -> None:
        self.steps.append("sleep")
        await asyncio.sleep(0)

    async def step(self, name: str, effect: Callable[[], Any] = lambda: None) -> Any:
        """Take a step, in which a fault may occur; then check that the server runs once at most."""
        number = len(self.steps)
        self.steps.append(name)
        self.fault(number, name, False)
        done = effect()
        assert (self.here == "runs") + (self.there == "runs") <= 1, f"the server runs twice after {self.steps}"
        self.fault(number, name, True)
        return done

    @property
    def runs(self) -> list[str]:
        return [site for site, state in (("here", self.here), ("there", self.there)) if state == "runs"]

    # Nova and the disks at the destination

    async def check(self, _wish: Any, _project: str, _token: str) -> None:
        await self.step("check")
        if self.refusal == "check":
            raise HandoffRefused("quota exceeded")

    async def create(self, _arrival: Arrival, _token: str) -> None:
        def made() -> None:
            if self.there in {"", "gone"}:
                self.there = "building"

        if self.refusal == "create":
            raise HandoffRefused("no valid host")
        await self.step("create", made)

    async def look(self, _arrival: Arrival) -> tuple[Look, dict[str, Any]]:
        self._build()
        await self.step("look")
        states = {"": Look.MISSING, "gone": Look.MISSING, "building": Look.BUILDING, "runs": Look.RUNS, "error": Look.ERROR}
        return states[self.there], {"reason": "no disk"} if self.there == "error" else {"addresses": []}

    def _build(self) -> None:
        """Have nova-compute take the disk, and start the server if it gets it."""
        if self.there == "building":
            self.there = "runs" if self.offered and not self.fails else "error"
            self.was_taken, self.offered = self.was_taken or self.offered, False
            assert len(self.runs) <= 1

    async def delete(self, _arrival: Arrival) -> None:
        await self.step("delete there", lambda: setattr(self, "there", "gone"))

    async def finish(self, _arrival: Arrival) -> None:
        await self.step("finish")

    def has(self, _arrival: Arrival, disk: str) -> bool:
        return disk in self.arrived

    def offer(self, _arrival: Arrival, disk: str) -> None:
        if disk in self.arrived:
            self.arrived.discard(disk)
            self.offered = True

    def taken(self, _arrival: Arrival) -> bool:
        return self.was_taken

    def withdraw(self, _arrival: Arrival) -> None:
        self.offered = False

    def drop(self, _arrival: Arrival) -> None:
        self.arrived.clear()

    # A hand-off

    def depart(self) -> Departure:
        departure = Departure("h", SERVER, PROJECT, "there")
        self.journal_here.depart(departure)
        return departure

    @property
    def departure(self) -> Departure:
        return self.journal_here.departure("h")

    async def settle(self) -> None:
        """Settle both sides once, as their gateways do in the background."""
        if self.departure.state not in {*ENDED, Leaving.COPYING}:
            with suppress(Unreachable):
                await self.outgoing.settle("h")
        for arrival in self.incoming.unsettled():
            with suppress(Unreachable):
                await self.incoming.settle(arrival)


class Here:
    """The server at the source."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def fence(self, _departure: Departure) -> None:
        def stopped() -> None:
            if self.world.here == "runs":
                self.world.here = "stopped"

        await self.world.step("lock", lambda: setattr(self.world, "locked", True))
        await self.world.step("stop", stopped)

    async def restart(self, _departure: Departure) -> None:
        def started() -> None:
            if self.world.here == "stopped":
                self.world.here = "runs"

        await self.world.step("restart", started)
        await self.world.step("unlock", lambda: setattr(self.world, "locked", False))

    async def delete(self, _departure: Departure) -> None:
        await self.world.step("delete here", lambda: setattr(self.world, "here", "gone"))

    async def exists(self, _departure: Departure) -> bool:
        return self.world.here != "gone"


class Disk:
    """The transfer of the disk."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def send(self, departure: Departure, *, live: bool) -> Sent:
        disk = "a" * 64 if live else DISK
        arrival = self.world.journal_there.arrival(departure.id)
        if self.world.cut:
            raise Unreachable("there", "cut")
        if arrival is None or arrival.state != "prepared":
            raise HandoffRefused("no record")
        await self.world.step("send", lambda: self.world.arrived.add(disk))
        return Sent(1, disk)

    async def drop(self, _departure: Departure) -> None:
        await self.world.step("drop")


class Link:
    """The requests to the destination, of which any may be lost on its way or on its way back."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def _carried(self, name: str, attempt: Callable[[], Awaitable[Any]]) -> Any:
        if self.world.cut:
            raise Unreachable("there", "cut")
        await self.world.step(f"ask {name}")
        done = await attempt()
        await self.world.step(f"answer {name}")
        return done

    @staticmethod
    def _asked(departure: Departure) -> Arrival:
        return Arrival(departure.id, departure.server, departure.project, "here", {})

    async def prepare(self, departure: Departure, token: str) -> None:
        await self._carried("prepare", lambda: self.world.incoming.prepare(self._asked(departure), token))

    async def _answered(self, name: str, ask: Callable[[], Awaitable[Arrival | None]]) -> PeerAnswer:
        """Return the destination's answer as `PeerClient` and `PeerApi` do."""

        async def answered() -> PeerAnswer:
            try:
                found = await ask()
            except HandoffRefused as refused:
                if refused.status != 404:
                    raise Unreachable("there", str(refused)) from refused
                return PeerAnswer(Arriving.REFUSED, str(refused))
            return PeerAnswer(Arriving.REFUSED, "no record") if found is None else PeerAnswer(found.state, found.reason, dict(found.result))

        return await self._carried(name, answered)

    async def commit(self, departure: Departure, token: str) -> PeerAnswer:
        return await self._answered("commit", lambda: self.world.incoming.commit(self._asked(departure), departure.disk, token))

    async def revoke(self, departure: Departure) -> PeerAnswer:
        return await self._answered("revoke", lambda: self.world.incoming.revoke(self._asked(departure)))

    async def shown(self, departure: Departure) -> PeerAnswer:
        return await self._answered("shown", lambda: self.world.incoming.shown(self._asked(departure)))

    async def forget(self, departure: Departure) -> None:
        async def forgotten() -> None:
            self.world.incoming.forget(departure.id, "here")

        await self._carried("forget", forgotten)
