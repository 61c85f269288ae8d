"""Runs: cells in their order, on after failures, after crashes and after Ctrl-C, with all samples and facts kept."""

import json
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.experiment import samples
from atoll.experiment.document import parse_experiment
from atoll.experiment.machine import MachineWatch, describe
from atoll.experiment.run import create, find, load, runs
from atoll.experiment.runner import execute
from atoll.experiment.samples import Reading, Sample
from atoll.experiment.summary import cells as summary
from atoll.experiment.sweep import cells

TEXT = """\
name: small
repetitions: 2
architectures: [{kind: cooperative, sites: [1, 2]}]
workloads: {list: {times: 3}}
"""


@pytest.fixture
def run(tmp_path):
    made = cells(parse_experiment(TEXT, "x.yaml"), Path())
    return create(tmp_path / "runs", {"name": "small", "seed": 0, "machine": describe()}, made, TEXT)


class CellRunner:
    """Records three samples for a cell, unless it is to fail."""

    def __init__(self, **raises) -> None:
        self.ran, self.raises = [], raises

    def __call__(self, cell, record, say):
        self.ran.append(cell.id)
        for number in range(3):
            record(Sample("list", "site-1", number, number, number + 0.5 + number / 10))
        if (error := self.raises.get(str(len(self.ran)))) is not None:
            raise error
        return {"up_s": 1.0}


def test_all_cells_run_in_their_order_and_are_kept(run):
    said = []
    outcome = execute(run, run_cell := CellRunner(), said.append)
    assert (outcome.done, outcome.failed) == (4, 0)
    assert run_cell.ran == [cell.id for cell in run.cells]
    assert said[0].startswith("cell 1 of 4: cooperative, sites ")
    assert "left" not in said[0]
    assert "; about 0 s left" in said[1]
    again = load(run.directory)
    assert again.cells == tuple(type(cell).from_json(json.loads(json.dumps(cell.to_json()))) for cell in run.cells)
    for cell in again.cells:
        assert again.samples(cell) == [Sample("list", "site-1", n, n, n + 0.5 + n / 10, database="sqlite") for n in range(3)]
        state = again.states()[cell.id]
        assert state.facts["up_s"] == 1.0
        assert 0 <= state.facts["idle_share"] <= 1
        assert again.readings(cell)
    told = summary(again)
    assert [each["medians_s"] for each in told] == [{"list": pytest.approx(0.6)}] * 4


def test_samples_say_all_that_is_needed_to_repeat_them(run):
    execute(run, CellRunner(), lambda _text: None)
    cell = run.cells[0]
    _rows, metadata = samples.read(run.directory / "samples" / f"{cell.id}.parquet")
    assert metadata["cell"] == json.loads(json.dumps(cell.to_json()))
    assert metadata["cell"]["cloud"]["sites"]
    assert metadata["run"]["machine"]["packages"]["nova"]
    assert {"seed", "name", "begun"} <= metadata["run"].keys()
    assert (run.directory / "experiment.yaml").read_text(encoding="utf-8") == TEXT


def test_a_failed_cell_is_told_and_does_not_end_the_run(run):
    said = []
    error = AtollError("bench.failed", "no site came up")
    outcome = execute(run, CellRunner(**{"2": error, "3": ValueError("a bug")}), said.append)
    assert (outcome.done, outcome.failed) == (2, 2)
    assert [line.partition("s: ")[2] for line in said if "failed" in line] == ["no site came up", "ValueError: a bug"]
    states = run.states()
    assert [states[cell.id].state for cell in run.cells] == ["done", "failed", "failed", "done"]
    assert states[run.cells[1].id].error == "no site came up"
    run_cell = CellRunner()
    assert execute(run, run_cell, said.append).failed == 2
    assert run_cell.ran == []
    assert execute(run, run_cell, said.append, again=True).done == 4
    assert run_cell.ran == [run.cells[1].id, run.cells[2].id]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_goes_on_where_it_was(run, kind):
    with pytest.raises(kind):
        execute(run, CellRunner(**{"2": kind()}), lambda _text: None)
    assert [run.states()[cell.id].state for cell in run.cells] == ["done", "running", "waiting", "waiting"]
    assert len(run.samples(run.cells[0])) == 3
    run_cell, said = CellRunner(), []
    assert execute(load(run.directory), run_cell, said.append).done == 4
    assert run_cell.ran == [cell.id for cell in run.cells[1:]]
    assert said[0].endswith("1 of 4 cells are finished already")


def test_two_commands_do_not_execute_one_run(run):
    with run.locked(), pytest.raises(AtollError, match=f"another command executes the run {run.name} now") as raised:
        execute(run, CellRunner(), lambda _text: None)
    assert raised.value.kind.code == "experiment.busy"
    assert execute(run, CellRunner(), lambda _text: None).done == 4


def test_a_line_that_a_crash_cut_off_is_ignored(run):
    execute(run, CellRunner(), lambda _text: None)
    journal = run.directory / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    states = [run.states()[cell.id].state for cell in run.cells]
    assert states == ["done", "done", "done", "running"]
    run_cell = CellRunner()
    assert execute(run, run_cell, lambda _text: None).done == 4
    assert run_cell.ran == [run.cells[3].id]
    assert [run.states()[cell.id].state for cell in run.cells] == ["done"] * 4


def test_runs_are_found_by_name_experiment_and_path(run, tmp_path):
    base = tmp_path / "runs"
    later = create(base, {"name": "small", "seed": 0}, run.cells)
    (base / "other").mkdir()
    assert [each.name for each in runs(base, pytest.fail)] == [run.name, later.name]
    assert find(base, run.name, pytest.fail).directory == run.directory
    assert find(base, "small", pytest.fail).directory == later.directory
    assert find(Path("/nowhere"), str(run.directory), pytest.fail).directory == run.directory
    with pytest.raises(AtollError, match=f"no run is called large: expected one of {run.name}, {later.name}"):
        find(base, "large", pytest.fail)


def test_a_damaged_run_is_told(run):
    (run.directory / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(AtollError) as raised:
        load(run.directory)
    assert raised.value.kind.code == "experiment.damaged"


def test_damaged_samples_are_told(run):
    execute(run, CellRunner(), lambda _text: None)
    path = run.directory / "samples" / f"{run.cells[0].id}.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(AtollError, match="expected a Parquet file written by a run") as raised:
        run.samples(run.cells[0])
    assert raised.value.kind.code == "experiment.damaged"


def test_the_machine_is_watched():
    with MachineWatch(0.01) as watch:
        while len(watch.readings) < 3:
            pass
    assert all(0 <= reading.idle <= 1 and reading.available_mb > 0 for reading in watch.readings)
    assert watch.idle_share is not None
    assert MachineWatch().idle_share is None


def test_idle_shares_are_weighted_by_their_time():
    watch = MachineWatch()
    watch.readings = [Reading(1.0, 1.0, 0), Reading(4.0, 0.0, 0)]
    assert watch.idle_share == 0.25


def test_a_missing_library_is_told_before_anything_runs(run, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(samples, "import_module", missing)
    run_cell = CellRunner()
    with pytest.raises(AtollError, match="arro3") as raised:
        execute(run, run_cell, lambda _text: None)
    assert raised.value.kind.code == "experiment.requirement"
    assert run_cell.ran == []
