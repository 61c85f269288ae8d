"""Comparison of two runs: which operations became slower or faster, or fail more often, beyond chance.

Latencies are compared by ranks (Mann and Whitney 1947). Their ratio has the estimate and the interval of Hodges and Lehmann (1963). Neither
method assumes a distribution, and outliers weigh little. Samples of one cell share a cloud, and so are more alike than samples of different
cells. Therefore the interval is widened by the ratio of the variances between and within cells (`atoll.experiment.variation`). A confidence
level holds for the whole comparison: the probability of error is divided among all groups (Bonferroni).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from statistics import median
from typing import Any

from atoll.errors import AtollError
from atoll.experiment.student import student
from atoll.experiment.summary import Group, Key
from atoll.experiment.variation import Common, common, variation

CONFIDENCE = 0.99
"""The default confidence level. At 0.95, one of 20 comparisons of two equal runs would report a difference that does not exist."""

_MOST = 2000
"""Greatest number of latencies of one run that are compared; a run with more is represented by a random part of them."""


@dataclass(frozen=True)
class Ratio:
    """The ratio of the second run's latencies to those of the first run.

    Attributes:
        estimate: the estimated ratio.
        low, high: the confidence interval of the ratio; 0 and infinity if there are too few samples for an interval.
    """

    estimate: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """True if chance does not explain the difference."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True)
class Difference:
    """The comparison of one group of samples in two runs.

    Attributes:
        label, operation, place: the group, as in `atoll.experiment.summary.Key`.
        medians_s: the medians of the two runs, in seconds.
        samples: the numbers of successful operations of the two runs.
        failures: the numbers of failed operations of the two runs.
        ratio: the ratio of the latencies; `None` if a run has no latency because all its operations failed.
        fails_otherwise: True if chance does not explain the difference of the shares of failures.
        databases: the databases of the two runs.
        flushes: the settings by which these databases flush commits to the disk; empty in runs of older versions.
    """

    label: str
    operation: str
    place: str
    medians_s: tuple[float | None, float | None]
    samples: tuple[int, int]
    failures: tuple[int, int]
    ratio: Ratio | None
    fails_otherwise: bool
    databases: tuple[str, str] = ("", "")
    flushes: tuple[str, str] = ("", "")

    @property
    def uneven(self) -> bool:
        """True if the databases of the two runs are known to flush commits by different settings, so that writes can't be compared."""
        return all(self.flushes) and self.flushes[0] != self.flushes[1]

    @property
    def differs(self) -> bool:
        """True if chance does not explain the difference of latencies or failures."""
        return self.fails_otherwise or (self.ratio is not None and self.ratio.differs)

    def to_json(self) -> dict[str, Any]:
        """Return the difference, ready for `json.dumps`; the bounds are `None` if there is no confidence interval."""
        told = asdict(self) | {"differs": self.differs, "uneven": self.uneven, "words": describe(self)}
        if told["ratio"] is not None:
            told["ratio"] = {name: value if math.isfinite(value) else None for name, value in told["ratio"].items()}
        return told


def compare(first: dict[Key, Group], second: dict[Key, Group], confidence: float = CONFIDENCE) -> list[Difference]:
    """Compare the groups that two runs have in common.

    Args:
        first: the groups of the first run.
        second: the groups of the second run.
        confidence: the confidence level of the whole comparison, above 0 and below 1.

    Raises:
        AtollError: `experiment.invalid`: the runs have no group in common.
    """
    shared = [key for key in first if key in second]
    if not shared:
        text = "the two runs have no operation with the same factors in common"
        raise AtollError("experiment.invalid", text, "compare runs of the same experiment file")
    each = 1 - (1 - confidence) / len(shared)
    pairs = {key: (first[key], second[key]) for key in shared}
    told = common([(key[0], variation(_logs(*pair))) for key, pair in pairs.items() if all(group.all_s for group in pair)])
    return [_difference(key, *pair, each, told) for key, pair in pairs.items()]


