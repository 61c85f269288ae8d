"""Real runs of the smallest size, which test the experiment and not the machine."""

import os

import pytest

from atoll.bench.bus import loss, speed
from atoll.bench.bus.report import KEYS, rows, summary
from atoll.bench.workspace import Workspace


@pytest.fixture
def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("OS_")}


def test_speed(tmp_path, environment):
    told = []
    options = speed.SpeedOptions(clients=(3,), rounds=1, seconds=0.2, against=None)
    report = summary(speed.run(options, Workspace(tmp_path, environment, told.append)))
    assert set(report["zenoh"]) == {f"{key.name}_3" for key in KEYS}
    assert all(value > 0 for value in report["zenoh"].values())
    assert told == ["round 1 of 1: zenoh, 3 clients"]
    assert len(rows(report, options.clients)) == len(KEYS)


def test_loss(tmp_path, environment):
    outcome = loss.run(loss.LossOptions(casts=4000, interval_s=0.5), Workspace(tmp_path, environment, lambda _text: None))
    assert outcome.account.acknowledged + outcome.account.failed == 4000
    assert outcome.bad == []
