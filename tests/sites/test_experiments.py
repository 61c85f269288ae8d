"""Experiments with real clouds: Ctrl-C leaves no process, the same command goes on, and faults happen when they should."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from atoll.bench.cell_faults.disks import lacking
from atoll.bench.standard.servers import check_packages
from atoll.errors import AtollError

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="clients work in the networks of several sites: needs root")]

TEXT = """\
name: small
repetitions: 1
architectures: [{kind: centralised, sites: 2}]
links: [{delay: 10ms}]
workloads: {token: {times: 3}, list: {times: 3}}
"""
UP_S = 800

# A shell that starts this test in the background has it ignore Ctrl-C, which children inherit.
PROGRAM = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from atoll.cli.main import main; main()"


@pytest.fixture
def temporary():
    """Yield a directory whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="x") as directory:
        yield Path(directory)


def _command(tmp_path, *words):
    return [sys.executable, "-c", PROGRAM, "experiment", "--runs", str(tmp_path / "runs"), *words]


def _run(tmp_path, *words):
    return subprocess.run(_command(tmp_path, *words), capture_output=True, text=True, timeout=2 * UP_S, check=True)


def _mine(temporary):
    """Return the processes whose command line or directory is below a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(temporary) in word for word in [*process.cmdline(), process.cwd()]) and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _children(pid):
    """Return the command lines of the live descendants of a process."""
    lines = []
    with suppress(psutil.NoSuchProcess):
        lines += [" ".join(child.cmdline()) for child in psutil.Process(pid).children(recursive=True)]
    return lines


@pytest.mark.timeout(3 * UP_S)
def test_an_interrupted_experiment_leaves_nothing_and_goes_on(tmp_path, temporary):
    file = tmp_path / "small.yaml"
    file.write_text(TEXT, encoding="utf-8")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        _command(tmp_path, "run", str(file)), env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:  # fmt: skip
        deadline = time.monotonic() + UP_S
        while not any("supervisor" in line for line in _children(process.pid)):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 130, said
    assert "error: interrupted" in said
    assert _mine(temporary) == []
    assert list(temporary.iterdir()) == []
    _run(tmp_path, "run", str(file))
    shown = json.loads(_run(tmp_path, "show", "small", "--json").stdout)
    assert [cell["state"] for cell in shown["cells"]] == ["done", "done"]
    assert all(cell["facts"]["memory_mb"] > 0 and cell["facts"]["samples"] == 6 for cell in shown["cells"])
    compared = json.loads(_run(tmp_path, "compare", "small", "small", "--json").stdout)
    assert {(each["operation"], each["place"], each["differs"]) for each in compared} == {
        (operation, place, False) for operation in ("token", "list") for place in ("full", "compute")
    }
    _run(tmp_path, "report", "small", "--output", str(tmp_path / "small.html"))
    assert "Distribution of latencies: token" in (tmp_path / "small.html").read_text(encoding="utf-8")


FAULTS = """\
name: faulty
repetitions: 1
architectures:
- {kind: cooperative, sites: 2}
- {kind: regions, sites: 2}
links: [{delay: 10ms}]
faults:
- name: four
  steps:
  - {kind: clock, target: site-2, ahead: 5min, at: 0s, lasts: 2s}
  - {kind: cut, target: site-2, at: 1s, lasts: 4s}
  - {kind: kill, target: site-1/glance, at: 6s}
  - kind: degrade
    target: site-1:site-2
    when: {span: GET /v2.0/networks*, service: neutron, site: site-2, number: 5}
    delay: 40ms
    lasts: 1s
