"""`up`, `down`, `destroy` and `status` of a cloud on a testbed, whose hosts are replaced."""

import json
from pathlib import Path

import pytest

from atoll.bench import cell_workloads
from atoll.cli import testbed_cells
from atoll.cloud import parse_cloud
from atoll.errors import AtollError
from atoll.site.state import State
from atoll.testbed import overview, teardown
from atoll.testbed import up as testbed_up
from atoll.testbed.host import RemoteHost
from atoll.testbed.record import HostsRecord, Placed

SITES = [
    {"name": "paris", "host": "192.0.2.1", "address": "10.0.0.1", "state": "up", "url": "http://10.0.0.1:15001", "memory_bytes": 5_000_000},
    {"name": "lyon", "host": "192.0.2.2", "address": "10.0.0.2", "state": "unreachable", "url": None, "memory_bytes": None},
]


@pytest.fixture
def record(directory: Path, monkeypatch: pytest.MonkeyPatch) -> HostsRecord:
    """Return the record of a cloud of two sites, whose files exist."""
    state = State(directory)
    state.stamp()
    placed = {site["name"]: Placed(RemoteHost(site["name"], site["host"])) for site in SITES}
    made = HostsRecord(state, parse_cloud("name: coast\nsites: [{name: paris}, {name: lyon}]\n", "cloud.yaml"), placed=placed)
    made.save()
    monkeypatch.setattr(overview, "sites", lambda _record: SITES)
    return made


def test_provider_that_is_not_enoslib(atoll, directory):
    ran = atoll("up", "--provider", "aws:eu")
    assert ran.code == 2
    assert "expected `enoslib:FILE`, such as enoslib:hosts.yaml" in ran.err
    assert not directory.exists()


def test_missing_provider_file(atoll, directory):
    ran = atoll("up", "--provider", "enoslib:/nowhere/hosts.yaml")
    assert (ran.code, "/nowhere/hosts.yaml: no such file" in ran.err) == (1, True)
    assert not directory.exists()


@pytest.mark.usefixtures("cloud")
def test_state_directory_with_a_cloud_of_this_machine(atoll, tmp_path):
    file = tmp_path / "hosts.yaml"
    file.write_text("provider: static\nconfiguration: {}\n")
    assert "a cloud on a testbed needs a state directory of its own" in atoll("up", "--provider", f"enoslib:{file}").err


def test_later_up_needs_no_provider(atoll, record, monkeypatch):
    monkeypatch.setattr(testbed_up, "up", lambda _state, _cache, file, provider, _say: record if (file, provider) == (None, None) else None)
    ran = atoll("up")
    assert "paris  192.0.2.1" in ran.out
    assert f"OS_CLIENT_CONFIG_FILE={record.state.clouds_file}" in ran.out


@pytest.mark.usefixtures("record")
def test_status(atoll):
    lines = atoll("status").out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["paris", "192.0.2.1", "up", "5", "MB", "http://10.0.0.1:15001"],
        ["lyon", "192.0.2.2", "unreachable"],
    ]
    assert json.loads(atoll("status", "lyon", "--json").out) == {"cloud": "coast", "sites": SITES[1:]}
    assert "no site is called rome: expected one of paris, lyon" in atoll("status", "rome").err


@pytest.mark.usefixtures("record")
def test_down_and_destroy(atoll, monkeypatch):
    monkeypatch.setattr(teardown, "down", lambda _state, names: list(names) or ["paris", "lyon"])
    monkeypatch.setattr(teardown, "destroy", lambda _state, _cache, names, _say: list(names))
    assert atoll("down", "lyon").out == "stopped: lyon\n"
    assert atoll("destroy", "lyon").code == 2, "standard input is no terminal, so --yes is needed"
    assert atoll("destroy", "lyon", "--yes").out == "destroyed: lyon\n"


def test_damaged_record(atoll, record):
    (record.state.root / "testbed.json").write_text("{")
    ran = atoll("status")
    assert (ran.code, "testbed.json is damaged" in ran.err) == (1, True)


