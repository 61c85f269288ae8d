"""`atoll experiment`: runs experiments from files, in clouds of their own, and reports their results."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import client_environment
from atoll.cli.output import data_console, duration, new_table, plain, print_json
from atoll.cli.verb import Finite, Group, group, json_option, verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from atoll.bench.cells import Work
    from atoll.experiment.document import Experiment
    from atoll.experiment.run import Run
    from atoll.experiment.runner import CellRunner, Record, Say
    from atoll.experiment.samples import Row
    from atoll.experiment.sweep import Cell
    from atoll.rally.tasks import Checked


class _Experiments(Group):
    """A group of commands that keep the finished cells of a run if they are interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from atoll.cli.main import INTERRUPTED

            hint = "all processes have ended, and finished cells are kept: the same command continues with the other cells"
            click.echo(f"error: interrupted\nhint: {hint}", err=True)
            return INTERRUPTED


@group("experiment", "atoll experiment run examples/experiments/distance.yaml\natoll experiment show distance", _Experiments)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ATOLL_EXPERIMENTS",
    metavar="DIR",
    help="The directory of all runs. [env: ATOLL_EXPERIMENTS; default: $XDG_DATA_HOME/atoll/experiments]",
)
@click.pass_context
def command(ctx: click.Context, runs: Path | None) -> None:
    """Run experiments from files, and compare their results.

    Each cell of an experiment has a cloud of its own. A run has a directory, with its cells, a journal of their states, and raw samples in
    Parquet. RUN is the name of that directory, the name of the experiment (its latest run), or a path.
    """
    if runs is None:
        from platformdirs import user_data_path

        runs = user_data_path("atoll") / "experiments"
    ctx.meta["runs"] = runs.absolute()


def _base() -> Path:
    base = click.get_current_context().meta["runs"]
    assert isinstance(base, Path)
    return base


def _say(text: str) -> None:
    click.echo(f"experiment: {text}", err=True)


def _warn(text: str) -> None:
    """Show a warning, once in a command."""
    shown = click.get_current_context().meta.setdefault("warned", set())
    if text not in shown:
        shown.add(text)
        click.echo(plain(f"warning: {text}"), err=True)


def _ground(directory: Path, cell: Cell, record: Record, say: Say) -> Mapping[str, Any]:
    """Run a cell in a cloud on this machine.

    Args:
        directory: the directory of the run.
        cell: the cell.
        record: stores a row of one of the cell's tables.
        say: called with lines about the progress.
    """
    from dataclasses import replace

    from atoll.bench import bus_cells, cells, hollow_cells
    from atoll.bench.cells import Records
    from atoll.bench.rally_workload import RallySetting
    from atoll.experiment.samples import FaultEvent, Sample, TrafficReading, UsageReading, Value
    from atoll.rally.environment import ensure

    def recording(kind: Callable[..., Row]) -> Callable[..., None]:
        return lambda *fields: record(kind(*fields))

    records = Records(*map(recording, (Sample, FaultEvent, UsageReading, TrafficReading, Value)))
    work = _work(cell)
    if "rally" in cell.parameters:
        work = replace(work, rally=RallySetting(ensure(say), directory / "rally" / cell.id))
    run_cell = {"cloud": cells.run_cell, "bus": bus_cells.run_cell, "hollow": hollow_cells.run_cell}[cell.system]
    return run_cell(work, client_environment(os.environ), records, say)


def _ground_on(provider: Path) -> CellRunner:
    """Return a function that runs a cell on the hosts of a provider of EnOSlib; see `atoll.cli.testbed_cells`."""
    from atoll.cli import testbed_cells
    from atoll.experiment.samples import Sample

    def run_cell(cell: Cell, record: Record, say: Say) -> Mapping[str, Any]:
        return testbed_cells.run_cell(_hosts(), provider, _work(cell), lambda *fields: record(Sample(*fields)), say)

    return run_cell


def _hosts() -> Path:
    """Return the state directory of the hosts that an experiment uses."""
    return _base() / ".testbed"


def _work(cell: Cell) -> Work:
    from atoll.bench.cells import Work

    return Work(cell.cloud, cell.workload, cell.parameters, cell.seed, cell.faults, cell.broker, cell.rabbitmq, system=cell.system)


def _check_by_rally(workloads: Sequence[Mapping[str, Any]]) -> Sequence[Checked]:
    """Have Rally check workloads; the first use makes its environment."""
    from atoll.rally import environment, tasks

    return tasks.check(environment.ensure(_say), workloads)


def _check(cells: Iterable[Cell]) -> None:
    """Refuse cells that this machine or this user can't run."""
    from atoll.bench import cell_requirements

    cells = list(cells)
    cell_requirements.check(map(_work, cells))
    if any("rally" in cell.parameters for cell in cells):
        from atoll.rally.environment import ensure

        ensure(_say)