workloads: {open-load: {operation: networks, rate: 3, seconds: 20, timeout_s: 60}}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="wrong clocks need a C compiler")
@pytest.mark.timeout(3 * UP_S)
def test_faults_happen_at_their_times_and_points_and_leave_nothing(tmp_path, temporary):
    file = tmp_path / "faulty.yaml"
    file.write_text(FAULTS, encoding="utf-8")
    done = subprocess.run(
        _command(tmp_path, "run", str(file)), env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _mine(temporary) == []
    assert list(temporary.iterdir()) == []
    data = tmp_path / "data"
    _run(tmp_path, "export", "faulty", "--output", str(data))
    with (data / "faults.csv").open(encoding="utf-8", newline="") as opened:
        events = list(csv.DictReader(opened))
    assert sorted(event["kind"] for event in events) == sorted(["clock", "cut", "kill", "degrade"] * 2)
    for event in events:
        started, effective, undone, ended = (float(event[name]) for name in ("started_s", "effective_s", "undone_s", "ended_s"))
        assert event["error"] == ""
        assert started <= effective <= undone <= ended
        if event["kind"] == "cut":
            assert started >= 1
            assert undone - effective >= 4
    # A network that a region lists needs no other region, whatever befalls the link between them.
    with (data / "phases.csv").open(encoding="utf-8", newline="") as opened:
        served = {(row["factors"].partition(",")[0], row["phase"]): row for row in csv.DictReader(opened)}
    assert all(int(row["served"]) == int(row["operations"]) for (name, _phase), row in served.items() if name == "regions")
    _run(tmp_path, "report", "faulty", "--output", str(tmp_path / "faulty.html"))
    assert "Time-line: cooperative" in (tmp_path / "faulty.html").read_text(encoding="utf-8")


STANDARD = """\
name: engines
repetitions: 1
architectures:
- {kind: standard, sites: 2}
databases: {start: mariadb}
links: [{delay: 10ms}]
faults:
- name: control-dies
  steps:
  - {kind: kill, target: site-1, at: 3s, lasts: 2s}
workloads: {open-load: {operation: image-create, rate: 1, seconds: 90, timeout_s: 10}}
"""


@pytest.mark.timeout(3 * UP_S)
def test_a_standard_deployment_outlives_the_loss_of_its_control_site(tmp_path, temporary):
    try:
        check_packages("this test", ["mariadb-server", "rabbitmq-server"])
    except AtollError as error:
        pytest.skip(error.message)
    row, phases = _faulty(tmp_path, temporary, STANDARD)
    assert (row["database"], row["flush"]) == ("mariadb", "innodb_flush_log_at_trx_commit=1")
    assert int(row["served"]) > 0
    assert int(phases["during"]["served"]) < int(phases["during"]["operations"])
    assert int(phases["after"]["served"]) > 0


DISKS = """\
name: engines
repetitions: 1
architectures:
- {kind: cooperative, sites: 1}
faults:
- name: disk
  steps:
  - {kind: KIND, target: site-1, at: 3s, lasts: 20s}
workloads: {open-load: {operation: image-create, rate: 2, seconds: 90, timeout_s: 10}}
"""


@pytest.mark.parametrize("kind", ["power-cut", "full-disk"])
@pytest.mark.timeout(3 * UP_S)
def test_a_site_outlives_a_fault_of_its_disk(tmp_path, temporary, kind):
    if why := lacking(tmp_path):
        pytest.skip(why)
    _row, phases = _faulty(tmp_path, temporary, DISKS.replace("KIND", kind))
    assert int(phases["during"]["served"]) < int(phases["during"]["operations"])
    assert int(phases["after"]["served"]) > 0
    assert str(temporary) not in Path("/proc/mounts").read_text(encoding="utf-8")


def _data(tmp_path, temporary, text):
    """Run an experiment, check that it leaves nothing, and return the directory of its exported data."""
    file, data = tmp_path / "engines.yaml", tmp_path / "data"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        _command(tmp_path, "run", str(file)), env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _mine(temporary) == []
    assert list(temporary.iterdir()) == []
    _run(tmp_path, "export", "engines", "--output", str(data))
    return data


def _faulty(tmp_path, temporary, text):
    """Run an experiment, and return the row of its only operation and its phases at the sites that the fault concerns."""
    data = _data(tmp_path, temporary, text)
    with (data / "operations.csv").open(encoding="utf-8", newline="") as opened:
        row = next(row for row in csv.DictReader(opened) if row["users"] in {"full", "all"})
    with (data / "phases.csv").open(encoding="utf-8", newline="") as opened:
        return row, {phase["phase"]: phase for phase in csv.DictReader(opened) if phase["users"] == "concerned"}


BUS = """\
name: engines
repetitions: 1
architectures: [{kind: bus, sites: 2, transport: TRANSPORT}]
links: [{delay: [0ms, 40ms]}]
workloads: {rpc: {operation: [call, fanout], targets: [one, each], clients: 4, servers: 2, rate: 20, seconds: 2}}
"""


@pytest.mark.parametrize("transport", ["zenoh", "rabbit"])
@pytest.mark.timeout(3 * UP_S)
def test_a_bus_between_sites_is_measured(tmp_path, temporary, transport):
    if transport == "rabbit":
        try:
            check_packages("the test", ["rabbitmq-server"])
        except AtollError as error:
            pytest.skip(error.message)
    data = _data(tmp_path, temporary, BUS.replace("TRANSPORT", transport))
    with (data / "operations.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["operation"] for row in rows} == {"call", "fanout", "delivery"}
    assert sum(int(row["failed"]) for row in rows) == 0
    # The fastest call between the sites takes at least one round trip; in a site, on Zenoh, none.
    with (data / "samples.csv").open(encoding="utf-8", newline="") as opened:
        calls = [row for row in csv.DictReader(opened) if row["operation"] == "call" and row["site"] == "site-2"]
    with (data / "cells.csv").open(encoding="utf-8", newline="") as opened:
        far = {row["cell"]: row["factor_targets"] for row in csv.DictReader(opened) if row["factor_delay"] == "40ms"}
    times = [float(row["ended_s"]) - float(row["started_s"]) for row in calls if far.get(row["cell"]) == "each"]
    assert min(times) >= 0.16 if transport == "rabbit" else min(times) < 0.08
    with (data / "links.csv").open(encoding="utf-8", newline="") as opened:
        assert any(int(row["bytes"]) > 0 for row in csv.DictReader(opened))
    with (data / "values.csv").open(encoding="utf-8", newline="") as opened:
        assert {row["value"] for row in csv.DictReader(opened) if row["name"] == "delivered messages"} == {"100.0"}


def test_hollow_members_are_measured(tmp_path, temporary):
    text = "name: engines\nrepetitions: 1\narchitectures: [{kind: hollow, sites: [4, 8]}]\n"
    data = _data(tmp_path, temporary, text + "workloads: {membership: {settle_s: 1, idle_s: 5, cut_s: 5}}\n")
    with (data / "values.csv").open(encoding="utf-8", newline="") as opened:
        idle = [float(row["value"]) for row in csv.DictReader(opened) if row["name"] == "traffic that an idle member sends"]
    assert len(idle) == 2
    assert all(value > 0 for value in idle)
