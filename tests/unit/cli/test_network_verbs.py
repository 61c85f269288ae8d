import json
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from atoll.cli import wan as verbs
from atoll.cli.wan import compare, parse_changes, right
from atoll.errors import AtollError
from atoll.wan.client import Wan
from atoll.wan.probe import Echo

CLOUD = """
sites: [{name: paris}, {name: lyon}]
topology: {links: [{between: [paris, lyon], delay: 5ms, rate: 1gbit}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "c.yaml").write_text(CLOUD, encoding="utf-8")
    return str(tmp_path / "c.yaml")


class FakeWan(Wan):
    """A double of the WAN's client with fixed answers."""

    def __init__(self, asked: list[dict[str, object]], rtts: list[float | None]) -> None:
        self._asked, self._rtts = asked, rtts

    def describe(self):
        wire = {"delay_ms": 5.0, "jitter_ms": 0.0, "rate_mbit": None, "loss": 0.0, "reorder": 0.0}
        return {
            "emulator": "userspace", "reason": "this kernel has no netem, or no veth pairs", "pid": 1, "rootless": True, "rerouting": False,
            "addresses": {"paris": "10.77.0.1", "lyon": "10.77.1.1"}, "cuts": ["paris:lyon"],
            "wires": [{"from": "paris", "to": "lyon", "up": False, **wire}, {"from": "lyon", "to": "paris", "up": False, **wire}],
            "asked": self._asked,
        }  # fmt: skip

    def probe(self, pairs, count=5, interval_s=0.1, patience_s=2.0):
        return {pair: [Echo(0.0, rtt) for rtt in self._rtts] for pair in pairs}

    def counters(self):
        return {"paris:lyon": {"packets_in": 9, "bytes_in": 90, "packets_out": 8, "bytes_out": 80, "lost": 1, "overflowed": 0, "cut": 0}}


@pytest.fixture
def wan(monkeypatch):
    """Return a function that installs a WAN with given measured and expected round trips."""

    def wan_(asked: float | None = 10.0, rtts: tuple[float | None, ...] = (10.2, 10.3, None)) -> FakeWan:
        fake = FakeWan([{"from": "paris", "to": "lyon", "rtt_ms": asked, "jitter_ms": 0.0}], list(rtts))
        monkeypatch.setattr(verbs, "_wan", lambda _session: fake)
        return fake

    return wan_


def test_topology_show(atoll, file):
    ran = atoll("topology", "show", file)
    assert ran.code == 0
    assert "● paris" in ran.out
    assert "paris:lyon  5ms, 1gbit  the same" in ran.out
    assert "10.0" in ran.out


def test_topology_show_as_json_and_picture(atoll, file, tmp_path):
    found = json.loads(atoll("topology", "show", file, "--json").out)
    assert found["rtt_ms"]["lyon"]["paris"] == 10
    assert atoll("topology", "show", file, "--svg", str(tmp_path / "x.svg")).code == 0
    ElementTree.parse(tmp_path / "x.svg")


def test_topology_show_without_one(atoll, cloud):
    ran = atoll("topology", "show")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: atoll has no topology\nhint: ")


def test_no_wan_runs(atoll):
    for words in (["show"], ["cut", "paris"], ["heal"], ["top", "--once"], ["test"], ["ping", "a", "b"], ["set", "a:b", "delay=1ms"]):
        ran = atoll("wan", *words)
        assert ran.code == 1
        assert ran.err.startswith("error: no WAN runs for ")


def test_wan_show(atoll, wan):
    wan()
    out = atoll("wan", "show").out
    assert out.startswith("emulator: userspace (this kernel has no netem, or no veth pairs), in a user namespace, pid 1\n")
    assert [line.split() for line in out.splitlines()[-1:]] == [["paris", "lyon", "5ms", "cut"]]


def test_wan_test_tells_what_is_wrong(atoll, wan):
    wan()
    assert atoll("wan", "test").code == 0
    wan(rtts=(12.0,))
    ran = atoll("wan", "test")
    assert (ran.code, "WRONG" in ran.out) == (1, True)


def test_wan_ping(atoll, wan):
    wan()
    ran = atoll("wan", "ping", "paris", "lyon", "--count", "3")
    assert (ran.code, ran.out.splitlines()) == (0, ["10.20 ms", "10.30 ms", "lost", "2 of 3 packets came back, median round trip 10.25 ms"])
    wan(rtts=(None,))
    assert atoll("wan", "ping", "paris", "lyon", "--count", "1").code == 1


def test_wan_top_once(atoll, wan):
    wan()
    assert "paris > lyon" in atoll("wan", "top", "--once").out
    assert json.loads(atoll("wan", "top", "--once", "--json").out)["paris:lyon"]["lost"] == 1


def test_compare_takes_the_quickest(wan):
    assert compare(wan(rtts=(11.0, 99.0, 10.4)), 3) == [
        {"from": "paris", "to": "lyon", "asked_ms": 10.0, "measured_ms": 10.4, "lost": 0, "ok": True}
    ]


@pytest.mark.parametrize(
    ("asked", "measured", "jitter", "fine"),
    [(0, 0.9, 0, True), (0, 1.1, 0, False), (300, 305, 0, True), (300, 307, 0, False), (10, 14, 4, True), (None, None, 0, True),
     (None, 5, 0, False), (5, None, 0, False)],
)  # fmt: skip
def test_right(asked, measured, jitter, fine):
    assert right(asked, measured, jitter) is fine


def test_changes():
    words = ["delay=80ms", "rate=unlimited", "loss=1%"]
    assert parse_changes(words) == {"delay_ms": 80, "rate_mbit": None, "loss": 0.01}


@pytest.mark.parametrize("word", ["delay", "dely=5ms", "delay=5", "delay=-1ms", "loss=2", "=", "rate="])
def test_changes_that_make_no_sense(word):
    with pytest.raises(click.UsageError, match="expected"):
        parse_changes([word])


def test_usage_error_is_one_line(atoll):
    ran = atoll("wan", "set", "a:b", "delay=soon")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: delay=soon: expected a duration from 0 to 60s, such as 25ms")


def test_wan_not_running_is_an_expected_error(tmp_path):
    with pytest.raises(AtollError):
        compare(Wan(tmp_path), 1)
