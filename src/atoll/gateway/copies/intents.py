"""What has to be done later if this process can't do it now, or dies before it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from atoll.gateway.copies.operation import Operation
from atoll.gateway.copies.pending import Pending


class Intents:
    """The operations, by site, on disk from `keep` on. At the end of the context, those that nobody has settled will be done later.

    Args:
        pending: who does them.
    """

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._numbers: dict[str, list[int]] = {}
        self._settled: set[str] = set()
        self._reasons: dict[str, str] = {}

    def __enter__(self) -> Intents:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        settled = self._settled & set(self._numbers)
        left = {site: numbers for site, numbers in self._numbers.items() if site not in settled}
        if settled:
            self._pending.drop(number for site in settled for number in self._numbers[site])
        if left:
            why = "interrupted" if error is None else f"interrupted: {type(error).__name__}"
            self._pending.release({number: self._reasons.get(site, why) for site, numbers in left.items() for number in numbers})

    def keep(self, operations: Mapping[str, Sequence[Operation]]) -> None:
        """Write down what has to be done by sites, unless it is settled already.

        Raises:
            sqlite3.Error: it can't be written.
        """
        new = {site: each for site, each in operations.items() if site not in self._numbers and site not in self._settled}
        if not new:
            return
        numbers = iter(self._pending.hold([operation for several in new.values() for operation in several]))
        self._numbers |= {site: [next(numbers) for _ in several] for site, several in new.items()}

    def settle(self, *sites: str) -> None:
        """Nothing has to be done by these sites."""
        self._settled |= set(sites)

    def leave(self, site: str, why: str) -> None:
        """This site has to do it later; why, for people."""
        self._reasons[site] = why