@verb("run", "atoll experiment run examples/experiments/distance.yaml\natoll experiment run my-experiment.yaml --retry-failed")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--new", is_flag=True, help="Begin a new run, even if one of the same file is unfinished.")
@click.option("--retry-failed", is_flag=True, help="Run failed cells again.")
@click.option("--dry-run", is_flag=True, help="Only check FILE, and print the number of cells and an estimate of the time.")
@click.option("--provider", metavar="enoslib:FILE", help="Put the sites on hosts that EnOSlib reserves, as `atoll up --provider` does.")
def run_(file: Path, *, new: bool, retry_failed: bool, dry_run: bool, provider: str | None) -> int:
    """Run the experiment of FILE, or continue its latest run if that is unfinished.

    Every combination of the items of lists in FILE is a cell. Cells run in an order that is random, but follows from the seed. A failed
    cell does not end the run, but makes the exit code 1. The command needs root, because clients work in the networks of several sites.

    With --provider, the sites of each cell run on hosts of a testbed, and the clients on this machine. The hosts are released at the end.
    """
    from atoll.cli import testbed_cells, testbeds
    from atoll.experiment import machine
    from atoll.experiment.document import read_experiment
    from atoll.experiment.run import create
    from atoll.experiment.sweep import cells

    experiment = read_experiment(file, _check_by_rally)
    made = cells(experiment, file.parent)
    if dry_run:
        from atoll.experiment.estimate import seconds

        click.echo(f"{experiment.name}: {len(made)} cells, about {seconds(made) / 60:.0f} min on two idle cores")
        return 0
    path = None if provider is None else testbeds.provider_file(provider).absolute()
    if path is None:
        _check(made)
    else:
        testbed_cells.check(path, map(_work, made))
    run = None if new else _unfinished(experiment.name, [cell.to_json() for cell in made], path, again=retry_failed)
    if run is None:
        about = {"name": experiment.name, "seed": experiment.seed, "machine": machine.describe(), **_expected(experiment), **_named(path)}
        run = create(_base(), about, made, file.read_text(encoding="utf-8"))
    if path is None:
        return _execute(run, again=retry_failed)
    with testbed_cells.released(_hosts(), _say):
        return _execute(run, again=retry_failed, ground=_ground_on(path))


def _expected(experiment: Experiment) -> dict[str, Any]:
    """Return the entry of a run's description with the shapes that its experiment expects; an empty mapping without any."""
    return {"expect": [shape.model_dump(exclude_none=True) for shape in experiment.expect]} if experiment.expect else {}


def _named(provider: Path | None) -> dict[str, str]:
    """Return the entry of a run's description that names the provider's file; an empty mapping for a run on this machine."""
    return {} if provider is None else {"provider": str(provider)}


def _unfinished(name: str, cells: list[dict[str, Any]], provider: Path | None, *, again: bool) -> Run | None:
    """Return the latest run of the same cells with the same provider, or without one, if it is unfinished."""
    from atoll.experiment.run import runs

    wanted = json.loads(json.dumps(cells))
    named = [
        run for run in runs(_base(), _warn) if run.about["name"] == name and run.about.get("provider") == _named(provider).get("provider")
    ]
    same = [run for run in named if [cell.to_json() for cell in run.cells] == wanted]
    if not same:
        return None
    finished = {"done"} if again else {"done", "failed"}
    return same[-1] if any(state.state not in finished for state in same[-1].states().values()) else None


def _execute(run: Run, *, again: bool, ground: CellRunner | None = None) -> int:
    from functools import partial

    from atoll.errors import AtollError
    from atoll.experiment.runner import execute

    _say(f"{run.name}: {len(run.cells)} cells, in {run.directory}")
    outcome = execute(run, ground or partial(_ground, run.directory), _say, again=again)
    click.echo(str(run.directory))
    sys.stdout.flush()
    if outcome.failed:
        hint = f"`atoll experiment show {run.name}` shows the reasons; `--retry-failed` runs the failed cells again"
        raise AtollError("experiment.failed", f"{outcome.failed} of {len(run.cells)} cells failed, {outcome.done} are complete", hint)
    return 0


@verb("replay", "atoll experiment replay distance-20260101T120000")
@click.argument("run", metavar="RUN")
def replay(run: str) -> int:
    """Run the cells of RUN again, in the same order and with the same seeds, as a new run."""
    from atoll.experiment import machine
    from atoll.experiment.run import create, find

    old = find(_base(), run, _warn)
    _check(old.cells)
    kept = {name: old.about[name] for name in ("name", "seed", "expect") if name in old.about}
    about = {**kept, "machine": machine.describe(), "replay_of": old.name}
    return _execute(create(_base(), about, old.cells), again=False)


@verb("list", "atoll experiment list\natoll experiment list --json")
@json_option
def list_(*, as_json: bool) -> None:
    """List all runs with the states of their cells, the oldest first."""
    from atoll.experiment.run import runs

    told = []
    for run in runs(_base(), _warn):
        states = [state.state for state in run.states().values()]
        counts = {name: states.count(name) for name in ("done", "failed", "running", "waiting")}
        told.append({"run": run.name, "name": run.about["name"], "begun": run.about["begun"], "cells": len(run.cells), **counts})
    if as_json:
        print_json(told)
        return
    titles = ("RUN", "CELLS", "DONE", "FAILED", "LEFT")
    table = new_table(*titles, numbers=titles[1:])
    for each in told:
        left = each["cells"] - each["done"] - each["failed"]
        table.add_row(each["run"], *(str(number) for number in (each["cells"], each["done"], each["failed"], left)))
    data_console().print(table)


