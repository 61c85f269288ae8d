"""A run that is kept in a directory, to be checked or executed again: its schedule, the clients' log, and the contents of the sites."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atoll.bench.faults.log import Attempt
from atoll.bench.faults.schedule import Schedule
from atoll.bench.faults.view import View
from atoll.errors import AtollError

SCHEDULE, LOG, BEFORE, AFTER = "schedule.json", "log.json", "before.json", "after.json"


def keep(directory: Path, schedule: Schedule, attempts: Sequence[Attempt], before: Sequence[View], after: Sequence[View]) -> None:
    """Write a run into a new directory."""
    directory.mkdir(parents=True, exist_ok=True)
    written = {SCHEDULE: schedule.to_json(), LOG: [asdict(each) for each in attempts]}
    written |= {BEFORE: [asdict(each) for each in before], AFTER: [asdict(each) for each in after]}
    for name, data in written.items():
        (directory / name).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def keep_logs(directory: Path, state: Path) -> None:
    """Copy the logs of all sites into the directory of a run."""
    for log in state.rglob("*.log"):
        copy = directory / "logs" / log.relative_to(state)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, copy)


def kept_schedule(directory: Path) -> Schedule:
    """Return the schedule of a kept run. It is read, not made from the seed, from which a newer version might make another schedule.

    Raises:
        AtollError: `bench.failed`: the directory contains no schedule.
    """
    try:
        data = json.loads((directory / SCHEDULE).read_text(encoding="utf-8"))
        clients = {name: [_with_present_names(each) for each in operations] for name, operations in data["clients"].items()}
        return Schedule.from_json(data | {"clients": clients})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AtollError("bench.failed", f"{directory} holds no run: {error}", "give the directory of an earlier --keep") from error


def kept_evidence(directory: Path) -> tuple[list[Attempt], list[View], list[View]]:
    """Return the clients' log of a kept run, and the contents of the sites before and after it."""
    log, before, after = (json.loads((directory / name).read_text(encoding="utf-8")) for name in (LOG, BEFORE, AFTER))
    return [Attempt(**_with_present_names(each)) for each in log], [View(**each) for each in before], [View(**each) for each in after]


def _with_present_names(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operation or attempt with the present names of its fields; versions before 0.3 called the resource `thing`."""
    return {"resource" if name == "thing" else name: value for name, value in record.items()}
