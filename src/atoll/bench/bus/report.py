"""The report of `atoll bench bus`: names of the numbers, the comparison of two transports, and the targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.bench.report import Key, text

KEYS = (
    Key("calls_per_s", "calls per second"),
    Key("casts_per_s", "casts per second, until executed"),
    Key("p50_ms", "a call, median, ms"),
    Key("p99_ms", "a call, 99th percentile, ms"),
    Key("memory_mb", "memory that the transport adds, MB"),
    Key("total_pss_mb", "memory of all processes, MB"),
    Key("cpu_s_per_1000_calls", "processor time of all processes per 1,000 calls, s"),
)
"""The measured values. In the JSON, the number of clients is appended to the name: `calls_per_s_100` is with 100 clients."""


@dataclass(frozen=True)
class Wanted:
    """The target for a measured value.

    Attributes:
        at_least: the least value that meets the target.
        at_most: the greatest value that meets the target.
        ratio: whether the target is for the ratio of Atoll's value to that of the other transport.
    """

    at_least: float | None = None
    at_most: float | None = None
    ratio: bool = True

    def met(self, value: float) -> bool:
        """Return whether a value meets the target."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        words = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        return f"{words} times" if self.ratio else words


_TENTH = Wanted(at_most=0.1)

WANTED = {
    "p50_ms_1": Wanted(at_most=1.0, ratio=False),
    "calls_per_s_100": Wanted(at_least=3.0),
    "memory_mb_1": _TENTH,
    "memory_mb_10": _TENTH,
    "memory_mb_100": _TENTH,
    "memory_mb_1000": _TENTH,
}
"""The targets by the name of the value in the JSON. Ratios divide Atoll's value by RabbitMQ's on the same machine in the same run."""


def summary(samples: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
    """Return the report of an experiment.

    Args:
        samples: the result of `speed.run`.

    Returns:
        The medians by transport, their ratios, the targets and whether they are met, and the samples.
    """
    report: dict[str, Any] = {
        name: {key: round(statistics.median(values), 3) for key, values in numbers.items()} for name, numbers in samples.items()
    }
    ours, theirs = report["zenoh"], report.get("rabbit", {})
    ratios = {key: round(value / theirs[key], 3) for key, value in ours.items() if theirs.get(key)}
    return report | {"ratios": ratios, "targets": targets(ours, ratios), "samples": samples}


def targets(ours: Mapping[str, float], ratios: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return the targets for the measured values, and whether each is met."""
    found = {}
    for key, wanted in WANTED.items():
        value = (ratios if wanted.ratio else ours).get(key)
        if value is not None:
            found[key] = {"wanted": str(wanted), "value": value, "met": wanted.met(value)}
    return found


def rows(report: Mapping[str, Any], clients: Iterable[int]) -> list[tuple[str, ...]]:
    """Return the rows of the report's table: clients, meaning, Atoll's value, RabbitMQ's, ratio, target. A missing value is empty."""
    theirs, wanted = report.get("rabbit", {}), report["targets"]
    table = []
    for count in clients:
        for key in KEYS:
            name = f"{key.name}_{count}"
            values = (report["zenoh"][name], theirs.get(name), report["ratios"].get(name))
            table.append((str(count), key.meaning, *map(text, values), _verdict(wanted.get(name))))
    return table


def _verdict(target: Mapping[str, Any] | None) -> str:
    return "" if target is None else f"{target['wanted']}: {'met' if target['met'] else 'missed'}"
