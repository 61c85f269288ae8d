"""The experiment: measures database engines in turn, at several round-trip times between site and database server."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from atoll.bench.failure import failed
from atoll.bench.stores import redis_server
from atoll.bench.stores.delay import delayed
from atoll.bench.workspace import Workspace

ENGINES = ("sqlite", "redis")
WRITERS = 16
_PATIENCE_S = 120.0

READ_RATIO, WRITES_PER_S = 1.3, 200.0
"""Targets for Redis: greatest multiple of SQLite's read time; least transactions per second of 16 writers at a round trip of 50 ms."""


@dataclasses.dataclass(frozen=True)
class StoreOptions:
    """The size of the experiment."""

    round_trips: tuple[int, ...]
    """Round-trip times between site and server, in milliseconds."""
    rounds: int
    """Number of repetitions; the report has their medians."""
    seconds: float
    """Seconds of one engine's measurement in one round."""


def run(options: StoreOptions, work: Workspace) -> dict[str, float]:
    """Measure all engines in turn, and return the report: values by `ENGINE_MEASURE_ROUNDTRIP`, such as `redis_read_ms_50`.

    Args:
        options: the options.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.requirement`: a server program is not installed; `bench.failed`: a measurement failed.
    """
    found: dict[str, list[float]] = {}
    with redis_server.running(work.root / "redis") as server:
        for number in range(options.rounds):
            for milliseconds in options.round_trips:
                for engine in ENGINES if number % 2 == 0 else reversed(ENGINES):
                    work.say(f"round {number + 1} of {options.rounds}: {engine} at {milliseconds} ms")
                    name = f"{engine}{number}-{milliseconds}"
                    with delayed(server, work.root / f"{name}.sock", milliseconds) as socket:
                        measures = _measure(_url(engine, work.root / f"{name}.db", name, socket), options.seconds, work.environment)
                    for measure, value in measures.items():
                        found.setdefault(f"{engine}_{measure}_{milliseconds}", []).append(value)
    report = {key: round(statistics.median(values), 3) for key, values in found.items()}
    return report | ratios(report, options.round_trips)


def _url(engine: str, path: Path, name: str, socket: Path) -> str:
    if engine == "sqlite":
        return f"sqlite:///{path}?plugin=atoll"
    return f"redis:///0?socket={socket}&replica={path}&log={name}&cloud=bench&site=one"


def _measure(url: str, seconds: float, environment: Mapping[str, str]) -> dict[str, float]:
    command = [sys.executable, "-m", "atoll.bench.stores.worker", url, str(seconds), str(WRITERS)]
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=_PATIENCE_S + 2 * seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise failed(f"the worker that measures {url} did not end in time") from None
    if done.returncode:
        raise failed(f"the worker that measures {url} failed: {(done.stderr.strip().splitlines() or ['without a message'])[-1]}")
    measures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measures


def ratios(report: Mapping[str, float], round_trips: Sequence[int]) -> dict[str, float]:
    """Return Redis's read time divided by SQLite's in the same run, for each round trip: `redis_read_ratio_ROUNDTRIP`."""
    return {
        f"redis_read_ratio_{milliseconds}": round(
            report[f"redis_read_p50_ms_{milliseconds}"] / report[f"sqlite_read_p50_ms_{milliseconds}"], 2
        )
        for milliseconds in round_trips
    }


def rows(report: Mapping[str, float], round_trips: Sequence[int]) -> list[tuple[str, ...]]:
    """Return the rows of the report's table: measure, round trip, each engine's value, and the target, which may be empty."""
    measures = [key.removeprefix("sqlite_").removesuffix(f"_{round_trips[0]}") for key in report if key.startswith("sqlite_")]
    measures = list(dict.fromkeys(measure for measure in measures if f"sqlite_{measure}_{round_trips[0]}" in report))
    table = []
    for measure in measures:
        for milliseconds in round_trips:
            values = [f"{report[f'{engine}_{measure}_{milliseconds}']:g}" for engine in ENGINES]
            table.append((measure, str(milliseconds), *values, _target(measure, milliseconds)))
    return table


def _target(measure: str, milliseconds: int) -> str:
    if measure == "read_p50_ms":
        return f"<= {READ_RATIO} x sqlite"
    if measure == f"writes_per_s_{WRITERS}" and milliseconds == 50:
        return f">= {WRITES_PER_S:g}"
    return ""
