"""The core of the data path: one wire with a simulated clock."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.bench.wan.chance import likely
from atoll.cloud.network import Wire
from atoll.errors import AtollError
from atoll.wan.datapath import library, options, queue_ms

MS = 1_000_000
try:
    FFI, LIB = library().ffi, library().lib
except AtollError as error:  # without a C compiler, `make install` leaves it out
    pytest.skip(error.message, allow_module_level=True)


@dataclass
class Scheduler:
    """A wire for offered packets; times are in nanoseconds, and `None` stands for a dropped packet."""

    seed: int = 1
    struct: Any = field(default_factory=lambda: FFI.new("struct wire *"))

    def __post_init__(self) -> None:
        LIB.wire_init(self.struct, 1, self.seed)

    def set(self, wire: Wire, *, up: bool = True) -> None:
        LIB.wire_set(self.struct, options(wire, up=up))

    def offer(self, length: int, now: int) -> int | None:
        at = LIB.wire_offer(self.struct, length, now)
        return None if at < 0 else at

    @property
    def counters(self) -> Any:
        return self.struct.counters


def scheduler(wire: Wire, seed: int = 1) -> Scheduler:
    made = Scheduler(seed)
    made.set(wire)
    return made


ARRIVALS = st.lists(st.tuples(st.integers(20, 1500), st.integers(0, 20 * MS)), min_size=1, max_size=60)
"""Packets: length in bytes, and nanoseconds since the previous one."""

WIRES = st.builds(
    Wire,
    delay_ms=st.floats(0, 300),
    jitter_ms=st.floats(0, 50),
    rate_mbit=st.none() | st.floats(0.01, 10_000),
    loss=st.just(0.0) | st.floats(0, 1),
)


def offered(made: Scheduler, arrivals: list[tuple[int, int]]) -> list[tuple[int, int, int | None]]:
    """Offer packets, and return the length, the time of sending and the time of arrival of each."""
    now, found = MS, []
    for length, pause in arrivals:
        now += pause
        found.append((length, now, made.offer(length, now)))
    return found


@given(WIRES, ARRIVALS, st.integers(0, 2**64 - 1))
def test_nothing_arrives_before_it_was_sent_nor_overtakes(wire, arrivals, seed):
    last = 0
    for _length, now, at in offered(scheduler(wire, seed), arrivals):
        if at is not None:
            assert at >= max(now, last)
            last = at


@given(WIRES, ARRIVALS)
def test_delay_is_what_was_asked_for(wire, arrivals):
    """A packet is delayed only by the jitter, the queue and the packets before it."""
    last = 0
    for length, now, at in offered(scheduler(wire), arrivals):
        if at is None:
            continue
        sending_ms = 0 if wire.rate_mbit is None else length * 8 / (wire.rate_mbit * 1e3)
        latest_ms = wire.delay_ms + wire.jitter_ms + sending_ms + (queue_ms(wire) if wire.rate_mbit else 0)
        assert at <= max(last, now + latest_ms * MS + 10)
        assert at >= now + max(0, wire.delay_ms - wire.jitter_ms) * MS - 10
        last = at


@given(st.floats(0.1, 10_000), st.lists(st.integers(20, 1500), min_size=2, max_size=200))
def test_rate_is_kept_to_the_nanosecond(rate_mbit, lengths):
    found = [at for _length, _now, at in offered(scheduler(Wire(rate_mbit=rate_mbit)), [(length, 0) for length in lengths]) if at]
    sent = lengths[: len(found)]
    assert found[-1] - MS == pytest.approx(sum(sent) * 8e3 / rate_mbit, abs=len(sent))


def test_queue_is_bounded():
    made = scheduler(Wire(rate_mbit=12))  # a packet of 1500 bytes each millisecond, and 50 of them may wait
    arrived = [at for _length, _now, at in offered(made, [(1500, 0)] * 100) if at is not None]
    assert len(arrived) == made.counters.packets_in - made.counters.overflowed == 51


def test_slow_link_still_holds_some_packets():
    made = scheduler(Wire(rate_mbit=0.064))
    assert sum(at is not None for _length, _now, at in offered(made, [(1500, 0)] * 100)) == 21


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.5])
def test_loss_is_what_was_asked_for(loss):
    made, count = scheduler(Wire(loss=loss), seed=7), 20_000
    for index in range(count):
        made.offer(100, index)
    least, most = likely(count, loss, confidence=0.9999)
    assert least <= made.counters.lost <= most


def test_losses_of_two_seeds_differ():
    patterns = {tuple(made.offer(100, index) for index in range(200)) for made in (scheduler(Wire(loss=0.5), seed) for seed in range(20))}
    assert len(patterns) == 20


def test_certain_loss_and_none():
    assert scheduler(Wire(loss=1)).offer(100, 0) is None
    assert scheduler(Wire(loss=0)).offer(100, 0) == 0


def test_jitter_spreads_over_the_whole_range():
    delays = []
    made = scheduler(Wire(delay_ms=100, jitter_ms=10))
    for index in range(1000):
        now = index * 100 * MS  # so rare that none waits for the previous one
        at = made.offer(100, now)
        assert at is not None
        delays.append((at - now) / MS)
    assert min(delays) == pytest.approx(90, abs=0.5)
    assert max(delays) == pytest.approx(110, abs=0.5)
    assert sum(delays) / len(delays) == pytest.approx(100, abs=1)


def test_reordered_packets_skip_the_delay():
    made = scheduler(Wire(delay_ms=100, reorder=0.25))
    early = sum(made.offer(100, now) == now for now in range(1000))
    least, most = likely(1000, 0.25, confidence=0.9999)
    assert least <= early <= most


def test_cut_drops_everything_and_what_is_under_way():
    made = scheduler(Wire(delay_ms=100))
    before = made.struct.generation
    made.set(Wire(delay_ms=100), up=False)
    assert made.offer(100, 0) is None
    assert made.counters.cut == 1
    assert made.struct.generation != before
    made.set(Wire(delay_ms=100))
    assert made.offer(100, 0) == 100 * MS


def test_shorter_delay_applies_immediately():
    made = scheduler(Wire(delay_ms=300))
    assert made.offer(100, 0) == 300 * MS
    made.set(Wire(delay_ms=1))
    assert made.offer(100, 10) == MS + 10


def test_lower_rate_does_not_wait_for_the_old_queue():
    made = scheduler(Wire(rate_mbit=0.064))
    for _packet in range(20):
        made.offer(1500, 0)
    made.set(Wire(rate_mbit=12))
    assert made.offer(1500, 0) == MS
