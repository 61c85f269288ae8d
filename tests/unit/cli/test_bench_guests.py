import json
from contextlib import contextmanager

import pytest

from atoll.bench.guests import experiment
from atoll.cli.bench_guests import BOOTS, PATHS, TRAFFIC, _key

FACTS = {"guests": 4, "http_answered": 4, "accelerator": "TCG", "datapath": "userspace"}
REPORT = FACTS | dict.fromkeys(BOOTS, 1.5) | {_key(path, key): 2.5 for path in PATHS for key in TRAFFIC}


@pytest.fixture
def options(monkeypatch, tmp_path):
    """Return the options that the experiment received."""
    told = []

    @contextmanager
    def workspace(_environment, _say):
        yield tmp_path

    def run(options, *_args):
        told.append(options)
        return REPORT

    monkeypatch.setattr("atoll.bench.workspace.workspace", workspace)
    monkeypatch.setattr(experiment, "run", run)
    return told


def test_json_is_one_line(atoll, options):
    ran = atoll("bench", "guests", "--guests", "2", "--rounds", "1", "--seconds", "0.5", "--json")
    assert ran.code == 0
    assert json.loads(ran.out) == REPORT
    assert ran.out.count("\n") == 1
    assert options == [experiment.GuestsOptions(guests=2, rounds=1, seconds=0.5)]


def test_table_for_a_person(atoll, options):
    ran = atoll("bench", "guests")
    assert "4 of 4 guests answered; TCG, data path: userspace" in ran.out
    assert "GUESTS" in ran.out
    assert "VETH" in ran.out
    assert options == [experiment.GuestsOptions()]


def test_traffic_needs_two_guests(atoll, options):
    assert atoll("bench", "guests", "--guests", "1").code == 2
    assert options == []


def test_keys_of_the_issue():
    assert {_key("", "gbit_s"), _key("veth", "gbit_s"), _key("bridge", "gbit_s")} == {"tcp_gbit_s", "veth_gbit_s", "bridge_gbit_s"}
