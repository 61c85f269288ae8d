"""Evidence from the journals of killed servers: the casts that a server was executing when it died."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from atoll.bus import frames, journal, payload

LATEST = 1_000
"""Greatest number of casts that are read from the end of a journal. At most one cast for each thread of the server can be unfinished."""


def journals(directory: Path, server: str) -> list[Path]:
    """Return the journals that processes with a server's name have left: those that no later process of this name has removed.

    Args:
        directory: the value of the option `journal_dir`.
        server: the server's name.
    """
    return sorted(directory.glob(f"*+{server}/*.journal"))


def begun(paths: Iterable[Path]) -> set[int]:
    """Return the numbers (the argument `number`) of the last `LATEST` casts that each journal records as begun.

    A cast whose request a journal no longer holds is left out.

    Args:
        paths: the journals; those that no longer exist are skipped.
    """
    found: set[int] = set()
    for path in paths:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        found.update(_begun(data))
    return found


def _begun(data: bytes) -> Iterator[int]:
    taken: dict[frames.MessageId, bytes] = {}
    started: list[frames.MessageId] = []
    for record in journal.read(data):
        if record.kind is journal.EntryKind.TAKEN:
            taken[record.id] = record.frame
        elif record.kind is journal.EntryKind.BEGUN:
            started.append(record.id)
    for message in started[-LATEST:]:
        # If the journal does not contain the request, the cast was begun before the file was last rewritten.
        if message in taken:
            request = frames.decode(taken[message])
            assert isinstance(request, frames.Request)
            _context, content = payload.decode(request.body)
            yield content["args"]["number"]
