"""The export of a run: CSV beside Parquet, a card, and a notebook whose code runs and agrees with the tables."""

import contextlib
import csv
import io
import json
import re
from importlib import import_module
from statistics import median

import pytest
from click.testing import CliRunner
from made_runs import make_run
from matplotlib import pyplot

from atoll.cli.group import cli
from atoll.errors import AtollError
from atoll.experiment import samples
from atoll.experiment.data_card import data_card
from atoll.experiment.export import export
from atoll.experiment.run import Run
from atoll.experiment.samples import FaultEvent, Sample
from atoll.experiment.summary import groups

TEXT = """\
name: distance
repetitions: 3
architectures: [{kind: centralised, sites: 3}]
links: [{delay: [0ms, 25ms]}]
workloads:
  boot: {times: 5}
  open-load: {operation: list, seconds: 5}
"""

# The parts of nbformat's schema of version 4.5 (https://github.com/jupyter/nbformat) that concern a notebook without outputs.
_SOURCE = {"type": "array", "items": {"type": "string"}}
_ID = {"type": "string", "pattern": "^[a-zA-Z0-9-_]+$", "minLength": 1, "maxLength": 64}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["metadata", "nbformat_minor", "nbformat", "cells"],
    "properties": {
        "metadata": {
            "type": "object",
            "properties": {
                "kernelspec": {"type": "object", "required": ["name", "display_name"]},
                "language_info": {"type": "object", "required": ["name"]},
            },
        },
        "nbformat_minor": {"type": "integer", "minimum": 5},
        "nbformat": {"type": "integer", "minimum": 4, "maximum": 4},
        "cells": {
            "type": "array",
            "items": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["id", "cell_type", "metadata", "source"],
                        "additionalProperties": False,
                        "properties": {"id": _ID, "cell_type": {"enum": ["markdown"]}, "metadata": {"type": "object"}, "source": _SOURCE},
                    },
                    {
                        "type": "object",
                        "required": ["id", "cell_type", "metadata", "source", "outputs", "execution_count"],
                        "additionalProperties": False,
                        "properties": {
                            "id": _ID,
                            "cell_type": {"enum": ["code"]},
                            "metadata": {"type": "object"},
                            "source": _SOURCE,
                            "outputs": {"type": "array", "maxItems": 0},
                            "execution_count": {"type": ["integer", "null"]},
                        },
                    },
                ]
            },
        },
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"), text=TEXT)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported") / "data"
    export(run, directory)
    return directory


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def execute(directory, monkeypatch):
    """Run the code of the notebook, and return its text and its names."""
    (path,) = directory.glob("*.ipynb")
    monkeypatch.chdir(directory)
    pyplot.switch_backend("Agg")
    names, told = {}, io.StringIO()
    with contextlib.redirect_stdout(told):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    pyplot.close("all")
    return told.getvalue(), names


def test_csv_files_have_every_sample(run, exported):
    told = rows(exported / "samples.csv")
    assert len(told) == sum(len(run.samples(cell)) for cell in run.cells)
    first = next(cell for cell in run.cells if cell.id == told[0]["cell"])
    assert float(told[0]["ended_s"]) == run.samples(first)[0].ended_s
    assert len(rows(exported / "cells.csv")) == len(run.cells)
    assert not (exported / "faults.csv").exists()


def test_the_table_has_intervals_for_every_group(run, exported):
    told = rows(exported / "operations.csv")
    assert len(told) == len(groups(run))
    for row, group in zip(told, groups(run).values(), strict=True):
        assert float(row["median_s"]) == pytest.approx(median(group.all_s))
        assert float(row["median_low_s"]) < float(row["median_s"]) < float(row["median_high_s"])
        assert float(row["served_low"]) < int(row["served"]) / (int(row["served"]) + int(row["failed"])) < float(row["served_high"])


