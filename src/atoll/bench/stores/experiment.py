"""The experiment: measures database engines in turn, at several round-trip times between site and database server."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from atoll.bench.failure import failed
from atoll.bench.stores.boots import BootingSite
from atoll.bench.stores.engine import ENGINES, Engine, running
from atoll.bench.workspace import Workspace
from atoll.services.database_urls import REDIS, SQLITE

WRITERS = 16
_PATIENCE_S = 300.0

READ_RATIO, BOOT_RATIO, WRITES_PER_S = 1.3, 1.3, 200.0
"""Targets for Redis: greatest multiples of SQLite's read time and, without a distance, of SQLite's boot time; least transactions per second
of 16 writers at a round trip of 50 ms."""

_BOOT = "boot_s"


@dataclasses.dataclass(frozen=True)
class StoreOptions:
    """The size of the experiment."""

    round_trips: tuple[int, ...]
    """Round-trip times between site and server, in milliseconds."""
    rounds: int
    """Number of repetitions; the report has their medians."""
    seconds: float
    """Seconds of one engine's transactions in one round."""
    boots: int = 0
    """Number of servers that a site of each engine boots in one round; 0 if no sites are started."""
    engines: tuple[str, ...] = ENGINES
    """The engines; SQLite is one of them, because the others are compared with it."""


def run(options: StoreOptions, work: Workspace) -> dict[str, float | None]:
    """Measure all engines in turn, and return the report: values by `ENGINE_MEASURE_ROUNDTRIP`, such as `redis_read_p50_ms_50`.

    A value is `None` if it could not be measured because no boot succeeded.

    Args:
        options: the options.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.failed`: a measurement failed.
    """
    found: dict[str, list[float | None]] = {}
    with ExitStack() as stack:
        ready = [stack.enter_context(running(name, work)) for name in options.engines]
        for number, milliseconds, engine in _turns(options, ready):
            work.say(f"round {number + 1} of {options.rounds}: transactions on {engine.name} at {milliseconds} ms")
            engine.move(0)
            url = engine.url(f"transactions_{number}_{milliseconds}")
            engine.move(milliseconds)
            _add(found, engine, milliseconds, measure(url, options.seconds, work.environment))
        if options.boots:
            sites = {each.name: stack.enter_context(BootingSite(each, work)) for each in ready}
            for number, milliseconds, engine in _turns(options, ready):
                work.say(f"round {number + 1} of {options.rounds}: {options.boots} boots on {engine.name} at {milliseconds} ms")
                _add(found, engine, milliseconds, sites[engine.name].measure(options.boots, milliseconds))
    report = {key: _median(values) for key, values in found.items()}
    return report | ratios(report, options.round_trips)


def _turns(options: StoreOptions, ready: Sequence[Engine]) -> list[tuple[int, int, Engine]]:
    """Return the order of measurements, with each engine next to the others, so that other load affects all alike."""
    return [
        (number, milliseconds, engine)
        for number in range(options.rounds)
        for milliseconds in options.round_trips
        for engine in (ready if number % 2 == 0 else reversed(ready))
    ]


def _add(found: dict[str, list[float | None]], engine: Engine, milliseconds: int, values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        found.setdefault(f"{engine.name}_{name}_{milliseconds}", []).append(value)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def measure(url: str, seconds: float, environment: Mapping[str, str]) -> dict[str, float]:
    """Measure transactions on an empty database in another process; return the values by name.

    Raises:
        AtollError: `bench.failed`: the process failed, or did not end in time.
    """
    command = [sys.executable, "-m", "atoll.bench.stores.worker", url, str(seconds), str(WRITERS)]
    scheme = url.partition(":")[0]  # the rest contains a password
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=_PATIENCE_S + 2 * seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise failed(f"the worker that measures {scheme} did not end in time") from None
    if done.returncode:
        raise failed(f"the worker that measures {scheme} failed: {(done.stderr.strip().splitlines() or ['without a message'])[-1]}")
    measures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measures


def ratios(report: Mapping[str, float | None], round_trips: Sequence[int]) -> dict[str, float]:
    """Return Redis's times divided by SQLite's in the same run, for each round trip: `redis_read_ratio_50` and `redis_boot_ratio_50`."""
    found = {}
    for milliseconds in round_trips:
        for name, measured in (("read", "read_p50_ms"), ("boot", _BOOT)):
            redis, sqlite = (report.get(f"{engine}_{measured}_{milliseconds}") for engine in (REDIS, SQLITE))
            if redis and sqlite:
                found[f"redis_{name}_ratio_{milliseconds}"] = round(redis / sqlite, 2)
    return found


def rows(report: Mapping[str, float | None], round_trips: Sequence[int], engines: Sequence[str] = ENGINES) -> list[tuple[str, ...]]:
    """Return the rows of the report's table: measure, round trip, each engine's value, and the target, which may be empty."""
    prefix, suffix = f"{SQLITE}_", f"_{round_trips[0]}"
    measures = [key.removeprefix(prefix).removesuffix(suffix) for key in report if key.startswith(prefix) and key.endswith(suffix)]
    table = []
    for name in measures:
        for milliseconds in round_trips:
            values = [report.get(f"{engine}_{name}_{milliseconds}") for engine in engines]
            shown = ["" if value is None else f"{value:g}" for value in values]
            table.append((name, str(milliseconds), *shown, _target(name, milliseconds)))
    return table


def _target(name: str, milliseconds: int) -> str:
    if name == "read_p50_ms":
        return f"redis <= {READ_RATIO} x sqlite"
    if name == _BOOT and milliseconds == 0:
        return f"redis <= {BOOT_RATIO} x sqlite"
    if name == f"writes_per_s_{WRITERS}" and milliseconds == 50:
        return f"redis >= {WRITES_PER_S:g}"
    return ""
