"""`atoll experiment` on the command line, with a ground that starts nothing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from atoll.cli import experiments
from atoll.cli.group import cli
from atoll.cli.main import run
from atoll.errors import AtollError
from atoll.experiment.samples import Sample
from atoll.rally.tasks import Checked, Problem

TEXT = """\
name: small
repetitions: 3
architectures: [{kind: cooperative, sites: [1, 2]}]
workloads: {list: {times: 3}}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


@pytest.fixture
def ground(monkeypatch):
    """Record a hundred samples for each cell; `slower` is their factor, and `fail` has numbers of cells that fail or are interrupted."""
    told: dict[str, Any] = {"slower": 1.0, "ran": 0, "fail": {}}

    def run_cell(_directory, _cell, record, _say):
        told["ran"] += 1
        if (error := told["fail"].get(told["ran"])) is not None:
            raise error
        for number in range(100):
            record(Sample("list", "site-1", number, number, number + told["slower"] * (1 + number / 1000)))
        return {"up_s": 1}

    monkeypatch.setattr(experiments, "_ground", run_cell)
    return told


@pytest.fixture
def call(tmp_path):
    def call_(*words, code=0):
        done = CliRunner().invoke(cli, ["experiment", "--runs", str(tmp_path / "runs"), *words])
        assert (done.exit_code if done.exception is None or isinstance(done.exception, SystemExit) else 1) == code, done.output
        return done

    return call_


def test_a_dry_run_tells_the_time_and_begins_nothing(file, ground, call, tmp_path):
    told = call("run", file, "--dry-run").output
    assert told.startswith("small: 6 cells, about ")
    assert told.endswith(" min on two idle cores\n")
    assert ground["ran"] == 0
    assert not (tmp_path / "runs").exists()


def test_a_run_is_done_listed_and_shown(file, ground, call):
    done = call("run", file)
    assert ground["ran"] == 6
    assert "cell 6 of 6: cooperative, sites " in done.stderr
    name = done.stdout.strip().rpartition("/")[2]
    (listed,) = json.loads(call("list", "--json").stdout)
    assert (listed["run"], listed["cells"], listed["done"], listed["failed"]) == (name, 6, 6, 0)
    assert name in call("list").stdout
    shown = json.loads(call("show", "small", "--json").stdout)
    assert len(shown["cells"]) == 6
    assert shown["cells"][0]["medians_s"] == {"list": pytest.approx(1.0495)}
    assert "list 1.0" in call("show", name).stdout


def test_a_second_call_begins_a_new_run(file, ground, call):
    first, second = call("run", file).stdout, call("run", file).stdout
    assert first != second
    assert ground["ran"] == 12


def test_an_interrupted_run_goes_on(file, ground, call):
    ground["fail"] = {3: KeyboardInterrupt()}
    done = CliRunner().invoke(cli, ["experiment", "--runs", f"{file}.runs", "run", file], standalone_mode=False)
    assert done.return_value == 130
    assert "all processes have ended, and finished cells are kept" in done.stderr
    again = CliRunner().invoke(cli, ["experiment", "--runs", f"{file}.runs", "run", file])
    assert again.exception is None
    assert ground["ran"] == 3 + 4
    assert "2 of 6 cells are finished already" in again.stderr
    new = CliRunner().invoke(cli, ["experiment", "--runs", f"{file}.runs", "run", file, "--new"])
    assert new.exception is None
    assert ground["ran"] == 3 + 4 + 6


def test_failed_cells_are_told_and_can_be_run_again(file, ground, tmp_path, capsys):
    ground["fail"] = {2: AtollError("bench.failed", "no site came up")}
    words = ["experiment", "--runs", str(tmp_path / "runs")]
    assert run([*words, "run", file]) == 1
    told = capsys.readouterr().err
    assert "error: 1 of 6 cells failed, 5 are complete" in told
    assert "--retry-failed" in told
    assert run([*words, "run", file, "--retry-failed"]) == 0
    assert ground["ran"] == 7


def test_a_run_is_replayed_as_a_new_one(file, ground, call):
    name = call("run", file).stdout.strip().rpartition("/")[2]
    call("replay", name)
    first, second = json.loads(call("list", "--json").stdout)
    shown = [json.loads(call("show", each["run"], "--json").stdout) for each in (first, second)]
    assert shown[1]["replay_of"] == name
    assert [cell["id"] for cell in shown[0]["cells"]] == [cell["id"] for cell in shown[1]["cells"]]


def test_equal_runs_are_quiet_and_a_slower_one_is_told(file, ground, call):
    call("run", file)
    call("run", file)
    ground["slower"] = 1.1
    call("run", file)
    names = [each["run"] for each in json.loads(call("list", "--json").stdout)]
    assert call("compare", names[0], names[1]).stdout == "2 of 2 compared operations show no difference at 99 %\n"
    lines = call("compare", names[0], names[2]).stdout.splitlines()
    assert lines[0].startswith("list (cooperative, sites 1, list, times 3, order together): 10 % slower (")
    assert lines[-1] == "0 of 2 compared operations show no difference at 99 %"
    told = json.loads(call("compare", names[0], names[2], "--json", "--confidence", "95").stdout)
    assert [each["differs"] for each in told] == [True, True]


