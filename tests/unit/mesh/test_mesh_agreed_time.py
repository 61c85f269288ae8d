import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.agreed_time import AgreedTime, TimeReader, TimeWriter, since_boot_ns

S = 1_000_000_000
START = 1_700_000_000 * S


class Machine:
    """A clock that can be set, and one that can't."""

    def __init__(self) -> None:
        self.steady = 5 * S
        self.ahead = 0

    def own(self) -> int:
        return START + self.steady + self.ahead


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def agreed(machine):
    return AgreedTime(machine.own, lambda: machine.steady)


def hear(agreed, machine, *ahead_s, rtt_ms=50.0):
    for number, ahead in enumerate(ahead_s):
        agreed.observe(f"site-{number}", (START + machine.steady + int(ahead * S)) // 1_000_000 - int(rtt_ms / 2), rtt_ms)


def seconds_ahead(agreed):
    return (agreed.distance_ns() - START) / S


def test_a_site_alone_goes_by_its_own_clock(agreed, machine):
    machine.ahead = 3600 * S
    assert seconds_ahead(agreed) == 3600
    assert agreed.own_ahead_s() == 0


@pytest.mark.parametrize("wrong", [3600, -3600])
def test_agreed_time_is_not_the_own_clock_if_that_is_wrong(agreed, machine, wrong):
    machine.ahead = wrong * S
    hear(agreed, machine, 0, 0)
    assert agreed.now_ms() == pytest.approx((START + machine.steady) / 1_000_000, abs=50)


@pytest.mark.parametrize("wrong", [3600, -3600, 395, -2])
def test_one_wrong_clock_of_three_is_not_followed(agreed, machine, wrong):
    hear(agreed, machine, 0, wrong)
    assert seconds_ahead(agreed) == 0
    machine.ahead, ahead = wrong * S, 0.0
    hear(agreed, machine, 0, ahead)
    assert seconds_ahead(agreed) == pytest.approx(0, abs=0.01)
    assert agreed.own_ahead_s() == pytest.approx(wrong, abs=0.01)


def test_an_hour_ahead_and_an_hour_behind_leave_the_one_in_the_middle(agreed, machine):
    hear(agreed, machine, 3600, -3600)
    assert seconds_ahead(agreed) == 0


def test_small_differences_leave_each_site_its_own_clock(agreed, machine):
    machine.ahead = S // 2
    hear(agreed, machine, 0, 0, 0)
    assert seconds_ahead(agreed) == 0.5
    assert agreed.own_ahead_s() == 0


def test_a_clock_that_is_set_moves_nothing_while_others_are_known(agreed, machine):
    hear(agreed, machine, 0, 0)
    before = agreed.distance_ns()
    machine.ahead = -3600 * S
    machine.steady += 600 * S
    assert agreed.distance_ns() == pytest.approx(before, abs=0.01 * S)


def test_of_two_clocks_the_later_is_taken(agreed, machine):
    hear(agreed, machine, 3600)
    assert seconds_ahead(agreed) == pytest.approx(3600, abs=0.01)
    hear(agreed, machine, -3600)
    assert seconds_ahead(agreed) == 0


def test_a_clock_is_not_known_by_an_answer_that_took_longer_than_what_is_tolerated(agreed, machine):
    """Most of the round trip may have been on one of the two ways."""
    hear(agreed, machine, 0, 0)
    for number in range(2):
        agreed.observe(f"site-{number}", (START + machine.steady) // 1_000_000 - 30_000, 30_000)
    assert agreed.own_ahead_s() == 0


def test_clock_that_is_days_away_is_ignored(agreed, machine):
    hear(agreed, machine, 40 * 3600, 50 * 3600)
    assert seconds_ahead(agreed) == 0


def test_sites_of_limited_trust_have_no_say(machine):
    agreed = AgreedTime(machine.own, lambda: machine.steady, distrusted={"site-0"})
    hear(agreed, machine, 3600)
    assert seconds_ahead(agreed) == 0


def test_clock_of_a_former_member_is_ignored(agreed, machine):
    hear(agreed, machine, 3600, 3600)
    assert seconds_ahead(agreed) == pytest.approx(3600, abs=0.01)
    agreed.keep([])
    assert seconds_ahead(agreed) == 0


@given(
    st.lists(st.floats(-0.4, 0.4), min_size=2, max_size=6),
    st.lists(st.floats(-80_000, 80_000), max_size=6),
    st.booleans(),
)
def test_a_minority_that_lies_moves_nobody(right, lies, own_is_wrong):
    lies = lies[: len(right) - 1]
    machine = Machine()
    machine.ahead = 7200 * S if own_is_wrong and len(lies) < len(right) - 1 else 0
    agreed = AgreedTime(machine.own, lambda: machine.steady)
    hear(agreed, machine, *right, *lies, rtt_ms=0.0)
    assert abs(seconds_ahead(agreed)) <= 1.5


def test_written_time_is_read(tmp_path):
    reader = TimeReader(tmp_path / "time")
    assert reader.now_ns() == pytest.approx(time.time_ns(), abs=S)
    writer = TimeWriter(tmp_path / "time")
    assert reader.now_ns() == pytest.approx(time.time_ns(), abs=S)
    for ahead in (3600, -3600):
        writer.write(time.time_ns() - since_boot_ns() + ahead * S)
        assert reader.now_ns() == pytest.approx(time.time_ns() + ahead * S, abs=S)
    writer.close()
    assert reader.now_ns() == pytest.approx(time.time_ns() - 3600 * S, abs=S)


def test_time_written_before_the_last_boot_is_ignored(tmp_path):
    TimeWriter(tmp_path / "time").write(12345)
    data = bytearray((tmp_path / "time").read_bytes())
    data[0] ^= 1
    (tmp_path / "time").write_bytes(data)
    assert TimeReader(tmp_path / "time").now_ns() == pytest.approx(time.time_ns(), abs=S)
