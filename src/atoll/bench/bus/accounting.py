"""The account of numbered casts: the numbers of lost casts and of casts that were executed twice. Pure functions."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

NUMBER_BYTES = 8


@dataclass(frozen=True)
class Account:
    """The number of casts by their outcome.

    Attributes:
        acknowledged: casts for which `cast` returned normally.
        failed: casts for which `cast` raised an error.
        lost: casts that were acknowledged but never executed, except for those that `begun_when_killed` counts.
        begun_when_killed: acknowledged casts that a server had begun when it was killed, before its endpoint recorded them.
        executed_twice: casts that were executed more than once, acknowledged or not.
        failed_executed: casts that were executed although `cast` raised an error.
    """

    acknowledged: int
    failed: int
    lost: int
    begun_when_killed: int
    executed_twice: int
    failed_executed: int


def settle(total: int, acknowledged: Iterable[int], failed: Iterable[int], executed: Iterable[int], begun: Collection[int] = ()) -> Account:
    """Return the account of a run: compare the casts that clients saw acknowledged with those that servers executed.

    Args:
        total: the number of casts; they are numbered from 0.
        acknowledged: numbers of casts that returned normally.
        failed: numbers of casts that raised an error.
        executed: numbers that servers executed, repeated for each execution.
        begun: numbers that a killed server had begun, as its journal proves.
    """
    times = bytearray(total)
    for number in executed:
        times[number] = min(times[number] + 1, 255)
    fine, bad = list(acknowledged), list(failed)
    missing = [number for number in fine if not times[number]]
    in_hand = sum(number in begun for number in missing)
    return Account(
        acknowledged=len(fine),
        failed=len(bad),
        lost=len(missing) - in_hand,
        begun_when_killed=in_hand,
        executed_twice=sum(count > 1 for count in times),
        failed_executed=sum(bool(times[number]) for number in bad),
    )


def numbers_in(paths: Iterable[Path]) -> array[int]:
    """Return the numbers in files of 8-byte records in native byte order.

    Raises:
        ValueError: a file does not consist of whole records.
    """
    found = array("Q")
    for path in paths:
        data = path.read_bytes()
        # Each record is written in one step, so a partial record means that the account would be wrong.
        if len(data) % NUMBER_BYTES:
            message = f"{path} has {len(data)} bytes: expected a multiple of {NUMBER_BYTES}"
            raise ValueError(message)
        found.frombytes(data)
    return found
