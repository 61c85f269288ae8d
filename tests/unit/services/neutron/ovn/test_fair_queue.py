"""The fair queue, against a model: bounds hold, no item is lost or done twice, and a guest with few items is not displaced by one with
more.
"""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from atoll.services.neutron.ovn.fair_queue import FairQueue, QueueLimits, Work

SMALL = QueueLimits(at_work=4, at_work_per_network=3, at_work_per_guest=2, waiting=8, waiting_per_network=5, waiting_per_guest=3)
NETWORKS = st.sampled_from(["a", "b", "c"])
GUESTS = st.sampled_from(["1", "2", "3"])


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(SMALL)
        self.waiting: set[Work[int]] = set()
        self.at_work: list[Work[int]] = []
        self.number = 0

    @rule(network=NETWORKS, guest=GUESTS)
    def put(self, network: str, guest: str) -> None:
        self.number += 1
        work = Work(network, guest, self.number)
        mine = sum(each[:2] == (network, guest) for each in self.waiting)
        refused = self.queue.put(work)
        self.waiting.add(work)
        if refused is None:
            return
        self.waiting.remove(refused)
        if refused is not work:
            theirs = sum(each[:2] == refused[:2] for each in self.waiting)
            networks = Counter(each.network for each in self.waiting)
            assert theirs >= mine + 1 or networks[refused.network] >= networks[network]

    @rule()
    def take(self) -> None:
        work = self.queue.take(0)
        if work is not None:
            self.waiting.remove(work)
            self.at_work.append(work)

    @rule(index=st.integers(0, 3))
    def done(self, index: int) -> None:
        if index < len(self.at_work):
            self.queue.done(self.at_work.pop(index))

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.queue) == len(self.waiting) <= SMALL.waiting
        assert self.queue.busy == len(self.at_work) <= SMALL.at_work
        for works, per_network, per_guest in (
            (self.waiting, SMALL.waiting_per_network, SMALL.waiting_per_guest),
            (self.at_work, SMALL.at_work_per_network, SMALL.at_work_per_guest),
        ):
            assert all(count <= per_network for count in Counter(each.network for each in works).values())
            assert all(count <= per_guest for count in Counter(each[:2] for each in works).values())

    def teardown(self) -> None:
        for work in self.at_work:
            self.queue.done(work)
        while (work := self.queue.take(0)) is not None:
            self.waiting.remove(work)
            self.queue.done(work)
        assert not self.waiting
        assert not self.queue._networks, "networks without items must be forgotten"


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def test_networks_take_turns_and_so_do_their_guests():
    queue: FairQueue[int] = FairQueue(QueueLimits(at_work_per_guest=100, at_work_per_network=100))
    for number in range(4):
        queue.put(Work("many", "1", number))
    queue.put(Work("many", "2", 0))
    queue.put(Work("few", "1", 0))
    taken = [queue.take(0)[:2] for _ in range(6)]
    assert taken == [("many", "1"), ("few", "1"), ("many", "2"), ("many", "1"), ("many", "1"), ("many", "1")]


def test_queue_that_is_full_has_a_place_for_who_has_least():
    queue: FairQueue[int] = FairQueue(SMALL)
    for network in ("a", "b"):
        for guest in ("1", "2"):
            for number in range(2):
                assert queue.put(Work(network, guest, number)) is None
    assert queue.put(Work("c", "1", 0)).network in {"a", "b"}
    assert queue.put(Work("c", "1", 1)).network in {"a", "b"}
