"""The forest fire as a user runs it, without a cloud: its latency class, its page, and its service at the edge."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import pytest
from aiomqtt import Client

from use_cases import broker
from use_cases.broker import HOST
from use_cases.cloud import NoCloud
from use_cases.fire.field import ignitions
from use_cases.fire.landscape import landscape
from use_cases.fire.report import ALARM_S, EVACUATION_S, Record
from use_cases.messages import encode


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the scenario once; return its output and its page."""
    file = tmp_path_factory.mktemp("fire") / "page.html"
    command = [sys.executable, "-m", "use_cases.fire", "--without-cloud", "--page", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, file.read_text(encoding="utf-8")


@pytest.mark.timeout(1800)
def test_alarm_in_a_second_and_polygon_in_five_with_the_wan_cut(run):
    output, _ = run
    alarms = [float(each) for each in re.findall(r"alarm after ([\d.]+) s", output)]
    zones = [float(each) for each in re.findall(r"to evacuate after ([\d.]+) s", output)]
    assert len(alarms) == len(zones) == 2, output
    assert max(alarms) < ALARM_S == 1
    assert max(zones) < EVACUATION_S == 5
    if NoCloud().inside("east"):
        assert "the programs' network has no interface but its loopback" in output


def test_the_analysis_is_asked_for_when_the_danger_is_high(run):
    lines = run[0].splitlines()
    asked = lines.index("the danger is high: the analysis is needed")
    days = [re.fullmatch(r"day \d+: Fire Weather Index ([\d.]+), (.*)", line) for line in lines]
    before = [match[2] for match in days[:asked] if match]
    assert set(before[:-1]) <= {"low", "moderate"}
    assert before[-1] in {"high", "very high", "extreme"}
    assert float(next(match[1] for match in days[:asked][::-1] if match)) >= 21.3


def test_page_loads_nothing(run):
    page = run[1]
    assert re.findall(r"(?:src|href)=\"([^\"]*)", page) == ["data:,"]
    assert "http" not in page
    assert "<script" not in page
    assert page.count("stroke-dasharray") == 2
    assert "Without a cloud" in page


def test_late_messages_are_named():
    record = Record(
        1, "", "", alarms=[{"event": "a", "seconds": 1.0}, {"event": "b", "seconds": 0.9}], zones=[{"event": "a", "seconds": 5.5}]
    )
    assert record.late() == ["the alarm of a took 1.0 s: at most 1 s", "the polygon of a took 5.5 s: at most 5 s"]


@pytest.mark.timeout(1800)
def test_many_events_at_once_do_not_delay_an_alarm():
    """Malformed messages are ignored, and an alarm does not wait for the polygon of another fire."""
    arrived: list[str] = []

    async def play() -> None:
        async with broker.running() as port:
            service = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "use_cases.fire.watch", str(port), "7", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            try:
                async with Client(HOST, port) as client:
                    await client.subscribe([("fire/ready", 1), ("fire/alarm", 1), ("fire/evacuation", 1)])
                    messages = aiter(client.messages)
                    assert (await anext(messages)).topic.value == "fire/ready"
                    for bad in (b"{", b"[]", encode({"event": "x"}), encode({"event": "x", "x": "far", "y": 0, "confidence": 1})):
                        await client.publish("fire/camera/camera-1", bad, qos=1)
                    for number, (x, y) in enumerate(ignitions(landscape(7))):
                        event = {"event": number, "x": x, "y": y, "confidence": 0.9}
                        await client.publish("fire/camera/camera-1", encode(event), qos=1)
                    while len(arrived) < 4:
                        message = await anext(messages)
                        arrived.append(f"{message.topic} {json.loads(bytes(message.payload))['event']}")
            finally:
                service.stdin.close()  # ends the service, and its calculator
                errors = (await service.communicate())[1].decode()
        assert service.returncode == 0
        assert errors.count("ignored a message of fire/camera/camera-1") == 4, errors

    asyncio.run(play())
    assert arrived[:2] == ["fire/alarm 0", "fire/alarm 1"]
    assert sorted(arrived[2:]) == ["fire/evacuation 0", "fire/evacuation 1"]