@verb("show", "atoll experiment show distance\natoll experiment show distance --json")
@click.argument("run", metavar="RUN")
@json_option
def show(run: str, *, as_json: bool) -> None:
    """Show the cells of RUN with their states, and the median times of their operations in seconds."""
    from atoll.experiment.run import find
    from atoll.experiment.summary import cells

    found = find(_base(), run, _warn)
    told = cells(found)
    if as_json:
        print_json({"run": found.name, **found.about, "cells": told})
        return
    table = new_table("CELL", "REP", "STATE", "TOOK", "IDLE", "MEDIANS", numbers=("REP", "TOOK", "IDLE"), wrapped=("CELL", "MEDIANS"))
    for each in told:
        facts = each["facts"]
        idle = "" if facts.get("idle_share") is None else f"{100 * facts['idle_share']:.0f} %"
        medians = each["error"] or ", ".join(f"{name} {value:.3f} s" for name, value in each["medians_s"].items())
        table.add_row(each["label"], str(each["repetition"]), each["state"], duration(facts.get("seconds")), idle, medians)
    data_console().print(table)


@verb("check", "atoll experiment check boston-2017")
@click.argument("run", metavar="RUN")
@json_option
def check(run: str, *, as_json: bool) -> int:
    """Compare the results of RUN with the shapes that its experiment expects (`expect` in its file).

    The exit code is 1 if a shape does not hold, or was not measured.
    """
    from atoll.experiment.run import find
    from atoll.experiment.shape_report import judged

    found = judged(find(_base(), run, _warn))
    if as_json:
        print_json([{"shape": each.shape.told, "line": each.line, "measured": each.measured, "holds": each.holds} for each in found])
    else:
        table = new_table("SHAPE", "LINE", "MEASURED", "HOLDS", wrapped=("SHAPE", "LINE"))
        for each in found:
            table.add_row(each.shape.told, each.line, each.measured, {True: "yes", False: "no", None: "not measured"}[each.holds])
        data_console().print(table)
    return 0 if all(each.holds for each in found) else 1


@verb("compare", "atoll experiment compare distance-20260101T120000 distance\natoll experiment compare A B --confidence 95 --json")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--confidence",
    type=Finite(min=50, max=100, max_open=True),
    default=99,
    show_default=True,
    help="The confidence level of the whole comparison, in %.",
)
@json_option
def compare(first: str, second: str, confidence: float, *, as_json: bool) -> None:
    """Print the operations that are slower or faster, or fail more or less often, in run B than in run A, beyond chance.

    Latencies are compared by ranks, over all repetitions of the same factors. Differences between repetitions of one run are taken into
    account.
    """
    from atoll.experiment import compare as comparison
    from atoll.experiment.run import find
    from atoll.experiment.summary import groups

    left, right = (groups(find(_base(), name, _warn)) for name in (first, second))
    found = comparison.compare(left, right, confidence / 100)
    if as_json:
        print_json([each.to_json() for each in found])
        return
    for each in found:
        if each.differs or each.uneven:
            click.echo(comparison.describe(each))
    quiet = sum(not each.differs for each in found)
    click.echo(f"{quiet} of {len(found)} compared operations show no difference at {confidence:g} %")
    if alone := len({*left} ^ {*right}):
        click.echo(f"{alone} operations are only in one of the runs")


@verb(
    "report", "atoll experiment report distance --output distance.html\natoll experiment report distance --against A --output changes.html"
)
@click.argument("run", metavar="RUN")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE", help="The page to write.")
@click.option("--against", metavar="RUN", help="An earlier run; the page then also describes the differences from it.")
def report(run: str, output: Path, against: str | None) -> None:
    """Write an HTML page about RUN that needs no network: plots of latencies, the table of all operations, cells and machine."""
    from atoll.experiment import report as page
    from atoll.experiment.run import find

    earlier = None if against is None else find(_base(), against, _warn)
    output.write_text(page.render(find(_base(), run, _warn), earlier), encoding="utf-8")
    click.echo(f"wrote {output}", err=True)


@verb("export", "atoll experiment export distance --output distance-data")
@click.argument("run", metavar="RUN")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR", help="A new or empty directory."
)
def export(run: str, output: Path) -> None:
    """Write the data of RUN as CSV beside Parquet, with a notebook that starts from them and a card that describes them."""
    from atoll.experiment import export as exported
    from atoll.experiment.run import find

    exported.export(find(_base(), run, _warn), output)
    click.echo(f"wrote {output}", err=True)


for _each in (run_, replay, list_, show, compare, check, report, export):
    command.add_command(_each)