def test_error_of_a_host_is_one_line(atoll, record, monkeypatch):
    def fail(_state: State, _names: object) -> list[str]:
        raise AtollError("testbed.unreachable", "the host of lyon (192.0.2.2) can't be reached: timed out")

    monkeypatch.setattr(teardown, "down", fail)
    assert atoll("down").err == "error: the host of lyon (192.0.2.2) can't be reached: timed out\n"


EXPERIMENT = "name: small\nrepetitions: 2\narchitectures: [{kind: cooperative, sites: 2}]\nworkloads: {list: {times: 3}}\n"


@pytest.fixture
def files(tmp_path, monkeypatch) -> dict[str, Path]:
    """Return the files of an experiment and of a provider, with clouds that are up at once and a workload that records one sample."""
    monkeypatch.setenv("ATOLL_EXPERIMENTS", str(tmp_path / "runs"))
    monkeypatch.setattr(overview, "sites", lambda _record: SITES)
    monkeypatch.setattr(testbed_cells, "_places", lambda _record: [])
    monkeypatch.setitem(cell_workloads.WORKLOADS, "list", lambda _places, recorder, *_rest: recorder.measure("list", "site-1", int))
    found = {"experiment": tmp_path / "small.yaml", "provider": tmp_path / "hosts.yaml", "log": tmp_path / "log"}
    found["experiment"].write_text(EXPERIMENT)
    found["provider"].write_text("provider: static\nconfiguration: {}\n")

    def note(text: str) -> None:
        with found["log"].open("a") as log:
            log.write(text + "\n")

    def up(state: State, _cache: Path, file: Path, provider: Path, _say: object) -> HostsRecord:
        note(f"up {provider.name}")
        state.stamp()
        made = HostsRecord(state, parse_cloud(file.read_text(), str(file)))
        made.save()
        return made

    monkeypatch.setattr(testbed_up, "up", up)
    monkeypatch.setattr(teardown, "clear", lambda *_arguments: note("clear"))
    monkeypatch.setattr(teardown, "destroy", lambda *_arguments: note("destroy"))
    return found


def test_experiment_on_a_testbed(atoll, files):
    ran = atoll("experiment", "run", str(files["experiment"]), "--provider", f"enoslib:{files['provider']}")
    assert ran.code == 0, ran.err
    # The record of the first cell is still there when the second begins, so its remains are cleared again.
    assert files["log"].read_text().split("\n")[:-1] == ["up hosts.yaml", "clear", "clear", "up hosts.yaml", "clear", "destroy"]
    shown = json.loads(atoll("experiment", "list", "--json").out)
    assert [(run["done"], run["failed"]) for run in shown] == [(2, 0)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: cooperative", "kind: centralised", "site-2 is a compute site: expected full sites"),
        ("kind: cooperative", "kind: regions", "a cell has the architecture `regions`: expected none on a testbed"),
        (
            "[{kind: cooperative, sites: 2}]\nworkloads: {list: {times: 3}}",
            "[{kind: bus, sites: 2}]\nworkloads: {rpc: {}}",
            "a cell has the architecture `bus`: expected none on a testbed",
        ),
        ("workloads:", "links: [{jitter: 1ms}]\nworkloads:", "has `jitter`, which EnOSlib's netem service lacks"),
        ("workloads:", "faults: [{name: cut, steps: [{kind: cut, target: site-2, at: 1s, lasts: 1s}]}]\nworkloads:", "a cell has faults"),
    ],
)
def test_experiment_that_a_testbed_cannot_run(atoll, files, old, new, message):
    files["experiment"].write_text(EXPERIMENT.replace(old, new))
    ran = atoll("experiment", "run", str(files["experiment"]), "--provider", f"enoslib:{files['provider']}")
    assert (ran.code, message in ran.err) == (1, True), ran.err
    assert not files["log"].exists(), "nothing was started"