def test_a_wrong_file_starts_nothing(file, ground, tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(TEXT.replace("times: 3", "times: no"), encoding="utf-8")
    assert run(["experiment", "--runs", str(tmp_path / "runs"), "run", file]) == 1
    assert "small.yaml:4: workloads.list.times: expected a whole number from 1 to 100000, got false" in capsys.readouterr().err
    assert ground["ran"] == 0
    assert not (tmp_path / "runs").exists()


def test_an_unknown_run_is_told(tmp_path, capsys):
    assert run(["experiment", "--runs", str(tmp_path / "runs"), "show", "large"]) == 1
    assert "no run is called large: expected one of none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "the key `format` is missing"),
        ('{"format": 2}', "the file was written by another version of atoll: its format is 2, not 1"),
        ("null", "expected a mapping"),
        ("{", "Expecting property name"),
        ('{"format": 1, "name": "b"}', "the key `seed` is missing"),
        ('{"format": 1, "name": "b", "seed": 1, "begun": "2026", "cells": []}', "cells: List should have at least 1 item"),
        ('{"format": 1, "name": "b", "seed": 1, "begun": "2026", "cells": [{}]}', "Cell.__init__() missing"),
        (None, "not a regular file"),
    ],
    ids=["empty", "version", "null", "no JSON", "no seed", "no cells", "no cell", "pipe"],
)
def test_a_damaged_run_is_told_once_and_blocks_no_other(file, ground, call, tmp_path, content, reason):
    call("run", file)
    damaged = tmp_path / "runs" / "b" / "run.json"
    damaged.parent.mkdir()
    if content is None:
        os.mkfifo(damaged)
    else:
        damaged.write_text(content, encoding="utf-8")
    for words in (("list",), ("show", "small"), ("compare", "small", "small"), ("run", file), ("run", file, "--new"), ("replay", "small")):
        told = call(*words).stderr
        warnings = [line for line in told.splitlines() if line.startswith("warning: ")]
        assert warnings == [] if "--new" in words else len(warnings) == 1, told
        assert all(line.startswith(f"warning: a damaged run is skipped: {damaged}: {reason}") for line in warnings), told


def test_a_damaged_run_that_is_asked_for_is_an_error_with_the_remedy(tmp_path, capsys):
    damaged = tmp_path / "b"
    damaged.mkdir()
    (damaged / "run.json").write_text("{}", encoding="utf-8")
    assert run(["experiment", "--runs", str(tmp_path), "show", "b"]) == 1
    hint = f"move the directory away, and run the experiment again: {damaged}"
    assert capsys.readouterr().err == f"error: {damaged}/run.json: the key `format` is missing\nhint: {hint}\n"


def test_a_damaged_journal_hides_no_cell(file, ground, call):
    directory = call("run", file).stdout.strip()
    with (Path(directory) / "journal.jsonl").open("ab") as journal:
        cell = json.loads(call("show", "small", "--json").stdout)["cells"][0]["id"]
        journal.write(b'\xff\xff\n[]\n{"cell": "%s", "state": 5}\n{"cell": "%s", "state": "done", "facts": 5}\n' % ((cell.encode(),) * 2))
    assert json.loads(call("list", "--json").stdout)[0]["done"] == 6
    call("show", "small")


RALLY = """\
name: small
architectures: [{kind: cooperative, sites: 1}]
workloads:
  tokens: {rally: Authenticate.keystone}
"""


def test_rally_checks_its_workloads_and_has_files_of_its_own(call, monkeypatch, tmp_path):
    file, checked, works = tmp_path / "rally.yaml", [], []
    file.write_text(RALLY, encoding="utf-8")
    monkeypatch.setattr("atoll.rally.environment.ensure", lambda _say: tmp_path / "python")

    def check(python, workloads):
        checked.extend((python, each["rally"]) for each in workloads)
        return [Checked(None, (Problem("rally", "no such scenario"),) if len(checked) == 1 else ())]

    def run_cell(work, *_rest):
        works.append(work)
        return {}

    monkeypatch.setattr("atoll.rally.tasks.check", check)
    monkeypatch.setattr("atoll.bench.cells.run_cell", run_cell)
    assert f"{file}:4: workloads.tokens.rally: no such scenario" in str(call("run", str(file), code=1).exception)
    call("run", str(file))
    assert checked == [(tmp_path / "python", "Authenticate.keystone")] * 2
    directories = [work.rally.directory for work in works]
    assert len(set(directories)) == 3, "one for each repetition"
    assert all(each.parent.name == "rally" and each.is_relative_to(tmp_path / "runs") for each in directories)
