"""The end of abandoned hand-offs, and the deletion of files without a hand-off: each may occupy as much space as a server's disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.gateway.handoffs.files import HandoffFiles
from atoll.gateway.handoffs.incoming import Incoming
from atoll.gateway.handoffs.journal import Arriving, Journal, Leaving

LOG = logging.getLogger(__name__)

EXPIRES_S = 86_400.0
"""Seconds after which an interrupted copy is given up, and its files are deleted."""


@dataclass
class Expiry:
    """The search for abandoned hand-offs and files.

    Attributes:
        journal: the record of the hand-offs.
        files: the files of the hand-offs.
        incoming: the hand-offs to this site.
        give_up: begins to give up a hand-off from this site, by its id.
        busy: returns whether a task carries out a hand-off from this site, by its id.
        clock: returns monotonic seconds.
    """

    journal: Journal
    files: HandoffFiles
    incoming: Incoming
    give_up: Callable[[str], None]
    busy: Callable[[str], bool]
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def once(self) -> None:
        """End the hand-offs, and delete the files, that nothing has changed for `EXPIRES_S`.

        Raises:
            OSError: a file can't be deleted.
        """
        copying = [each.id for each in self.journal.open_departures() if each.state is Leaving.COPYING and not self.busy(each.id)]
        prepared = {each.id: each for each in self.journal.open_arrivals() if each.state is Arriving.PREPARED}
        waiting = {*copying, *prepared}
        self._since = {each: since for each, since in self._since.items() if each in waiting}
        for identifier in copying:
            if self._idle_s(identifier) > EXPIRES_S:
                self.give_up(identifier)
        for identifier, arrival in prepared.items():
            if self._idle_s(identifier) > EXPIRES_S:
                self.incoming.expire(arrival)
        self._sweep()

    def _idle_s(self, identifier: str) -> float:
        """Return the seconds since a file of a hand-off was written.

        Without a file, as after a restore, return the seconds since this process first found the hand-off.
        """
        idle_s = self.files.idle_s(identifier, time.time())
        return self.clock() - self._since.setdefault(identifier, self.clock()) if idle_s is None else idle_s

    def _sweep(self) -> None:
        """Delete old files of hand-offs that are not recorded or have ended; a crash or a restored journal leaves such files behind."""
        known = {each.id for each in self.journal.open_departures()}
        known |= {each.id for each in self.journal.open_arrivals()}
        for identifier in self.files.identifiers() - known:
            if (self.files.idle_s(identifier, time.time()) or 0.0) > EXPIRES_S:
                LOG.info("the files of hand-off %s are deleted: it is not recorded, or has ended", identifier)
                self.files.remove(identifier)
