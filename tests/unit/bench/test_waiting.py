import pytest

from atoll.bench.waiting import wait_until
from atoll.errors import AtollError


def test_wait_until():
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), "three looks", 5, 0.001)


def test_wait_until_gives_up():
    with pytest.raises(AtollError, match="the moon: not true after 0 s") as caught:
        wait_until(lambda: False, "the moon", 0, 0.001)
    assert caught.value.kind.code == "bench.failed"
