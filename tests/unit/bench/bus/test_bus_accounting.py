import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.bench.bus.accounting import Account, numbers_in, settle
from atoll.bench.bus.endpoints import NUMBER


def test_all_well():
    assert settle(3, [0, 2, 1], [], [1, 0, 2]) == Account(
        acknowledged=3, failed=0, lost=0, begun_when_killed=0, executed_twice=0, failed_executed=0
    )


def test_lost_is_what_was_acknowledged_and_never_executed():
    account = settle(4, acknowledged=[0, 1, 2], failed=[3], executed=[1])
    assert (account.lost, account.failed, account.failed_executed) == (2, 1, 0)


def test_casts_begun_by_a_killed_server_are_not_lost():
    account = settle(5, acknowledged=[0, 1, 2], failed=[3], executed=[0], begun={0, 1, 3, 4})
    assert (account.lost, account.begun_when_killed) == (1, 1)


def test_a_second_execution_is_counted_whatever_the_client_received():
    account = settle(4, acknowledged=[0, 1], failed=[2, 3], executed=[0, 0, 1, 2, 2, 2])
    assert (account.executed_twice, account.failed_executed, account.lost) == (2, 1, 0)


def test_more_executions_than_a_byte_can_count():
    assert settle(1, [0], [], [0] * 1000).executed_twice == 1


@given(st.lists(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_nothing_is_lost_if_all_that_was_acknowledged_was_executed(executed, failed):
    acknowledged = set(executed) - failed
    account = settle(51, acknowledged, failed, executed)
    assert account.lost == 0
    assert account.executed_twice == len({number for number in executed if executed.count(number) > 1})
    assert account.failed_executed == len(failed & set(executed))


def test_records_are_read_as_servers_write_them(tmp_path):
    (tmp_path / "a").write_bytes(NUMBER.pack(1) + NUMBER.pack(2**40))
    (tmp_path / "b").write_bytes(b"")
    assert list(numbers_in([tmp_path / "a", tmp_path / "b"])) == [1, 2**40]


def test_half_a_record_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(NUMBER.pack(1)[:7])
    with pytest.raises(ValueError, match="7 bytes: expected a multiple of 8"):
        numbers_in([tmp_path / "a"])
