"""A Jupyter notebook about an exported run, in the notebook format 4.5: JSON with a list of cells.

Its code needs only the standard library and matplotlib, and reads the CSV files beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from atoll.experiment.run import Run

_READ = """\
import csv
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt


def read(name):
    \"\"\"Return the rows of a CSV file as dictionaries.\"\"\"
    with Path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


cells = {row["cell"]: row for row in read("cells.csv")}
samples = [row for row in read("samples.csv") if row["ok"] == "True"]
for row in samples:
    row["latency_s"] = float(row["ended_s"]) - float(row["intended_s"])

FACTORS = @FACTORS@


def group(row):
    \"\"\"Return the operation of a sample with those factors that vary.\"\"\"
    cell = cells[row["cell"]]
    return ", ".join([row["operation"], *(f"{name} {cell['factor_' + name]}" for name in VARYING if cell["factor_" + name])])


VARYING = [name for name in FACTORS if len({cell["factor_" + name] for cell in cells.values()}) > 1]
groups = {}
for row in samples:
    groups.setdefault(group(row), []).append(row["latency_s"])
"""

_TABLE = """\
for row in read("operations.csv"):
    factors = ", ".join(f"{name} {row['factor_' + name]}" for name in VARYING if row["factor_" + name])
    low, middle, high = (f"{float(row[name]):.3f}" if row[name] else "none" for name in ("median_low_s", "median_s", "median_high_s"))
    counts = f"n={row['served']:>5} failed={row['failed']:>4}"
    stored = f"{row['database']} ({row['flush'] or 'flush unknown'})"
    print(f"{row['operation']:14} {row['users']:8} {factors:60} {stored:50} {counts} median {middle} s, interval {low} to {high} s")
"""

_DISTRIBUTIONS = """\
for operation in sorted({row["operation"] for row in samples}):
    figure, axes = plt.subplots(figsize=(9, 4))
    for name, values in sorted(groups.items()):
        if name.split(", ")[0] == operation:
            ordered = sorted(values)
            axes.step(ordered, [(number + 1) / len(ordered) for number in range(len(ordered))], where="post", label=name)
    axes.set(title=operation, xlabel="latency, s", ylabel="share of operations")
    axes.legend(fontsize=7)
    plt.show()
"""

_AGAINST_RTT = """\
def rtt_ms(row):
    \"\"\"Return the round trip between two linked sites, in milliseconds: twice the delay of a link.\"\"\"
    text = cells[row["cell"]]["factor_delay"]
    unit = text.lstrip("0123456789. ")
    return 2 * float(text.removesuffix(unit)) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


lines = {}
for row in samples:
    others = [name for name in VARYING if name != "delay"]
    cell = cells[row["cell"]]
    label = ", ".join([row["operation"], *(f"{name} {cell['factor_' + name]}" for name in others if cell["factor_" + name])])
    lines.setdefault(label, {}).setdefault(rtt_ms(row), []).append(row["latency_s"])
figure, axes = plt.subplots(figsize=(9, 4))
for label, line in sorted(lines.items()):
    axes.plot(sorted(line), [median(line[at]) for at in sorted(line)], marker="o", label=label)
axes.set(xlabel="round trip, ms", ylabel="median latency, s")
axes.legend(fontsize=7)
plt.show()
"""

_FAULTS = """\
faults = read("faults.csv")
for name in dict.fromkeys(row["cell"] for row in faults):
    figure, axes = plt.subplots(figsize=(9, 4))
    own = [row for row in samples if row["cell"] == name]
    axes.plot([float(row["intended_s"]) for row in own], [row["latency_s"] for row in own], ".")
    for fault in (row for row in faults if row["cell"] == name):
        axes.axvspan(float(fault["started_s"]), float(fault["ended_s"]), alpha=0.2, label=f"{fault['kind']} {fault['target']}")
    axes.set(title=name, xlabel="intended start, s", ylabel="latency, s")
    axes.legend(fontsize=7)
    plt.show()
