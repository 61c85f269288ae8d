import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.bench.wan.chance import likely
from atoll.bench.wan.experiment import Samples, cut_times
from atoll.bench.wan.programs import Pings, parse_ping, received_mbit_s
from atoll.bench.wan.report import pooled, rtt_right, summary
from atoll.errors import AtollError
from atoll.wan.probe import Echo

PING = """PING 10.77.1.1 (10.77.1.1) 56(84) bytes of data.

--- 10.77.1.1 ping statistics ---
20 packets transmitted, 19 received, 5% packet loss, time 387ms
rtt min/avg/max/mdev = 20.237/20.328/20.612/0.083 ms
"""


def test_ping_is_understood():
    assert parse_ping(PING) == Pings(20, 1, 20.328)
    assert parse_ping("2 packets transmitted, 0 received, 100% packet loss, time 106ms\n") == Pings(2, 2, None)
    assert parse_ping("3 packets transmitted, 3 received, +1 duplicates, 0% packet loss\nrtt min/avg/max/mdev = 1/2/3/0 ms").lost == 0


def test_ping_that_fails():
    with pytest.raises(AtollError, match="ping: unknown host"):
        parse_ping("ping: unknown host\n")


def test_median_without_the_omitted_intervals():
    intervals = [{"sum": {"bits_per_second": rate * 1e6, "omitted": rate == 99}} for rate in (99, 9, 10, 11)]
    assert received_mbit_s({"intervals": intervals}) == 10


def test_likely_losses():
    # Of the binomial distribution with 1000 packets and 1 %: 3 to 19 have 99.5 % or more on either side.
    assert likely(1000, 0.01) == (3, 19)
    assert likely(1000, 0) == (0, 0)
    assert likely(10, 1) == (10, 10)


@given(st.integers(1, 3000), st.floats(0.001, 0.999))
def test_likely_losses_surround_the_expected_number(count, probability):
    least, most = likely(count, probability)
    assert 0 <= least <= most <= count
    assert least - 1 <= count * probability <= most + 1


@given(st.integers(10, 2000), st.floats(0.01, 0.5))
def test_more_confidence_needs_more_room(count, probability):
    narrow, wide = likely(count, probability, 0.9), likely(count, probability, 0.999)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


def test_losses_of_one_probability_are_pooled():
    pings = [{"loss": 0.5, "sent": 100, "lost": 90}, {"loss": 0.5, "sent": 100, "lost": 12}, {"loss": 0, "sent": 10, "lost": 1}]
    assert [(item["loss"], item["lost"], item["ok"]) for item in pooled(pings)] == [(0, 1, False), (0.5, 102, True)]


@pytest.mark.parametrize(("asked", "error", "right"), [(0, 1, True), (0, 1.1, False), (300, 6, True), (300, 6.1, False), (20, 1, True)])
def test_round_trips_are_right_within_a_millisecond_or_two_percent(asked, error, right):
    assert rtt_right(asked, error) is right


def test_summary():
    samples = Samples(
        pings=[
            {"rtt_ms": 1, "loss": 0, "measured_ms": 1.9, "sent": 100, "lost": 0},
            {"rtt_ms": 100, "loss": 0, "measured_ms": 98.5, "sent": 100, "lost": 0},
        ],
        rates=[{"rate_mbit": 10, "rtt_ms": 0, "measured_mbit": 9.6}],
        capacity={"gbit_s": 2.0, "packets_per_s": 1e5, "core_large": 0.9, "core_small": 1.0},
        cuts=[{"cut_ms": 1.0, "heal_ms": 2.0}, {"cut_ms": 3.0, "heal_ms": 0.5}],
    )
    found = summary(samples)
    assert (found["worst_rtt_error_ms"], found["worst_rtt_error_percent"], found["rtt_ok"]) == (1.5, 1.5, True)
    assert (found["worst_rate_error_percent"], found["rate_ok"]) == (pytest.approx(4.0), True)
    assert (found["loss_ok"], found["cut_ms"], found["heal_ms"]) == (True, 3.0, 2.0)


def test_times_of_a_cut():
    echoes = [Echo(at / 10, None if 10 <= at < 20 else 50.0) for at in range(30)]
    assert cut_times(echoes, cut_s=0.92, heal_s=1.96) == {"cut_ms": pytest.approx(30), "heal_ms": pytest.approx(40)}


@pytest.mark.parametrize("through", [range(10), range(20, 30)])
def test_cut_without_before_or_after(through):
    with pytest.raises(AtollError):
        cut_times([Echo(float(at), 1.0 if at in through else None) for at in range(30)], cut_s=10, heal_s=20)
