from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.clock import COUNTER_BITS, MAX_AHEAD_MS, HybridClock, ms_of

HOUR_MS = 3_600_000


def test_a_stamp_says_the_time_of_day() -> None:
    assert ms_of(HybridClock(lambda: 12_345).tick()) == 12_345


@given(st.lists(st.one_of(st.tuples(st.just("time"), st.integers(0, 2**42)), st.tuples(st.just("seen"), st.integers(0, 2**58)))))
def test_ticks_grow_whatever_the_clock_does_and_whatever_is_seen(events: list[tuple[str, int]]) -> None:
    now = 0
    clock = HybridClock(lambda: now)
    greatest = -1
    for event, value in events:
        if event == "time":
            now = value
        else:
            clock.observe(value)
            greatest = max(greatest, value)
        tick = clock.tick()
        assert tick > greatest
        greatest = tick


def test_a_clock_that_goes_back_an_hour_goes_on_from_where_it_was() -> None:
    now = 10 * HOUR_MS
    clock = HybridClock(lambda: now)
    before = clock.tick()
    now -= HOUR_MS
    assert before < clock.tick() < before + (1 << COUNTER_BITS)


def test_stamps_of_clocks_that_are_hours_ahead_are_believed_and_those_of_the_far_future_are_not() -> None:
    clock = HybridClock(lambda: 100 * HOUR_MS)
    assert clock.accepts((103 * HOUR_MS) << COUNTER_BITS)
    assert not clock.accepts((100 * HOUR_MS + MAX_AHEAD_MS + 1) << COUNTER_BITS)


def test_observed_stamps_do_not_make_the_far_future_acceptable() -> None:
    clock = HybridClock(lambda: 0)
    clock.observe(MAX_AHEAD_MS << COUNTER_BITS)
    assert not clock.accepts((MAX_AHEAD_MS + 1) << COUNTER_BITS)


def test_a_machine_that_has_forgotten_the_date_believes_what_it_had_on_disk() -> None:
    clock = HybridClock(lambda: 0)
    clock.restore((1000 * HOUR_MS) << COUNTER_BITS)
    assert clock.accepts((1001 * HOUR_MS) << COUNTER_BITS)
    assert ms_of(clock.tick()) >= 1000 * HOUR_MS
