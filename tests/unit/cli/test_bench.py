import json
from contextlib import contextmanager

import pytest

from atoll.bench import churn, site, standard
from atoll.bench.bus import broker, loss, speed
from atoll.bench.bus.accounting import Account
from atoll.bench.bus.report import KEYS
from atoll.bench.churn import ChurnOutcome
from atoll.bench.leaks import Leaks
from atoll.bench.standard import servers
from atoll.cli.bench_database import PLACES
from atoll.cloud.databases import parse_database
from atoll.errors import AtollError
from atoll.services.engines import SERVERS

NUMBERS = {"first_site_s": 10.0, "boot_one_s": 1.0, "samples": {}}


@pytest.fixture(autouse=True)
def fakes(monkeypatch, tmp_path):
    @contextmanager
    def workspace(_environment, _say):
        yield tmp_path

    monkeypatch.setattr("atoll.bench.workspace.workspace", workspace)
    monkeypatch.setattr(site, "run", lambda *_args: dict(NUMBERS))
    monkeypatch.setattr(standard, "check_requirements", lambda: None)
    monkeypatch.setattr(standard, "run", lambda *_args: {"first_site_s": 40.0, "boot_one_s": 4.0, "samples": {}})


def test_json_is_one_line(atoll):
    ran = atoll("bench", "site", "--json")
    assert ran.code == 0
    assert json.loads(ran.out) == NUMBERS
    assert ran.out.count("\n") == 1


def test_against_the_standard(atoll):
    ran = atoll("bench", "site", "--against", "standard", "--json")
    report = json.loads(ran.out.splitlines()[-1])
    assert report["standard"]["boot_one_s"] == 4.0
    assert report["ratios"] == {"first_site_s": 0.25, "boot_one_s": 0.25}


def test_table(atoll):
    assert "RATIO" not in atoll("bench", "site").out
    lines = atoll("bench", "site", "--against", "standard").out.splitlines()
    assert lines[0].split() == ["ATOLL", "STANDARD", "RATIO"]
    assert lines[1].split()[-3:] == ["10.00", "40.00", "0.25"]


def test_options_reach_the_experiment(atoll, monkeypatch):
    told = []
    monkeypatch.setattr(site, "run", lambda options, *_args: told.append(options) or {})
    assert atoll("bench", "site", "--sites", "3", "--at-once", "2", "--idle", "1.5").code == 0
    assert (told[0].sites, told[0].at_once, told[0].idle_s, told[0].servers) == (3, 2, 1.5, 30)


def test_missing_packages_are_told_before_anything_is_measured(atoll, monkeypatch):
    def missing():
        raise AtollError("bench.requirement", "rabbitmq-server is missing", "`apt-get install`")

    monkeypatch.setattr(standard, "check_requirements", missing)
    monkeypatch.setattr(site, "run", lambda *_args: pytest.fail("measured"))
    ran = atoll("bench", "site", "--against", "standard")
    assert (ran.code, ran.err) == (1, "error: rabbitmq-server is missing\nhint: `apt-get install`\n")


