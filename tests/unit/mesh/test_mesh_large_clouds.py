"""The failure detection in a cloud so large that a member probes its neighbours alone."""

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mesh_swim import Cloud

from atoll.mesh import neighbours
from atoll.mesh.neighbours import RINGS
from atoll.mesh.swim import Ack, Ask, Gossip, News, PeerState, Ping, Swim

FULL, COUNT = 20, 40


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    monkeypatch.setattr(neighbours, "FULL", FULL)


class LargeCloud(Cloud):
    """A cloud that remembers when each site has work to do: to ask all sites after each message would take most of the time."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.due = {name: site.next_tick() for name, site in self.sites.items()}

    def send(self, sender: str, outgoing) -> None:
        super().send(sender, outgoing)
        self.due[sender] = self.sites[sender].next_tick()

    def run(self, seconds: float, until=lambda: False) -> float:
        start = checked = self.now
        while self.now < start + seconds:
            if self.now >= checked:  # not after each message
                if until():
                    break
                checked = self.now + 0.1
            tick, name = min((due, name) for name, due in self.due.items() if name not in self.down)
            if self.queue and self.queue[0][0] <= tick:
                self.now, _, sender, receiver, message = heapq.heappop(self.queue)
                if receiver not in self.down:
                    self.send(receiver, self.sites[receiver].receive(sender, message, self.now))
            else:
                self.now = max(self.now, tick)
                self.send(name, self.sites[name].tick(self.now))
        return self.now - start


@pytest.fixture
def cloud():
    cloud = LargeCloud(COUNT)
    assert cloud.run(60, cloud.all_reach) < 10
    return cloud


def unreached_by_all(cloud: Cloud, name: str) -> bool:
    return not any(site.reachable(name) for site in cloud.up)


def test_a_member_that_nobody_has_reported_is_not_reachable():
    cloud = LargeCloud(COUNT)
    cloud.down = {"s7"}
    cloud.run(15)
    assert unreached_by_all(cloud, "s7")
    assert all(site.reachable(name) for site in cloud.up for name in cloud.sites if name not in {site.name, "s7"})


def test_all_find_each_other_and_then_are_quiet(cloud):
    cloud.run(60)
    before = cloud.sent
    cloud.run(100)
    assert cloud.sent - before <= 1.1 * 2 * COUNT * 100 / 5


def test_probes_are_rarer_the_more_members_there_are():
    site = Swim("s0", random.Random(1))
    site.set_members(f"s{number}" for number in range(1000))
    for name in site.near():
        site.receive(name, Ping(1), 0.0)
        site.vouch(name)
    sent, now = 0, 1.0
    while (now := max(site.next_tick(), now + 0.01)) < 200:
        for name, message in site.tick(now):
            sent += isinstance(message, Ping) and now > 100
            site.receive(name, Ack(getattr(message, "number", 0)), now + 0.01)
    assert 3 <= sent <= 5
    assert len(site.near()) <= 2 * RINGS


def test_a_dead_member_is_found_by_all_and_comes_back(cloud):
    cloud.down = {"s3"}
    assert cloud.run(90, lambda: unreached_by_all(cloud, "s3")) < 60
    assert all(site.state(name) is PeerState.ALIVE for site in cloud.up for name in cloud.sites if name not in {"s3", site.name})
    cloud.down = set()
    assert cloud.run(60, cloud.all_reach) < 15


def test_a_failed_request_finds_a_dead_member_that_is_no_neighbour(cloud):
    site = cloud.sites["s0"]
    far = next(name for name in cloud.sites if name != "s0" and name not in site.near())
    cloud.down = {far}
    cloud.send("s0", site.doubt(far, cloud.now))
    assert not site.reachable(far)
    assert cloud.run(60, lambda: unreached_by_all(cloud, far)) < 20


def test_a_failed_request_to_a_member_that_is_well_costs_one_round_trip(cloud):
    site = cloud.sites["s0"]
    far = next(name for name in cloud.sites if name != "s0" and name not in site.near())
    cloud.send("s0", site.doubt(far, cloud.now))
    assert not site.reachable(far)
    assert far in site.near()
    cloud.run(0.2)
    assert site.reachable(far)
    assert far not in site.near()


def test_a_member_that_is_cut_off_reaches_nobody_until_it_is_back(cloud):
    cloud.loss = lambda a, b: float("s5" in {a, b})
    site = cloud.sites["s5"]
    assert cloud.run(120, lambda: not any(site.reachable(name) for name in cloud.sites)) < 100
    cloud.loss = lambda _a, _b: 0.0
    assert cloud.run(60, cloud.all_reach) < 15


def test_two_halves_find_each_other_again(cloud):
    half = {f"s{number}" for number in range(COUNT // 2)}
    cloud.loss = lambda a, b: float((a in half) != (b in half))
    cloud.run(150)
    assert all(a.reachable(b) == ((a.name in half) == (b in half)) for a in cloud.up for b in cloud.sites if a.name != b)
    cloud.loss = lambda _a, _b: 0.0
    assert cloud.run(60, cloud.all_reach) < 20


def test_a_cloud_that_grows_and_shrinks_past_the_limit():
    site = Swim("s0", random.Random(1))
    for count in (FULL, FULL + 1, FULL):
        names = [f"s{number}" for number in range(count)]
        site.set_members(names)
        assert site.is_wide() == (count > FULL)
        assert (len(site.near()) == count - 1) == (count <= FULL)


numbers = st.integers(0, 1000)
names = st.sampled_from([*(f"s{number}" for number in range(0, COUNT, 3)), "stranger"])
news = st.lists(st.builds(News, names, st.sampled_from(PeerState), numbers), max_size=4).map(tuple)
messages = st.one_of(
    st.builds(Ping, numbers, news), st.builds(Ack, numbers, news), st.builds(Ask, numbers, names, news), st.builds(Gossip, news)
)
failed = st.tuples(names, st.sampled_from(["doubt", "vouch"]))


@settings(max_examples=100)
@given(st.lists(st.tuples(names, st.one_of(messages, failed), st.floats(0, 3)), max_size=30))
def test_no_messages_make_it_fail_or_probe_many(received):
    site = Swim("s0", random.Random(1))
    site.set_members(f"s{number}" for number in range(COUNT))
    now = 0.0
    for sender, message, pause in received:
        now += pause
        if isinstance(message, tuple):
            name, what = message
            site.vouch(name) if what == "vouch" else site.doubt(name, now)
        else:
            site.receive(sender, message, now)
        site.tick(now)
        assert site.next_tick() > now
        assert len(site.near()) <= 2 * RINGS * 5 + len(received)