def test_readings_and_numbers_are_exported(run, exported):
    assert len(rows(exported / "usage.csv")) == sum(len(run.usage(cell)) for cell in run.cells)
    assert len(rows(exported / "traffic.csv")) == sum(len(run.traffic(cell)) for cell in run.cells)
    assert {row["memory_mb"] for row in rows(exported / "usage.csv")} == {"", "400.0", "405.0", "410.0", "415.0", "420.0"}
    links = rows(exported / "links.csv")
    assert {(row["source"], row["packets"], row["bytes"], row["dropped"]) for row in links} == {
        (site, "200", "20000", "20") for site in ("site-2", "site-3")
    }
    assert {row["sampler_share"] for row in rows(exported / "cells.csv")} == {"0.02"}
    assert not (exported / "values.csv").exists(), "no cell has other numbers"
    for name in ("usage", "traffic"):
        assert len(list((exported / "parquet" / name).iterdir())) == len(run.cells)


def test_no_column_occurs_twice(exported):
    for path in exported.glob("*.csv"):
        titles = path.read_text(encoding="utf-8").partition("\n")[0].split(",")
        assert len(set(titles)) == len(titles), path.name


def test_parquet_files_are_copied_whole(run, exported):
    for cell in run.cells:
        read, metadata = samples.read(exported / "parquet" / "samples" / f"{cell.id}.parquet")
        assert read == run.samples(cell)
        assert metadata["cell"]["id"] == cell.id


def test_the_card_tells_subject_method_and_limits(tmp_path):
    run = make_run(tmp_path, text="# How far may a site be?\n#\n#   a ----- b\n" + TEXT + "# no part of the subject\n")
    card = data_card(run, ["delay"])
    assert "```text\nHow far may a site be?\n\n  a ----- b\n```" in card
    assert "no part of the subject" not in card
    assert re.search(r"begun \d{4}-\d\d-\d\d \d\d:\d\d UTC, seed 0\.", card)
    assert re.search(r"The machine was idle for \d+ (to \d+ )?% of the time", card)
    assert "All sites ran on one machine" in card
    far = Run(run.directory, {**run.about, "provider": "hosts.yaml"}, run.cells)
    assert "Sites ran on hosts of a testbed" in data_card(far, ["delay"])
    (run.directory / "experiment.yaml").unlink()
    assert "An experiment with emulated OpenStack clouds." in data_card(run, ["delay"])


def test_the_file_of_the_experiment_is_exported(exported, run):
    assert (exported / "experiment.yaml").read_text(encoding="utf-8") == run.document == TEXT


def test_the_card_names_every_file_and_the_licence(exported):
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in card
    assert "https://creativecommons.org/licenses/by/4.0/" in card
    assert all(f"`{path.name}`" in card for path in exported.glob("*.csv"))


def test_the_notebook_is_valid(exported, run):
    content = json.loads((exported / f"{run.name}.ipynb").read_text(encoding="utf-8"))
    import_module("jsonschema").validate(content, SCHEMA)
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)


def test_the_notebook_runs_and_agrees_with_the_table(exported, monkeypatch):
    told, names = execute(exported, monkeypatch)
    assert told.count("median") == len(rows(exported / "operations.csv"))
    assert names["VARYING"][:2] == ["delay", "workload"]
    assert sum(map(len, names["groups"].values())) == sum(int(row["served"]) for row in rows(exported / "operations.csv"))
    assert {at for line in names["lines"].values() for at in line} == {0.0, 50.0}, "round trips, from one-way delays"


def test_faults_are_exported(tmp_path, monkeypatch):
    text = TEXT.replace("workloads:", "faults: [{name: cut, steps: [{kind: cut, target: site-2, at: 3s}]}]\nworkloads:")
    run = make_run(tmp_path / "runs", text=text)
    for cell in run.cells:
        run.save(cell, [Sample("boot", "site-2", 1, 1, 2), FaultEvent(1, "cut", "site-2", "at 3s", 3, 3, 9, 9)])
    export(run, tmp_path / "data")
    assert [row["target"] for row in rows(tmp_path / "data" / "faults.csv")] == ["site-2"] * len(run.cells)
    assert {row["phase"] for row in rows(tmp_path / "data" / "phases.csv")} == {"before"}
    assert "fault" in execute(tmp_path / "data", monkeypatch)[1]


def test_nothing_is_written_over(run, tmp_path):
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(AtollError, match="new or empty") as raised:
        export(run, tmp_path)
    assert raised.value.kind.code == "experiment.not_empty"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_verb_exports(run, tmp_path):
    words = ["experiment", "--runs", str(run.directory.parent), "export", "distance", "--output", str(tmp_path / "data")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert (tmp_path / "data" / "operations.csv").is_file()