def test_interrupted(atoll, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(site, "run", interrupt)
    ran = atoll("bench", "site")
    assert (ran.code, ran.err) == (130, "error: interrupted\nhint: all processes and files of the experiment were removed\n")


def test_churn(atoll, monkeypatch):
    monkeypatch.setattr(churn, "run", lambda *_args: ChurnOutcome(operations=1000))
    ran = atoll("bench", "churn", "--json")
    assert (ran.code, json.loads(ran.out)["operations"]) == (0, 1000)
    assert "operations           1000" in atoll("bench", "churn").out


def test_churn_on_another_engine(atoll, monkeypatch):
    seen = []
    monkeypatch.setattr(churn, "run", lambda options, _work: seen.append(options.database) or ChurnOutcome())
    assert atoll("bench", "churn", "--database", "start:mariadb").code == 0
    assert atoll("bench", "churn").code == 0
    assert seen == ["start:mariadb", "sqlite"]
    assert "'start:oracle' is not one of" in atoll("bench", "churn", "--database", "start:oracle").err


def test_each_place_of_databases_is_one_that_a_site_can_start():
    engines = [parse_database(place).engine for place in PLACES]
    assert sorted(engines) == sorted(["sqlite", *SERVERS])


def test_churn_that_went_wrong(atoll, monkeypatch):
    outcome = ChurnOutcome(1000, errors_5xx=2, leaks=Leaks(1, 0, 0))
    monkeypatch.setattr(churn, "run", lambda *_args: outcome)
    ran = atoll("bench", "churn", "--json")
    assert ran.code == 1
    assert json.loads(ran.out.splitlines()[-1])["leaked_servers"] == 1
    assert ran.err == "error: errors_5xx: 2; leaked_servers: 1\n"


@pytest.mark.parametrize("words", [("site", "--sites", "0"), ("site", "--against", "magic"), ("nothing",)])
def test_usage(atoll, words):
    assert atoll("bench", *words).code == 2


@pytest.mark.parametrize("verb", ["site", "churn", "bus", "bus-loss"])
def test_help_has_an_example(atoll, verb):
    assert f"Example:\n  atoll bench {verb}" in atoll("bench", verb, "--help").out


# the bus


def bus_samples(_options, *_args):
    names = [f"{key.name}_100" for key in KEYS]
    return {"zenoh": {name: [8.0] for name in names}, "rabbit": {name: [2.0] for name in names}}


@pytest.fixture
def bus(monkeypatch):
    monkeypatch.setattr(speed, "run", bus_samples)
    monkeypatch.setattr(broker, "check_requirements", lambda: None)


@pytest.mark.usefixtures("bus")
def test_bus_json(atoll):
    ran = atoll("bench", "bus", "--clients", "100", "--json")
    report = json.loads(ran.out.splitlines()[-1])
    assert ran.code == 0
    assert report["ratios"]["calls_per_s_100"] == 4.0
    assert report["targets"]["calls_per_s_100"]["met"] is True
    assert report["targets"]["memory_mb_100"]["met"] is False


@pytest.mark.usefixtures("bus")
def test_bus_table(atoll):
    lines = atoll("bench", "bus", "--clients", "100").out.splitlines()
    assert lines[0].split() == ["CLIENTS", "ZENOH", "RABBIT", "RATIO", "WANTED"]
    assert lines[1].split() == ["100", "calls", "per", "second", "8.00", "2.00", "4.00", "at", "least", "3", "times:", "met"]


def test_bus_alone_needs_no_rabbitmq(atoll, monkeypatch):
    told = []

    def run(options, *_args):
        told.append(options)
        return {"zenoh": bus_samples(options)["zenoh"]}

    monkeypatch.setattr(speed, "run", run)
    monkeypatch.setattr(broker, "check_requirements", lambda: pytest.fail("asked for"))
    lines = atoll("bench", "bus", "--against", "none", "--clients", "100", "--rounds", "1").out.splitlines()
    assert (told[0].against, told[0].clients, told[0].rounds) == (None, (100,), 1)
    assert lines[0].split() == ["CLIENTS", "ZENOH", "WANTED"]


def test_bus_without_rabbitmq(atoll, monkeypatch):
    monkeypatch.setattr(servers, "_find", lambda _program: None)
    ran = atoll("bench", "bus")
    assert ran.code == 1
    assert ran.err.startswith("error: the comparison needs rabbitmq-server from Debian's packages\nhint: `sudo apt-get install")


@pytest.mark.parametrize("sizes", ["", "1,,2", "0", "3,3", "ten"])
def test_bus_clients_are_numbers(atoll, sizes):
    assert atoll("bench", "bus", "--clients", sizes).code == 2


def test_bus_loss(atoll, monkeypatch):
    told = []

    def run(options, *_args):
        told.append(options)
        return loss.LossOutcome(Account(99, 1, 0, 0, 0, 0), 3, 4, 2.0)

    monkeypatch.setattr(loss, "run", run)
    ran = atoll("bench", "bus-loss", "--casts", "100", "--journal", "off", "--kill", "1", "--json")
    assert (ran.code, json.loads(ran.out)["restarts_kill"]) == (0, 4)
    assert told == [loss.LossOptions(casts=100, journal=False, kill=1.0)]
    assert "acknowledged         99" in atoll("bench", "bus-loss").out


def test_bus_that_loses(atoll, monkeypatch):
    monkeypatch.setattr(loss, "run", lambda *_args: loss.LossOutcome(Account(99, 1, 2, 0, 1, 0), 3, 4, 2.0))
    ran = atoll("bench", "bus-loss", "--json")
    assert (ran.code, ran.err) == (1, "error: lost: 2; executed_twice: 1\n")
    assert json.loads(ran.out.splitlines()[-1])["lost"] == 2
