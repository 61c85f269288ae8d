"""What became of numbered casts: pure counting."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

NUMBER_BYTES = 8


@dataclass(frozen=True)
class Account:
    """The fate of casts.

    Attributes:
        acknowledged: `cast` returned.
        failed: `cast` raised.
        lost: acknowledged, and never executed, without the excuse of the next.
        begun_when_killed: acknowledged, and in a server's hands when it was killed: begun, and not yet written down by the endpoint.
        executed_twice: executed more than once, whatever the client was told.
        failed_executed: executed, though `cast` raised.
    """

    acknowledged: int
    failed: int
    lost: int
    begun_when_killed: int
    executed_twice: int
    failed_executed: int


def settle(total: int, acknowledged: Iterable[int], failed: Iterable[int], executed: Iterable[int], begun: Collection[int] = ()) -> Account:
    """Compare what clients were told with what servers did.

    Args:
        total: the numbers are less than this.
        acknowledged: numbers whose cast returned.
        failed: numbers whose cast raised.
        executed: numbers that servers executed, each as often as it was.
        begun: numbers of which it is proved that a server had begun them when it was killed.
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
    """The numbers in files of 8 bytes each, in the machine's order."""
    found = array("Q")
    for path in paths:
        data = path.read_bytes()
        # A record is written in one step; were it ever not, the account must not be made from half of it.
        if len(data) % NUMBER_BYTES:
            message = f"{path}: {len(data)} bytes are no whole number of records"
            raise ValueError(message)
        found.frombytes(data)
    return found
