"""`atoll bench hollow` with few members, and its parts."""

import asyncio
import json
import random
import time

import pytest
from click.testing import CliRunner

from atoll.bench.hollow import members as material
from atoll.bench.hollow.clock import FairLoop
from atoll.bench.hollow.experiment import HollowOptions, run
from atoll.bench.hollow.links import Network
from atoll.bench.workspace import Workspace
from atoll.cli import bench_hollow
from atoll.mesh import neighbours


def run_fairly(main) -> float:
    """Run a coroutine on a hurrying loop; return the seconds of the loop's clock that it took."""
    with asyncio.Runner(loop_factory=FairLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, FairLoop)
        loop.hurry(yes=True)
        begun = loop.time()
        runner.run(main)
        return loop.time() - begun


def test_waits_are_skipped_and_counted():
    begun = time.monotonic()
    assert 3599.9 < run_fairly(asyncio.sleep(3600)) < 3605  # the loop's clock has a resolution
    assert time.monotonic() - begun < 60


def test_waits_that_are_not_skipped_are_counted_as_well():
    with asyncio.Runner(loop_factory=FairLoop) as runner:
        begun = runner.get_loop().time()
        runner.run(asyncio.sleep(0.2))
        assert 0.2 <= runner.get_loop().time() - begun < 5


class Ends:
    """Two members with a link from the first to the second."""

    def __init__(self) -> None:
        self.network = Network(0.01)
        self.got: list[bytes] = []
        self.ups: list[bool] = []
        self.near = self.network.transport("near", None, self.got.append, lambda _name, up: self.ups.append(up), random.Random(1))
        self.far = self.network.transport("far", None, self.got.append, lambda _name, _up: None, random.Random(1))

    async def start(self) -> None:
        for each in (self.near, self.far):
            await each.start("", 0)
        self.near.connect("far", "", 0)


def test_a_link_carries_messages_unless_it_is_cut():
    async def main():
        ends = Ends()
        await ends.start()
        assert not ends.near.send("far", b"early")
        await asyncio.sleep(0.2)
        assert ends.near.linked("far")
        ends.near.send("far", b"one")
        await asyncio.sleep(0.1)
        ends.network.cut()
        ends.near.send("far", b"two")
        await asyncio.sleep(0.1)
        assert ends.got == [b"one"]
        ends.near.renew("far")
        assert not ends.near.linked("far")
        await asyncio.sleep(10)
        assert not ends.near.linked("far")
        ends.network.heal()
        await asyncio.sleep(5)
        assert ends.ups == [True, False, True]
        assert ends.network.sent["near"] == [2, 6]
        assert ends.network.received["far"] == [1, 3]
        ends.near.disconnect("far")
        assert not ends.near.send("far", b"late")

    run_fairly(main())


@pytest.fixture
def lines():
    return []


def check(report, sites: int) -> None:
    json.dumps(report)
    assert report["sites"] == sites
    assert report["converged_s"] <= 30
    assert report["alone_when_cut"] == sites
    assert report["reconnected_s"] <= 30
    assert report["request_errors"] == 0
    assert report["requests"] > 0
    assert report["idle_out_bits_s"] > 0
    assert report["hub"]["hub_out_bits_s"] > report["hub"]["idle_out_bits_s"]


def test_ten_members(tmp_path, lines):
    report = run(HollowOptions(10, 2, settle_s=5, idle_s=60, cut_s=200, ask_s=1), Workspace(tmp_path, {}, lines.append))
    check(report, 10)
    assert report["neighbours"] == 9
    assert lines


class Members:
    """Hollow nodes without gateways, of which some know no neighbours, as in versions before large clouds had them."""

    def __init__(self, root, monkeypatch) -> None:
        self.monkeypatch = monkeypatch
        self.network = Network(0.01)
        self.names = material.names_of(30)
        self.cloud = material.create(root, self.names, {})
        self.nodes = {name: material.node_of(self.cloud, name, self.network, 0) for name in self.names}

    async def start(self, earlier: int) -> None:
        for number, node in enumerate(self.nodes.values()):
            self.monkeypatch.setattr(neighbours, "FULL", 1000 if number < earlier else 20)
            await node.start()

    async def until(self, condition, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not condition():
            assert loop.time() < until
            await asyncio.sleep(0.1)

    def all_reach(self) -> bool:
        return all(node.reaches(name) for node in self.nodes.values() for name in self.names if name != node.site)

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))


def test_members_of_both_versions_reach_each_other(tmp_path, monkeypatch):
    members = Members(tmp_path, monkeypatch)

    async def main():
        await members.start(earlier=4)
        assert len(members.nodes["site-1"].neighbours()) == 29
        assert len(members.nodes["site-9"].neighbours()) < 20
        await members.until(members.all_reach, 30)
        await asyncio.sleep(100)
        assert members.all_reach()
        await members.stop()

    run_fairly(main())


def test_a_member_that_is_no_neighbour_is_probed_over_a_link_that_ends_again(tmp_path, monkeypatch):
    members = Members(tmp_path, monkeypatch)

    async def main():
        await members.start(earlier=0)
        await members.until(members.all_reach, 30)
        near = members.nodes["site-1"]
        far = next(name for name in members.names if name != "site-1" and name not in near.neighbours())
        assert near.rtt_ms(far) is None
        near.report(far, ok=False)
        assert not near.reaches(far)
        await members.until(lambda: near.reaches(far), 5)
        assert near.rtt_ms(far) > 0
        assert far in near.neighbours()
        await asyncio.sleep(100)
        assert far not in near.neighbours()
        assert members.all_reach()
        await members.stop()

    run_fairly(main())


@pytest.mark.long
def test_two_hundred_members(tmp_path, lines):
    report = run(HollowOptions(200, 2, settle_s=20, idle_s=60, cut_s=200, ask_s=1), Workspace(tmp_path, {}, lines.append))
    check(report, 200)
    assert report["neighbours"] <= 6
    assert report["death_known_s"] < 120


def test_the_command_prints_json(monkeypatch):
    monkeypatch.setattr("atoll.bench.hollow.experiment.run", lambda options, _work: {"sites": options.sites, "gateways": options.gateways})
    result = CliRunner().invoke(bench_hollow.hollow, ["--sites", "3", "--json"])
    assert json.loads(result.output.splitlines()[-1]) == {"sites": 3, "gateways": 2}