"""


_OVER_TIME = """\
usage = read("usage.csv")
traffic = read("traffic.csv") if Path("traffic.csv").exists() else []


def curves(rows, name, number):
    \"\"\"Return the growth of a counter per second over time, by the name of each row.\"\"\"
    counts = {}
    for row in rows:
        counts.setdefault(name(row), []).append((float(row["at_s"]), float(row[number])))
    return {
        label: [(at, (count - before) / (at - since)) for (since, before), (at, count) in zip(points, points[1:]) if at > since]
        for label, points in counts.items()
    }


def memory(rows):
    \"\"\"Return the memory over time, by site.\"\"\"
    found = {}
    for row in rows:
        if row["memory_mb"]:
            found.setdefault(row["site"], []).append((float(row["at_s"]), float(row["memory_mb"])))
    return found


def of(rows, name):
    \"\"\"Return the rows of a cell.\"\"\"
    return [row for row in rows if row["cell"] == name]


first_cells = {}
for name, cell in cells.items():
    if cell["state"] == "done":
        first_cells.setdefault(tuple(cell["factor_" + factor] for factor in FACTORS), name)
for name in first_cells.values():
    panels = {
        "link traffic, bytes/s": curves(of(traffic, name), lambda row: f"{row['source']} to {row['target']}", "bytes"),
        "processors, cores": curves(of(usage, name), lambda row: row["site"], "cpu_s"),
        "memory, MB": memory(of(usage, name)),
    }
    figure, axes = plt.subplots(len(panels), sharex=True, figsize=(9, 7))
    for own, (title, drawn) in zip(axes, panels.items()):
        for label, points in drawn.items():
            own.plot([at for at, _value in points], [value for _at, value in points], label=label)
        own.set(ylabel=title)
        if drawn:
            own.legend(fontsize=7)
    axes[0].set(title=name)
    axes[-1].set(xlabel="seconds after the start of the measured operations")
    plt.show()
"""

_VALUES = """\
for row in read("values.csv"):
    cell = cells[row["cell"]]
    factors = ", ".join(f"{name} {cell['factor_' + name]}" for name in VARYING if cell["factor_" + name])
    print(f"{row['name']:40} {factors:60} {float(row['value']):12.5g} {row['unit']}")
"""


def notebook(run: Run, factors: Sequence[str]) -> dict[str, Any]:
    """Return the notebook of a run, ready for `json.dumps`.

    Args:
        run: the run.
        factors: the names of all factors.
    """
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cells = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(_cells(run, factors))]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}, "cells": cells}


def _cells(run: Run, factors: Sequence[str]) -> Iterator[dict[str, Any]]:
    yield _text(
        f"# {run.about['name']}\n\nRun `{run.name}`. The code reads the CSV files beside this notebook; `README.md` describes them."
    )
    yield _code(_READ.replace("@FACTORS@", repr(list(factors))))
    yield _text("## All operations\n\nMedian latencies with their confidence intervals, in seconds from the intended start.")
    yield _code(_TABLE)
    yield _text("## Distributions of latencies")
    yield _code(_DISTRIBUTIONS)
    if "delay" in factors:
        yield _text("## Medians against the round trip")
        yield _code(_AGAINST_RTT)
    states = run.states()
    done = [cell for cell in run.cells if states[cell.id].state == "done"]
    if any(run.values(cell) for cell in done):
        yield _text("## Measured numbers that are not latencies")
        yield _code(_VALUES)
    if any(run.usage(cell) for cell in done):
        yield _text("## Links, processors and memory over time\n\nOne cell of each combination of factors.")
        yield _code(_OVER_TIME)
    if any(cell.faults for cell in done):
        yield _text("## Faults\n\nLatencies over time; shades mark the faults.")
        yield _code(_FAULTS)


def _text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source.splitlines(keepends=True)}


def _code(source: str) -> dict[str, Any]:
    lines = source.rstrip("\n").splitlines(keepends=True)
    return {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": lines}
