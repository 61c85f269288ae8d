"""The field: the devices near the fire with their broker and the service at the edge, all of which work with the WAN cut.

The program is started at the site of the fire. It tells what happens in lines of JSON on its standard output, each with a `step`, and waits
at three of them (`high`, `moved` and `analyse`) for a line on its standard input, until the operator has done his part.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiomqtt import Client

from use_cases import broker
from use_cases.broker import HOST
from use_cases.fire.index import Danger, next_day
from use_cases.fire.landscape import MASTS, Landscape, Point, landscape, nearest
from use_cases.fire.weather import Day, fortnight
from use_cases.lines import ask, tell
from use_cases.messages import Message, decode, encode
from use_cases.service import started

WAYPOINTS = 12
"""Positions that the crew sends on its way to the fire."""
PATIENCE_S = 900
"""Seconds to wait for an answer, before the program fails."""


def ignitions(land: Landscape) -> tuple[Point, Point]:
    """Return where two fires begin: west of the two easternmost villages, towards which the wind blows."""
    first, second = sorted(land.villages, key=lambda village: -village.at[0])[:2]
    return (first.at[0] - 1_300.0, first.at[1] - 200.0), (second.at[0] - 900.0, second.at[1] + 400.0)


def way(land: Landscape) -> list[Point]:
    """Return the positions of the crew, from the western mast to the first fire."""
    (x0, y0), (x1, y1) = MASTS[0].at, ignitions(land)[0]
    parts = [number / (WAYPOINTS - 1) for number in range(WAYPOINTS)]
    return [(round(x0 + (x1 - x0) * part), round(y0 + (y1 - y0) * part)) for part in parts]


class Field:
    """The devices: a weather station, three cameras, and the crew's receiver."""

    def __init__(self, client: Client, land: Landscape) -> None:
        self._client, self._land = client, land
        self._arrived: dict[tuple[str, Any], tuple[float, Message]] = {}
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        """Receive messages until cancelled, and note when each arrived."""
        async for arrived in self._client.messages:
            moment, topic = time.perf_counter(), arrived.topic.value
            message = decode(bytes(arrived.payload))
            async with self._news:
                self._arrived[topic, message.get("event", message.get("day"))] = (moment, message)
                self._news.notify_all()

    async def wait(self, topic: str, key: Any) -> tuple[float, Message]:
        """Return when a message arrived, and the message."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: (topic, key) in self._arrived)
        return self._arrived[topic, key]

    async def send(self, topic: str, message: Message) -> None:
        """Publish a message; the broker has it when this returns."""
        await self._client.publish(topic, encode(message), qos=1)

    async def season(self, days: list[Day]) -> Day:
        """Send the weather of each day, and ask for the analysis once the danger is high; return the last day."""
        asked = False
        for number, day in enumerate(days, 1):
            noon = day.noon
            weather = {"temperature": noon.temperature, "humidity": noon.humidity, "wind": noon.wind, "rain": noon.rain}
            await self.send("fire/weather/station-1", {"day": number, "month": noon.month, "wind_from": day.wind_from, **weather})
            _, danger = await self.wait("fire/danger", number)
            tell("danger", **danger, **{name: value for name, value in weather.items() if name not in danger})
            if danger["high"] and not asked:
                asked = True
                await ask("high", day=number)
        return days[-1]

    async def drive(self) -> None:
        """Send the crew's positions, and tell when its mast changes."""
        mast = MASTS[0]
        for x, y in way(self._land):
            await self.send("fire/crew/crew-1", {"x": x, "y": y})
            tell("crew", x=x, y=y)
            now = nearest(MASTS, (x, y))
            if now != mast:
                mast = now
                await ask("moved", mast=mast.name)

    async def fire(self, event: str, camera: str, at: Point) -> None:
        """Send a camera's event, and tell after how many seconds the crew had the alarm and the polygon."""
        begun = time.perf_counter()
        await self.send(f"fire/camera/{camera}", {"event": event, "x": at[0], "y": at[1], "confidence": 0.93})
        moment, alarm = await self.wait("fire/alarm", event)
        tell("alarm", seconds=round(moment - begun, 4), **alarm)
        moment, zone = await self.wait("fire/evacuation", event)
        tell("evacuation", seconds=round(moment - begun, 4), **zone)

    async def glimpse(self, event: str, camera: str, at: Point, confidence: float) -> None:
        """Send an event that causes no alarm: a fire that has one already, or smoke that the camera is not sure of."""
        await self.send(f"fire/camera/{camera}", {"event": event, "x": at[0], "y": at[1], "confidence": confidence})

    def alarms(self) -> list[Any]:
        """Return the events that had an alarm."""
        return sorted(event for topic, event in self._arrived if topic == "fire/alarm")


@asynccontextmanager
async def _edge(seed: int) -> AsyncIterator[Client]:
    """Run the broker and the service, and yield the devices' client when the service is ready."""
    async with (
        broker.running() as port,
        started("use_cases.fire.watch", str(port), str(seed)),
        Client(HOST, port, identifier="field") as client,
    ):
        topics = ("fire/ready", "fire/danger", "fire/alarm", "fire/evacuation")
        await client.subscribe([(topic, 1) for topic in topics])
        yield client


async def run(seed: int) -> None:
    """Play the scenario of a seed to its end."""
    land, days = landscape(seed), fortnight(seed)
    first, second = ignitions(land)
    async with _edge(seed) as client, asyncio.TaskGroup() as tasks:
        field = Field(client, land)
        listening = tasks.create_task(field.listen())
        await field.wait("fire/ready", None)
        tell("ready")
        last = await field.season(days)
        await field.drive()
        await field.fire("fire-1", "camera-1", first)
        await field.glimpse("fire-1-again", "camera-2", (first[0] + 250, first[1] - 100), 0.88)
        await field.glimpse("dust", "camera-3", (3_000.0, 3_000.0), 0.41)
        await field.fire("fire-2", "camera-2", second)
        danger = Danger()
        for day in days:
            danger = next_day(danger, day.noon)
        air = [last.noon.wind, last.wind_from, danger.fine_fuel_moisture]
        result = await ask("analyse", seed=seed, air=air, x=first[0], y=first[1])
        await field.send("fire/analysis", {"event": "fire-1", **result})
        tell("done", alarms=field.alarms())
        listening.cancel()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1])))
