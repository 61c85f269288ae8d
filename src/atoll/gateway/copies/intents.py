"""Record operations on disk before a request is sent, so that they are carried out if this process can't do so or dies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.pending_operation import PendingOperation


class Intents:
    """The operations of one request, by site, on disk from `keep` on.

    At the end of the context, the operations that are not settled are left to `Pending`.

    Args:
        pending: keeps the operations and carries them out.
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

    def keep(self, operations: Mapping[str, Sequence[PendingOperation]]) -> None:
        """Write the operations of sites to disk, except for sites that are settled or whose operations were written before.

        Raises:
            sqlite3.Error: the intents can't be written.
        """
        new = {site: each for site, each in operations.items() if site not in self._numbers and site not in self._settled}
        if not new:
            return
        numbers = iter(self._pending.hold([operation for several in new.values() for operation in several]))
        self._numbers |= {site: [next(numbers) for _ in several] for site, several in new.items()}

    def settle(self, *sites: str) -> None:
        """Record that these sites have nothing to do later."""
        self._settled |= set(sites)

    def leave(self, site: str, why: str) -> None:
        """Record why a site has to carry its operations out later."""
        self._reasons[site] = why
