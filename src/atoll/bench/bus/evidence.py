"""What the journals of killed servers prove: which casts were in a server's hands when it died."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from atoll.bus import frames, journal, payload

LATEST = 1_000
"""How many of those begun last are looked at: no more than there are threads can have been in a server's hands at once."""


def journals(directory: Path, server: str) -> list[Path]:
    """The journals of all processes of a server's name, as far as no successor has removed them.

    Args:
        directory: the option `journal_dir`.
        server: the name.
    """
    return sorted(directory.glob(f"*+{server}/*.journal"))


def begun(paths: Iterable[Path]) -> set[int]:
    """The numbers of the casts that were begun last, according to journals.

    Args:
        paths: files; one that has gone meanwhile is nothing.
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
    ended: list[frames.MessageId] = []
    for record in journal.read(data):
        if record.kind is journal.Kind.TAKEN:
            taken[record.id] = record.frame
        elif record.kind is journal.Kind.BEGUN:
            ended.append(record.id)
    for message in ended[-LATEST:]:
        # One whose request the journal no longer has was begun long before: when the file was last written anew.
        if message in taken:
            request = frames.decode(taken[message])
            assert isinstance(request, frames.Request)
            _context, content = payload.decode(request.body)
            yield content["args"]["number"]
