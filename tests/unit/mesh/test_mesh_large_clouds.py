"""The failure detection in a cloud so large that a member probes its neighbours alone."""

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mesh_swim import Cloud

from atoll.mesh import neighbours
from atoll.mesh.neighbours import RINGS
from atoll.mesh.swim import MAX_INCARNATION, Ack, Ask, Bounds, Gossip, News, PeerState, Ping, Swim

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


def test_all_find_each_other_again_after_all_links_were_cut(cloud):
    cloud.loss = lambda _a, _b: 1.0
    cloud.run(200)
    assert not any(a.reachable(b) for a in cloud.up for b in cloud.sites)
    cloud.loss = lambda _a, _b: 0.0
    assert cloud.run(120, cloud.all_reach) < 30


def test_all_agree_in_the_end_though_a_third_of_all_messages_was_lost(cloud):
    half = {f"s{number}" for number in range(COUNT // 2)}
    cloud.loss = lambda a, b: 0.3 if (a in half) == (b in half) else 1.0
    cloud.run(200)
    cloud.loss = lambda _a, _b: 0.0
    cloud.run(150)
    assert cloud.all_reach()
    assert len({message.digest for site in cloud.up for _name, message in site.probe(next(iter(site.near())), cloud.now)}) == 1


def test_an_opinion_that_was_contradicted_is_contradicted_again(cloud):
    site = cloud.sites["s0"]
    (near, *_others) = sorted(site.near())
    site.receive(near, Ping(1, (News("s0", PeerState.DEAD, 3),)), cloud.now)
    answers = site.receive(near, Ping(2, (News("s0", PeerState.DEAD, 3),)), cloud.now)
    assert (near, Gossip((News("s0", PeerState.ALIVE, 4),))) in answers


def test_a_lie_about_another_member_is_contradicted_whatever_its_incarnation(cloud):
    site = cloud.sites["s0"]
    far = next(name for name in cloud.sites if name != "s0" and name not in site.near())
    accused = Bounds.at(MAX_INCARNATION).accused
    for incarnation in (MAX_INCARNATION, accused + 1, accused):
        for name in cloud.sites.keys() - {far}:
            cloud.send(name, cloud.sites[name].receive(far, Gossip((News(far, PeerState.DEAD, incarnation),)), cloud.now))
        assert cloud.run(60, cloud.all_reach) < 30
    assert cloud.sites[far].incarnation == accused + 1


def test_a_restarted_member_takes_its_incarnation_from_the_others(cloud):
    site = cloud.sites["s0"]
    site.receive("s1", Gossip((News("s0", PeerState.ALIVE, 9),)), cloud.now)
    assert site.incarnation == 9


def test_a_neighbour_with_another_digest_is_sent_all_opinions_but_not_often(cloud):
    cloud.run(30)
    site = cloud.sites["s0"]
    near = next(name for name in sorted(site.near()) if site.reachable(name))

    def told() -> list[Gossip]:
        site.receive(near, Ping(1, (), 12345), cloud.now)
        cloud.now = max(cloud.now, site.next_tick())
        cloud.now += 0.5
        return [message for name, message in site.tick(cloud.now) if name == near and isinstance(message, Gossip)]

    (gossip,) = told()
    assert {news.name for news in gossip.news} == cloud.sites.keys() - {near}
    assert all(len(gossip.news) < COUNT / 2 for gossip in told())


def test_a_late_silence_of_a_former_neighbour_does_not_count(cloud):
    site = cloud.sites["s0"]
    far = next(name for name in cloud.sites if name != "s0" and name not in site.near())
    site.doubt(far, cloud.now)
    site.receive("s1", Gossip((News(far, PeerState.DEAD, 0),)), cloud.now)
    site.receive("s1", Gossip((News(far, PeerState.ALIVE, 1),)), cloud.now)
    assert far not in site.near()
    assert site.reachable(far)
    site.tick(cloud.now + 5)
    assert site.reachable(far)


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
digests = st.none() | numbers
messages = st.one_of(
    st.builds(Ping, numbers, news, digests),
    st.builds(Ack, numbers, news, digests),
    st.builds(Ask, numbers, names, news),
    st.builds(Gossip, news),
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
