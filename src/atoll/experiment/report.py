"""The report of a run as one HTML page that needs no network: plots, the table of all operations, cells, machine, and differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from atoll.experiment import compare, plots, summary
from atoll.experiment.failure_report import failures
from atoll.experiment.fault_report import faults
from atoll.experiment.markup import figure, table
from atoll.experiment.resource_report import resources, timelines
from atoll.experiment.run import Run
from atoll.experiment.shape_report import expected_shapes
from atoll.experiment.statistics import CONFIDENCE, median_interval, quantile
from atoll.experiment.summary import Group
from atoll.experiment.value_report import values

_TEMPLATE = Path(__file__).with_name("page.html")
_WARN_IDLE = 0.1
"""Idle share of the machine, from 0 to 1. The page marks a cell below it, because the cell's operations waited for processors."""


def render(run: Run, against: Run | None = None) -> str:
    """Return the HTML page of a run.

    Args:
        run: the run; if it is unfinished, the report shows its finished cells.
        against: an earlier run to compare with; `None` means no comparison.

    Raises:
        AtollError: `experiment.requirement`: matplotlib is missing; `experiment.damaged`: samples can't be read; `experiment.invalid`: the
            two runs have no operation in common.
    """
    groups = list(summary.groups(run).values())
    cells = summary.cells(run)
    parts = [*_head(run, cells)]
    if against is not None:
        parts += _changes(run, against)
    parts += [*expected_shapes(run), *_figures(groups), *timelines(run), *faults(run), *failures(run), *values(run), *resources(run)]
    parts += [*_operations(groups), *_cells(cells), *_machine(run)]
    page = _TEMPLATE.read_text(encoding="utf-8")
    return page.replace("@TITLE@", escape(run.name)).replace("@BODY@", "\n".join(parts))


def _head(run: Run, cells: Sequence[dict[str, Any]]) -> Iterator[str]:
    states = [cell["state"] for cell in cells]
    yield f"<h1>{escape(str(run.about.get('name', run.name)))}</h1>"
    begun, seed = (escape(text) for text in (_day(str(run.about.get("begun", ""))), str(run.about.get("seed", ""))))
    yield f"<p>Run {escape(run.name)}, begun {begun}, seed {seed}.</p>"
    text = f"{states.count('done')} of {len(cells)} cells are complete, {states.count('failed')} failed."
    yield f'<p class="bad">{text}</p>' if states.count("done") < len(cells) else f"<p>{text}</p>"
    busy = sum(cell["facts"].get("idle_share") is not None and cell["facts"]["idle_share"] < _WARN_IDLE for cell in cells)
    if busy:
        text = f"In {busy} cells the machine was idle for less than {100 * _WARN_IDLE:.0f} % of the time: operations waited for processors."
        yield f'<p class="bad">{text}</p>'


def _day(moment: str) -> str:
    """Return a moment such as 2026-12-01 15:32 UTC; a text of another form as it is."""
    try:
        return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M %Z}".rstrip()
    except ValueError:
        return moment


def _changes(run: Run, against: Run) -> Iterator[str]:
    found = compare.compare(summary.groups(against), summary.groups(run))
    changed = [compare.describe(each) for each in found if each.differs or each.uneven]
    yield f"<h2>Changes since {escape(against.name)}</h2>"
    yield "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in changed) + "</ul>" if changed else ""
    level = f"{100 * compare.CONFIDENCE:.0f} %"
    yield f"<p>{len(found) - len(changed)} of {len(found)} compared operations show no difference at a confidence level of {level}.</p>"


def _figures(groups: Sequence[Group]) -> Iterator[str]:
    measured = [group for group in groups if group.all_s]
    if not measured:
        yield "<p>There are no samples yet.</p>"
        return
    yield "<h2>Latencies</h2>"
    for workload, operation in sorted({(str(group.factors["workload"]), group.operation) for group in measured}):
        chosen = [group for group in measured if (str(group.factors["workload"]), group.operation) == (workload, operation)]
        varying = _varying(chosen)
        title = operation if operation == workload else f"{operation}, of workload {workload}"
        yield from _against(title, chosen, varying)
        several = any(len(group.all_s) > 1 for group in chosen)  # single operations have no distribution
        for number, part in enumerate(_parts(chosen) if several else ()):
            named = title if len(chosen) <= plots.MOST_LINES else f"{title}, part {number + 1}"
            yield figure(
                plots.distributions(named, [(_label(group, varying), group) for group in part]), f"Distribution of latencies: {named}"
            )


