"""The list of Tempest tests that a site does not run (excluded.txt): lines of a regular expression, `#`, and the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FEW = 5
"""Greatest number of tests that one reason may cover, unless it begins as in `GENERAL`."""

GENERAL = ("the fake driver can't", "Cinder isn't", "ML2/OVN has no", "ML2/OVS has no", "not offered:")
"""Beginnings of reasons that may cover any number of tests: a missing service, driver or plug-in."""


@dataclass(frozen=True)
class Exclusion:
    """A line of the list.

    Attributes:
        line: the number of the line, from 1.
        expression: a regular expression for the names of the tests.
        reason: the reason why the tests do not run.
    """

    line: int
    expression: str
    reason: str


def read_exclusions(path: Path) -> list[Exclusion]:
    """Return the lines of a file without comments and empty lines."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        expression, _hash, reason = (part.strip() for part in line.partition("#"))
        if expression:
            found.append(Exclusion(number, expression, reason))
    return found


def complaints(exclusions: Sequence[Exclusion], tests: Sequence[str], file: str = "excluded.txt") -> list[str]:
    """Return the errors of a list.

    Args:
        exclusions: the list.
        tests: the names of all tests.
        file: the name of the list in messages.
    """
    found = []
    covered: Counter[str] = Counter()
    taken: dict[str, int] = {}
    for exclusion in exclusions:
        matched = [name for name in tests if re.search(exclusion.expression, name)]
        covered[exclusion.reason] += len(matched)
        if not matched:
            found.append(f"{file}:{exclusion.line}: matches no test")
        if not exclusion.reason:
            found.append(f"{file}:{exclusion.line}: no reason")
        twice = [name for name in matched if name in taken]
        if twice:
            found.append(f"{file}:{exclusion.line}: {twice[0]} is excluded in line {taken[twice[0]]} already")
        taken |= dict.fromkeys(matched, exclusion.line)
    for reason, count in covered.items():
        if count > FEW and not reason.startswith(GENERAL):
            found.append(f"{file}: {count} tests are excluded for one reason: {reason}")
    return found
