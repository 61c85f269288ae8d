"""The field: a city's bins and trucks with their broker and planner, all of which work with the WAN cut.

The program tells what happens in lines of JSON on its standard output, each with a `step`, and waits at `evening` for a line on its
standard input, until the operator has done his part.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from aiomqtt import Client

from use_cases import broker
from use_cases.broker import HOST
from use_cases.lines import ask, tell
from use_cases.messages import Message, decode, encode
from use_cases.service import started
from use_cases.waste.city import BINS, READINGS, Levels, bins
from use_cases.waste.planner import ROUND_AT
from use_cases.waste.routes import Stop, plan

DAYS = 14
FIXED_EVERY_DAYS = 2
"""Days between the rounds of a fixed schedule, which visits every bin."""
PATIENCE_S = 900
"""Seconds to wait for a plan, before the program fails."""

_SLOTS_BEFORE = round(ROUND_AT * READINGS)


class City:
    """The bins' sensors and the trucks, and their one connection to the broker."""

    def __init__(self, client: Client, seed: int) -> None:
        self._client, self._levels = client, Levels(seed)
        self._news = aiter(client.messages)
        self._expected: dict[str, float] = {}

    async def day(self, day: int) -> None:
        """Let a day pass, with its round."""
        await self._pass(day, range(_SLOTS_BEFORE))
        before = self._levels.now.copy()
        begun = time.perf_counter()
        await self._client.publish("waste/round", encode({"day": day}), qos=1)
        found = await self._next("waste/plan")
        seconds = time.perf_counter() - begun
        visited = {name for route in found["routes"] for name in route}
        self._levels.empty(visited)
        await self._client.publish("waste/emptied", encode({"day": day + ROUND_AT, "bins": sorted(visited)}), qos=1)
        over = self._levels.over
        await self._pass(day, range(_SLOTS_BEFORE, READINGS))
        levels = dict(zip((each.name for each in self._levels.bins), np.round(before, 3).tolist(), strict=True))
        told = {"routes": found["routes"], "metres": found["metres"], "left": found["left"], "levels": levels}
        tell("day", day=day, seconds=round(seconds, 3), error=self._error(levels), over=over, **told)
        self._expected = found["next"]

    def full(self) -> int:
        """Return the number of readings so far at which a bin was full."""
        return self._levels.over

    def _error(self, levels: dict[str, float]) -> float | None:
        """Return the mean error of what was expected a day ago; `None` on the first day."""
        errors = [abs(levels[name] - level) for name, level in self._expected.items()]
        return round(float(np.mean(errors)), 4) if errors else None

    async def _pass(self, day: int, slots: range) -> None:
        for slot in slots:
            sent = [each for each in self._levels.fill(day * READINGS + slot) if each]
            at = round(day + (slot + 1) / READINGS, 4)
            await asyncio.gather(
                *(self._client.publish(f"waste/bin/{each.name}", encode({"day": at, "level": level}), qos=1) for each, level in sent)
            )

    async def _next(self, topic: str) -> Message:
        async with asyncio.timeout(PATIENCE_S):
            while (arrived := await anext(self._news)).topic.value != topic:
                pass
        return decode(bytes(arrived.payload))

    async def ready(self) -> None:
        """Wait until the planner listens."""
        await self._next("waste/ready")


def fixed(seed: int, days: int) -> tuple[int, int, int]:
    """Return metres, visits and full readings of a fixed schedule for the same city and the same waste."""
    levels, city = Levels(seed), bins(seed)
    everything = plan([Stop(each.name, each.at, each.litres * 2 // 3, 1.0) for each in city], seed)
    metres = visits = 0
    for day in range(days):
        for slot in range(READINGS):
            levels.fill(day * READINGS + slot)
            if slot == _SLOTS_BEFORE - 1 and day % FIXED_EVERY_DAYS == 0:
                levels.empty({each.name for each in city})
                metres, visits = metres + everything.metres, visits + BINS
    return metres, visits, levels.over


@asynccontextmanager
async def _edge(seed: int) -> AsyncIterator[Client]:
    """Run the broker and the planner, and yield the city's client."""
    async with (
        broker.running() as port,
        started("use_cases.waste.planner", str(port), str(seed)),
        Client(HOST, port, identifier="city") as client,
    ):
        client.pending_calls_threshold = BINS  # all bins send at once: do not warn
        await client.subscribe([("waste/ready", 1), ("waste/plan", 1)])
        yield client


async def run(seed: int, days: int = DAYS) -> None:
    """Play the scenario of a seed to its end."""
    await ask("evening")
    async with _edge(seed) as client:
        city = City(client, seed)
        await city.ready()
        for day in range(days):
            await city.day(day)
        metres, visits, over = await asyncio.to_thread(fixed, seed, days)
        tell("done", over=city.full(), fixed={"metres": metres, "visits": visits, "over": over, "every": FIXED_EVERY_DAYS})


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), int(sys.argv[2])))
