import heapq
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.mesh.swim import MAX_INCARNATION, Ack, Ask, Bounds, Gossip, News, PeerState, Ping, Swim, SwimSettings
from atoll.mesh.swim_messages import CLOCKS_APART, LEAST_ALLOWED


class Cloud:
    """Sites with a clock and links of their own; `loss(sender, receiver)` returns whether a message is lost."""

    def __init__(self, count: int, seed: int = 0, delay_s: float = 0.05) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.delay_s = delay_s
        self.loss: Callable[[str, str], float] = lambda _sender, _receiver: 0.0
        self.down: set[str] = set()
        self.sent = 0
        names = [f"s{i}" for i in range(count)]
        self.sites = {name: Swim(name, random.Random(self.rng.random()), rtt_s=lambda _name: 2 * delay_s) for name in names}
        self.queue: list = []
        self.count = itertools.count()
        for site in self.sites.values():
            site.set_members(names)

    def send(self, sender: str, outgoing) -> None:
        for receiver, message in outgoing:
            self.sent += 1
            if self.rng.random() >= self.loss(sender, receiver) and sender not in self.down:
                heapq.heappush(self.queue, (self.now + self.delay_s, next(self.count), sender, receiver, message))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Run until a condition holds; return the seconds that passed."""
        start = self.now
        while self.now < start + seconds and not until():
            ticks = [(site.next_tick(), name) for name, site in self.sites.items() if name not in self.down]
            tick, name = min(ticks)
            if self.queue and self.queue[0][0] <= tick:
                self.now, _, sender, receiver, message = heapq.heappop(self.queue)
                if receiver not in self.down:
                    self.send(receiver, self.sites[receiver].receive(sender, message, self.now))
            else:
                self.now = max(self.now, tick)
                self.send(name, self.sites[name].tick(self.now))
        return self.now - start

    def all_reach(self) -> bool:
        return all(a.reachable(b) for a in self.up for b in self.sites if b != a.name and b not in self.down)

    def all_say(self, name: str, state: PeerState) -> bool:
        return all(site.state(name) is state for site in self.up if site.name != name)

    @property
    def up(self) -> list[Swim]:
        return [site for name, site in self.sites.items() if name not in self.down]


@pytest.mark.parametrize("count", [2, 3, 10])
def test_all_reach_all_after_the_first_probes(count):
    cloud = Cloud(count)
    assert cloud.run(60, cloud.all_reach) <= 1


def test_a_quiet_cloud_sends_two_messages_a_period_and_site():
    cloud = Cloud(10)
    cloud.run(60)
    before = cloud.sent
    cloud.run(300)
    assert cloud.sent - before <= 2 * 10 * 300 / 5 + 20


@pytest.mark.parametrize("seed", range(10))
def test_a_dead_site_is_found_by_all(seed):
    cloud = Cloud(10, seed)
    cloud.run(30)
    cloud.down = {"s3"}
    assert cloud.run(60, lambda: all(not site.reachable("s3") for site in cloud.up)) < 20
    assert cloud.run(60, lambda: cloud.all_say("s3", PeerState.DEAD)) < 10
    assert all(site.state(name) is PeerState.ALIVE for site in cloud.up for name in cloud.sites if name not in {"s3", site.name})


@pytest.mark.parametrize("seed", range(10))
def test_a_failed_request_is_followed_by_a_probe_immediately(seed):
    cloud = Cloud(10, seed)
    cloud.run(30)
    cloud.down = {"s3"}
    site = cloud.sites["s0"]
    cloud.send("s0", site.doubt("s3", cloud.now))
    assert not site.reachable("s3")
    assert cloud.run(60, lambda: site.state("s3") is PeerState.SUSPECT) < 2.5
    assert cloud.run(60, lambda: all(not other.reachable("s3") for other in cloud.up)) < 2


def test_a_failed_request_to_a_site_that_is_well_costs_one_round_trip():
    cloud = Cloud(3)
    cloud.run(30)
    site = cloud.sites["s0"]
    cloud.send("s0", site.doubt("s1", cloud.now))
    assert not site.reachable("s1")
    assert cloud.run(5, lambda: site.reachable("s1")) <= 0.11
    assert cloud.all_say("s1", PeerState.ALIVE)


def test_a_site_that_comes_back_is_alive_again_everywhere():
    cloud = Cloud(10)
    cloud.run(30)
    cloud.down = {"s3"}
    cloud.run(60)
    cloud.down = set()
    assert cloud.run(60, cloud.all_reach) < 3
    assert cloud.run(60, lambda: cloud.all_say("s3", PeerState.ALIVE)) < 5


def test_two_halves_find_each_other_again():
    cloud = Cloud(10)
    cloud.run(30)
    half = {f"s{i}" for i in range(5)}
    cloud.loss = lambda a, b: float((a in half) != (b in half))
    cloud.run(120)
    assert all(a.reachable(b) == ((a.name in half) == (b in half)) for a in cloud.up for b in cloud.sites if a.name != b)
    cloud.loss = lambda _a, _b: 0.0
    assert cloud.run(60, cloud.all_reach) < 3
    cloud.run(10)
    assert all(site.state(name) is PeerState.ALIVE for site in cloud.up for name in cloud.sites if name != site.name)


@pytest.mark.parametrize("seed", range(5))
def test_a_link_cut_one_way_is_told_from_a_dead_site(seed):
    cloud = Cloud(5, seed)
    cloud.run(30)
    cloud.loss = lambda a, b: float((a, b) == ("s0", "s1"))
    cloud.run(120)
    assert not cloud.sites["s0"].reachable("s1")
    assert cloud.all_say("s1", PeerState.ALIVE)
    assert cloud.all_say("s0", PeerState.ALIVE)
    assert cloud.sites["s2"].reachable("s1")


@pytest.mark.parametrize("seed", range(5))
def test_loss_kills_nobody(seed):
    cloud = Cloud(5, seed)
    cloud.run(30)
    cloud.loss = lambda _a, _b: 0.3
    reached = samples = 0
    for _ in range(300):
        cloud.run(1)
        reached += sum(a.reachable(b) for a in cloud.up for b in cloud.sites if a.name != b)
        samples += 20
    assert reached / samples > 0.8
    cloud.loss = lambda _a, _b: 0.0
    cloud.run(10)
    assert cloud.all_reach()
    assert all(site.state(name) is PeerState.ALIVE for site in cloud.up for name in cloud.sites if name != site.name)


def test_a_late_answer_is_accepted():
    cloud = Cloud(2, delay_s=2.0)
    assert cloud.run(30, cloud.all_reach) < 10


def test_members_come_and_go():
    cloud = Cloud(3)
    cloud.run(10)
    site = cloud.sites["s0"]
    site.changed()
    site.set_members(["s0", "s1", "s9"])
    assert site.changed() == {"s2", "s9"}
    assert not site.reachable("s2")
    assert site.receive("s2", Ping(1), cloud.now) == []


def test_round_trips_are_measured():
    measured = []
    site = Swim("a", random.Random(1), on_rtt=lambda name, rtt: measured.append((name, rtt)))
    site.set_members(["b"])
    ((_, ping),) = site.tick(10.0)
    site.receive("b", Ack(ping.number), 10.25)
    site.receive("b", Ack(ping.number), 10.5)
    assert measured == [("b", 0.25)]


def test_a_lie_about_us_is_contradicted_for_ever():
    site = Swim("a", random.Random(1), settings=SwimSettings())
    site.set_members(["b"])
    accused = Bounds.at(MAX_INCARNATION).accused
    for incarnation in (0, 7, accused):
        site.receive("b", Gossip((News("a", PeerState.DEAD, incarnation),)), 1.0)
        assert site.incarnation == incarnation + 1
    for state in PeerState:
        site.receive("b", Gossip((News("a", state, MAX_INCARNATION),)), 1.0)
        assert site.incarnation == accused + 1, "no other member believes this"


NOW_S = 1_800_000_000


def timed_cloud(apart_s: int = 0) -> Cloud:
    """Return a cloud of five sites whose clocks are between `-apart_s / 2` and `apart_s / 2` seconds from the right time."""
    cloud = Cloud(5)
    for number, site in enumerate(cloud.sites.values()):
        site.now_s = lambda off=(number - 2) * apart_s // 4: NOW_S + off + int(cloud.now)
    cloud.run(30, cloud.all_reach)
    return cloud


def lie(cloud: Cloud, state: PeerState, incarnation: int) -> None:
    """Have s4 tell the others, and s0 itself, about s0."""
    for name in ("s0", "s1", "s2", "s3"):
        cloud.send("s4", [(name, Gossip((News("s0", state, incarnation),)))])


@pytest.mark.parametrize("apart_s", [0, CLOCKS_APART])
def test_liar_can_neither_pin_a_member_as_dead_nor_use_up_its_incarnation_numbers(apart_s):
    cloud = timed_cloud(apart_s)
    honest = [site for name, site in cloud.sites.items() if name not in {"s0", "s4"}]
    for second in range(40):
        for ahead in range(-2, apart_s + 1200, 150):
            lie(cloud, PeerState(second % 3), NOW_S + int(cloud.now) + ahead)
        cloud.run(1)
        assert all(site.state("s0") is PeerState.ALIVE for site in honest), second
        assert cloud.sites["s0"].incarnation <= NOW_S + cloud.now + apart_s + 3 * CLOCKS_APART + 1
    lie(cloud, PeerState.DEAD, MAX_INCARNATION)
    lie(cloud, PeerState.ALIVE, MAX_INCARNATION)
    cloud.down |= {"s0", "s4"}
    cloud.run(3 * CLOCKS_APART + apart_s + 120)
    assert all(site.state("s0") is PeerState.DEAD for site in honest), "when the liar is quiet, a dead member is found"
    cloud.down.clear()
    cloud.run(60, cloud.all_reach)
    assert all(site.state("s0") is PeerState.ALIVE for site in honest)


def test_clock_of_1970_refuses_no_number_of_a_cloud_in_order():
    bounds = Bounds.at(0)
    assert bounds.accused == LEAST_ALLOWED
    assert bounds.accused < bounds.answered < bounds.alive <= MAX_INCARNATION
    latest = Bounds.at(MAX_INCARNATION)
    assert latest.accused < latest.answered < latest.alive < MAX_INCARNATION


names = st.sampled_from(["a", "b", "c", "d", "stranger"])
news = st.lists(st.builds(News, names, st.sampled_from(PeerState), st.integers(0, MAX_INCARNATION)), max_size=4).map(tuple)
numbers = st.integers(0, MAX_INCARNATION)
messages = st.one_of(
    st.builds(Ping, numbers, news), st.builds(Ack, numbers, news), st.builds(Ask, numbers, names, news), st.builds(Gossip, news)
)


@settings(max_examples=200)
@given(st.lists(st.tuples(names, messages, st.floats(0, 3)), max_size=30))
def test_no_messages_make_it_fail_or_flood(received):
    site = Swim("a", random.Random(1))
    site.set_members("abcd")
    now = 0.0
    for sender, message, pause in received:
        now += pause
        assert len(site.receive(sender, message, now)) <= 4 * (len(message.news) + 1)
        assert len(site.tick(now)) <= 40
        assert site.next_tick() > now


def test_many_lies_in_one_message_are_answered_once():
    site = Cloud(30).sites["s0"]
    for name in site.near():
        site.vouch(name)
    lies = tuple(News("s0", PeerState.DEAD, number) for number in range(5000))
    out = site.receive("s1", Gossip(lies), 1.0)
    assert site.incarnation == 5000
    assert sorted(receiver for receiver, _ in out) == sorted(site.near())


def test_one_member_can_have_few_probes_under_way():
    site = Cloud(30).sites["s0"]
    out = [each for number in range(5000) for each in site.receive("s1", Ask(number, "s2"), 1.0)]
    assert len(out) == 128
    assert site.receive("s3", Ask(1, "s2"), 1.0), "others are not hindered"


def test_member_whose_incarnation_nobody_can_exceed_is_not_suspected():
    cloud = Cloud(4)
    cloud.run(30, cloud.all_reach)
    false = Gossip((News("s2", PeerState.ALIVE, Bounds.at(MAX_INCARNATION).alive),))
    for name in ("s0", "s1", "s2"):
        cloud.send(name, cloud.sites[name].receive("s3", false, cloud.now))
    cloud.down.add("s2")
    cloud.run(60)
    assert all(site.state("s2") is PeerState.ALIVE and not site.reachable("s2") for site in cloud.up), "each finds out for itself"
    cloud.down.clear()
    cloud.run(30, cloud.all_reach)
    assert cloud.all_reach()
