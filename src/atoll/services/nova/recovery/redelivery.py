"""Casts that were acknowledged and not begun when Nova ended: the bus delivers them again to Nova's next process."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from atoll.bus import journal
from atoll.bus.options import GROUP

_UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True)
class Redelivery:
    """The casts that the bus will deliver again.

    Attributes:
        frames: the messages in the format of the bus.
    """

    frames: tuple[bytes, ...] = ()

    @classmethod
    def read(cls, journals: Path) -> Redelivery:
        """Read the bus's journals, before a process of Nova listens under the names of the processes that ended.

        Args:
            journals: the directory of the bus's journals.
        """
        return cls(tuple(journal.unbegun(journals)))

    @classmethod
    def configured(cls) -> Redelivery:
        """Read the journals that Nova's configuration names. Other buses than `zenoh://` have none, and nothing is known of their casts."""
        from nova.conf import CONF

        journals = getattr(getattr(CONF, GROUP, None), "journal_dir", None)
        return cls.read(Path(journals)) if journals else cls()

    def ids(self, methods: Iterable[str] = ()) -> frozenset[str]:
        """Return all ids in these casts.

        Args:
            methods: the names of the methods whose casts are searched; without a name, all casts are.
        """
        names = [f'"{method}"'.encode() for method in methods]
        chosen = [frame for frame in self.frames if not names or any(name in frame for name in names)]
        return frozenset(found.decode() for frame in chosen for found in _UUID.findall(frame))