def _difference(key: Key, first: Group, second: Group, confidence: float, told: Common) -> Difference:
    some = bool(first.all_s and second.all_s)
    return Difference(
        *key,
        medians_s=(median(first.all_s) if first.all_s else None, median(second.all_s) if second.all_s else None),
        samples=(len(first.all_s), len(second.all_s)),
        failures=(first.failures, second.failures),
        ratio=ratio(first.latencies_s, second.latencies_s, confidence, told) if some else None,
        fails_otherwise=fisher(first.failures, first.operations, second.failures, second.operations) < 1 - confidence,
        databases=(first.database, second.database),
        flushes=(first.flush, second.flush),
    )


def _logs(*groups: Group) -> list[list[list[float]]]:
    return [_logarithms(group.latencies_s) for group in groups]


def _logarithms(cells: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[math.log(max(value, 1e-9)) for value in cell] for cell in cells if cell]


def ratio(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], confidence: float, told: Common | None = None) -> Ratio:
    """Return the ratio of latencies with its confidence interval.

    Args:
        first: the latencies of the first run in seconds, by cell; at least one.
        second: the latencies of the second run, likewise.
        confidence: the confidence level, above 0 and below 1.
        told: what all groups of the comparison tell of the variation between cells; default: these latencies alone.
    """
    np = import_module("numpy")
    logs = [_logarithms(first), _logarithms(second)]
    own = variation(logs)
    told = common([("", own)]) if told is None else told
    left, right = (_some([value for cell in run for value in cell]) for run in logs)
    differences = np.sort(np.subtract.outer(np.array(right), np.array(left)).ravel())
    pairs, together = len(differences), len(left) + len(right) + 1
    half = student(0.5 + confidence / 2, told.freedom) * math.sqrt(pairs * together / 12 * told.effect(own))
    rank = math.floor(pairs / 2 - half)  # the lower bound's rank counted from the smallest ratio, the upper one's from the greatest
    return Ratio(
        math.exp(float(np.median(differences))),
        math.exp(float(differences[rank - 1])) if rank >= 1 else 0.0,
        math.exp(float(differences[pairs - rank])) if rank >= 1 else math.inf,
    )


def _some(values: list[float]) -> list[float]:
    return values if len(values) <= _MOST else random.Random(0).sample(values, _MOST)


def fisher(first: int, first_of: int, second: int, second_of: int) -> float:
    """Return the probability that chance makes two shares differ at least as much as these do: Fisher's exact test.

    Args:
        first: the number of failures of the first run.
        first_of: the number of operations of the first run.
        second: the number of failures of the second run.
        second_of: the number of operations of the second run.
    """
    failures = first + second
    ways = [math.comb(first_of, k) * math.comb(second_of, failures - k) for k in range(failures + 1) if k <= first_of]
    found = math.comb(first_of, first) * math.comb(second_of, second)
    # Integers, so that equal probabilities compare equal.
    return sum(way for way in ways if way <= found) / math.comb(first_of + second_of, failures)


def describe(difference: Difference) -> str:
    """Return a difference as a sentence."""
    at = f" at {difference.place} sites" if difference.place else ""
    where = f"{difference.operation}{at} ({difference.label})"
    parts = []
    if difference.ratio is not None and difference.ratio.differs:
        by = difference.ratio.estimate - 1
        ends = sorted(abs(bound - 1) for bound in (difference.ratio.low, difference.ratio.high))
        before, after = difference.medians_s
        direction = "slower" if by > 0 else "faster"
        parts.append(
            f"{100 * abs(by):.0f} % {direction} ({100 * ends[0]:.0f} to {100 * ends[1]:.0f} %), median {before:.3g} s, then {after:.3g} s"
        )
    if difference.fails_otherwise:
        of = [failed + good for failed, good in zip(difference.failures, difference.samples, strict=True)]
        parts.append(f"{difference.failures[0]} of {of[0]} failed, then {difference.failures[1]} of {of[1]}")
    flushed = f"; commits were flushed by {difference.flushes[0]}, then by {difference.flushes[1]}" if difference.uneven else ""
    return f"{where}: {'; '.join(parts) or 'no difference'}{flushed}"