def _against(title: str, groups: Sequence[Group], varying: Sequence[str]) -> Iterator[str]:
    """Yield a plot against each quantity that varies."""
    for factor, quantity in plots.QUANTITIES.items():
        lines: dict[str, list[Group]] = {}
        for group in groups if factor in varying else ():
            if factor in group.factors:
                lines.setdefault(_label(group, [name for name in varying if name != factor]), []).append(group)
        several = {label: line for label, line in lines.items() if len({quantity.value(group.factors) for group in line}) > 1}
        names = list(several)
        for first in range(0, len(names), plots.MOST_LINES):
            part = {name: several[name] for name in names[first : first + plots.MOST_LINES]}
            caption = f"Median latency against the {quantity.name}, with its {100 * CONFIDENCE:.0f} % interval: {title}"
            yield figure(plots.against(title, quantity, part), caption)


def _parts(groups: Sequence[Group]) -> list[Sequence[Group]]:
    return [groups[first : first + plots.MOST_LINES] for first in range(0, len(groups), plots.MOST_LINES)]


def _varying(groups: Sequence[Group]) -> list[str]:
    """Return the names of the factors that have several values, or that some groups lack."""
    names = dict.fromkeys(name for group in groups for name in group.factors)
    return [name for name in names if len({str(group.factors.get(name)) for group in groups}) > 1 and name != "workload"]


def _label(group: Group, varying: Sequence[str]) -> str:
    words = [
        str(group.factors[name]) if name == "architecture" else f"{name} {group.factors[name]}" for name in varying if name in group.factors
    ]
    if group.place:
        words.append(f"users at {group.place} sites")
    return ", ".join(words) or plots.ALL


def _operations(groups: Sequence[Group]) -> Iterator[str]:
    yield "<h2>All operations</h2>"
    level = f"{100 * CONFIDENCE:.0f} %"
    yield "<p>Latencies are in seconds from the intended start.</p>"
    yield f"<p>Each interval of a median has a confidence level of {level}, and allows for differences between cells.</p>"
    yield "<p>Flush is the setting by which the database flushes commits to the disk.</p>"
    if len({group.each_commit for group in groups} - {None}) > 1:
        yield '<p class="bad">Some databases flush each commit to the disk, and others do not: their writes cannot be compared.</p>'
    numbers = ("#Cells", "#Done", "#Failed", "#Median", "#Interval", "#95 %", "#Longest")
    titles = ("Operation", "Users", "Factors", "Database", "Flush", *numbers)
    yield table(titles, [_operation(group) for group in groups])


def _operation(group: Group) -> list[str]:
    values, interval = group.all_s, median_interval(group.latencies_s)
    factors = ", ".join(f"{name} {value}" for name, value in group.factors.items() if name not in {"workload", "database"})
    numbers = [f"{quantile(values, share):.4g}" for share in (0.5, 0.95, 1.0)] if values else ["", "", ""]
    spelled = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "too few"
    counts = [str(len(group.latencies_s)), str(len(values)), str(group.failures)]
    stored = [group.database, group.flush or ("unknown" if group.database else "")]
    return [group.operation, group.place or "all sites", factors, *stored, *counts, numbers[0], spelled, *numbers[1:]]


def _cells(cells: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "<h2>Cells</h2>"
    rows = []
    for cell in cells:
        facts = cell["facts"]
        idle = "" if facts.get("idle_share") is None else f"{100 * facts['idle_share']:.0f} %"
        numbers = [str(facts.get(name, "")) for name in ("up_s", "seconds", "memory_mb")]
        rows.append([cell["label"], cell["database"], str(cell["repetition"]), cell["state"], *numbers, idle, cell["error"]])
    yield "<p>The cells are listed in the order in which they ran.</p>"
    yield table(("Cell", "Database", "#Repetition", "State", "#Up after, s", "#Took, s", "#Memory, MB", "#Idle", "Error"), rows)


def _machine(run: Run) -> Iterator[str]:
    yield "<h2>Machine and versions</h2>"
    machine = dict(run.about.get("machine") or {})
    packages = machine.pop("packages", {})
    yield table(("Property", "Value"), [[name, str(value)] for name, value in (*machine.items(), *packages.items())])
