"""The planner: from fill levels over MQTT to the routes of the next morning.

    topic in                fields
    waste/bin/NAME          day (with its fraction), level
    waste/emptied           day (with its fraction), bins
    waste/round             day: a request for the routes of this day

    topic out               fields
    waste/ready             (retained) seed
    waste/plan              day, routes, metres, left, next (the level of each bin that is expected at the next round)

The planner knows where the bins are and how large they are, but not how full: this comes by radio, and a part of it is lost. It needs the
broker and nothing else.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from aiomqtt import Client
from aiomqtt import Message as Arrived

from use_cases import service
from use_cases.broker import HOST
from use_cases.messages import Malformed, Message, decode, encode
from use_cases.waste.city import Bin, bins
from use_cases.waste.forecast import Forecast
from use_cases.waste.routes import Stop, plan

ROUND_AT = 1 / 3
"""Time of the round as a part of the day: eight o'clock."""
BETWEEN_DAYS = 1.0
"""Days from a round to the next one, until which a bin must last."""


class Planner:
    """The forecasts of all bins."""

    def __init__(self, city: list[Bin], seed: int) -> None:
        self._city, self._seed = {each.name: each for each in city}, seed
        self._forecasts = {name: Forecast() for name in self._city}

    def observe(self, name: str, message: Message) -> None:
        """Take a reading of a bin; a bin that is not of this city is an error."""
        if name not in self._forecasts:
            raise Malformed(f"there is no bin {name}")
        self._forecasts[name].observe(float(message["day"]), float(message["level"]))

    def emptied(self, message: Message) -> None:
        """Take a truck's report that bins are empty."""
        for name in message["bins"]:
            if name in self._forecasts:
                self._forecasts[name].observe(float(message["day"]), 0.0)

    def plan(self, day: int) -> Message:
        """Return the message with the routes of a day's round."""
        now = day + ROUND_AT
        stops, after = [], {}
        for name, forecast in self._forecasts.items():
            each = self._city[name]
            stops.append(Stop(name, each.at, round(min(forecast.expected(now), 1.3) * each.litres), forecast.risk(now + BETWEEN_DAYS)))
            after[name] = forecast.expected(now + BETWEEN_DAYS)
        found = plan(stops, self._seed)
        after |= {name: self._forecasts[name].rate * BETWEEN_DAYS for route in found.routes for name in route}
        return {"day": day, "next": {name: round(level, 3) for name, level in after.items()}, **asdict(found)}


async def serve(port: int, seed: int) -> None:
    """Serve until cancelled. Messages that are malformed are named on standard error, and ignored."""
    planner = Planner(bins(seed), seed)
    async with Client(HOST, port, identifier="planner") as client:
        await client.subscribe([("waste/bin/+", 1), ("waste/emptied", 1), ("waste/round", 1)])
        await client.publish("waste/ready", encode({"seed": seed}), qos=1, retain=True)
        async for arrived in client.messages:
            try:
                told = _answer(planner, arrived)
            except (Malformed, ValueError, TypeError) as error:
                sys.stderr.write(f"ignored a message of {arrived.topic}: {error}\n")
                continue
            if told is not None:
                await client.publish("waste/plan", encode(told), qos=1)


def _answer(planner: Planner, arrived: Arrived) -> Message | None:
    """Return the plan that answers a message, or no message."""
    payload = bytes(arrived.payload) if isinstance(arrived.payload, bytes | bytearray) else b""
    if arrived.topic.matches("waste/bin/+"):
        planner.observe(arrived.topic.value.rsplit("/", 1)[1], decode(payload, "day", "level"))
        return None
    if arrived.topic.matches("waste/emptied"):
        planner.emptied(decode(payload, "day", "bins"))
        return None
    return planner.plan(int(decode(payload, "day")["day"]))


if __name__ == "__main__":
    service.run(serve(int(sys.argv[1]), int(sys.argv[2])))
