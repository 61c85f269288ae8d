"""The service at the edge: from weather to the danger of the day, and from cameras' events to alarms and evacuation polygons.

    topic in                fields
    fire/weather/STATION    day, month, temperature, humidity, wind, wind_from, rain
    fire/camera/NAME        event, x, y, confidence

    topic out               fields
    fire/ready              (retained) seed
    fire/danger             day, fwi, class, high and the codes
    fire/alarm              event, camera, x, y, nearest
    fire/evacuation         event, polygon, area_ha, places, minutes, members

An alarm needs no calculation and is sent at once. The polygon is calculated in a process of its own, so that further alarms don't wait for
it. The service needs the broker and nothing else: no cloud, and no network beyond its machine.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field

from aiomqtt import Client
from aiomqtt import Message as Arrived

from use_cases import service
from use_cases.broker import HOST
from use_cases.fire import evacuation
from use_cases.fire.detection import Fires
from use_cases.fire.index import Danger, Noon, next_day
from use_cases.fire.landscape import Point, landscape, nearest
from use_cases.messages import Malformed, Message, decode, encode

QUICK_MEMBERS = 30
"""Members of the ensemble from which the polygon is made."""
QUICK_MINUTES = 90
"""Minutes of fire that the polygon covers."""


@dataclass
class Watch:
    """What the service knows.

    Attributes:
        seed: the seed of the landscape.
        danger: the danger of the newest day.
        wind: the newest speed of the wind in km/h.
        wind_from: the direction from which it blows, in degrees.
        fires: the fires that had an alarm.
    """

    seed: int
    danger: Danger = field(default_factory=Danger)
    wind: float = 10.0
    wind_from: float = 270.0
    fires: Fires = field(default_factory=Fires)

    def weather(self, message: Message) -> Message:
        """Take the weather of a day, and return the message about its danger."""
        noon = Noon(int(message["month"]), *(float(message[name]) for name in ("temperature", "humidity", "wind", "rain")))
        self.danger = next_day(self.danger, noon)
        self.wind, self.wind_from = noon.wind, float(message["wind_from"])
        codes = {name: round(value, 1) for name, value in asdict(self.danger).items()}
        return {"day": message["day"], **codes, "class": self.danger.named, "high": self.danger.high}

    def alarm(self, message: Message, camera: str) -> Message | None:
        """Take a camera's event, and return the alarm if it is a new fire."""
        at = (float(message["x"]), float(message["y"]))
        if not self.fires.is_new(at, float(message["confidence"])):
            return None
        village = nearest(landscape(self.seed).villages, at).name
        return {"event": message["event"], "camera": camera, "x": at[0], "y": at[1], "nearest": village}

    def air(self) -> tuple[float, float, float]:
        """Return wind, its direction and the moisture of fine fuel, as `Air` takes them."""
        return self.wind, self.wind_from, self.danger.fine_fuel_moisture


def zone(seed: int, air: tuple[float, float, float], ignition: Point, minutes: int, count: int) -> Message:
    """Calculate where to evacuate, without the field `event`."""
    from use_cases.fire.spread import Air, Ensemble, burn_probability  # noqa: PLC0415 # only the calculating process needs a second for it

    land = landscape(seed)
    probability = burn_probability(land, Air(*air), ignition, Ensemble(minutes, count, seed))
    outline = evacuation.polygon(probability, ignition)
    places = evacuation.inside(outline, land.villages)
    return {"polygon": outline, "area_ha": round(evacuation.area_ha(outline)), "places": places, "minutes": minutes, "members": count}


async def serve(port: int, seed: int) -> None:
    """Serve until cancelled. Messages that are malformed are named on standard error, and ignored."""
    watch = Watch(seed)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as calculator:
        loop = asyncio.get_running_loop()
        first = landscape(seed).villages[0].at
        await loop.run_in_executor(calculator, zone, seed, watch.air(), first, 1, 1)  # import and compile before the first fire
        async with Client(HOST, port, identifier="watch") as client, asyncio.TaskGroup() as tasks:
            await client.subscribe([("fire/weather/+", 1), ("fire/camera/+", 1)])
            await client.publish("fire/ready", encode({"seed": seed}), qos=1, retain=True)

            async def evacuate(alarm: Message) -> None:
                ignition = (alarm["x"], alarm["y"])
                found = await loop.run_in_executor(calculator, zone, seed, watch.air(), ignition, QUICK_MINUTES, QUICK_MEMBERS)
                await client.publish("fire/evacuation", encode({"event": alarm["event"], **found}), qos=1)

            async for arrived in client.messages:
                try:
                    topic, told = _answer(watch, arrived)
                except (Malformed, ValueError, TypeError) as error:
                    sys.stderr.write(f"ignored a message of {arrived.topic}: {error}\n")
                    continue
                if told is not None:
                    await client.publish(topic, encode(told), qos=1)
                    if topic == "fire/alarm":
                        tasks.create_task(evacuate(told))


def _answer(watch: Watch, arrived: Arrived) -> tuple[str, Message | None]:
    """Return the topic and the message that answer a message, or no message."""
    payload = bytes(arrived.payload) if isinstance(arrived.payload, bytes | bytearray) else b""
    source = arrived.topic.value.rsplit("/", 1)[1]
    if arrived.topic.matches("fire/weather/+"):
        return "fire/danger", watch.weather(decode(payload, "day", "month", "temperature", "humidity", "wind", "wind_from", "rain"))
    return "fire/alarm", watch.alarm(decode(payload, "event", "x", "y", "confidence"), source)


if __name__ == "__main__":
    service.run(serve(int(sys.argv[1]), int(sys.argv[2])))
