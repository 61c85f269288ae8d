"""What a site holds of the document: a stream of each author, and the records that they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from atoll.mesh.record import Fields, Record, fold, split_name
from atoll.mesh.stream import MAX_WEIGHT, Stream


class Holdings:
    """The streams by author, and which of them have an entry about a record.

    Attributes:
        streams: by author.
        ignored: authors of whom nothing later than a stamp counts.
    """

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.ignored: dict[str, int] = {}
        self._holders: dict[str, dict[str, set[str]]] = {}

    def entries(self, author: str) -> Mapping[str, Fields]:
        """The entries of an author; empty if nothing is here."""
        stream = self.streams.get(author)
        return stream.entries if stream else {}

    def others(self, name: str, author: str) -> Iterator[Fields]:
        """The entries of a name by all authors but one."""
        kind, key = split_name(name)
        holders = self._holders.get(kind, {}).get(key, ())
        return (self.streams[other].entries[name] for other in holders if other != author)

    def record(self, kind: str, key: str) -> Record | None:
        """Fold the entries about a record; `None` if there are none."""
        name = f"{kind}/{key}"
        holders = self._holders.get(kind, {}).get(key, ())
        return fold(kind, key, ((author, self.streams[author].entries[name]) for author in holders), self.ignored)

    def heard(self, kind: str, key: str) -> dict[str, Fields]:
        """The entries about a record by author, without what is ignored."""
        name = f"{kind}/{key}"
        found = {author: self.streams[author].entries[name] for author in self._holders.get(kind, {}).get(key, ())}
        late = self.ignored
        return {
            author: {field: item for field, item in fields.items() if author not in late or item.stamp <= late[author]}
            for author, fields in found.items()
        }

    def keys(self, kind: str) -> list[str]:
        """The keys of all records of a kind."""
        return list(self._holders.get(kind, ()))

    def kinds(self) -> frozenset[str]:
        """The kinds of which there are records."""
        return frozenset(kind for kind, holders in self._holders.items() if holders)

    def size(self) -> dict[str, int]:
        """How large all this is: authors, entries, bytes, and how full the fullest stream is, in percent."""
        streams = self.streams.values()
        return {
            "authors": len(streams),
            "entries": sum(len(stream.entries) for stream in streams),
            "bytes": sum(len(stream.part().update) for stream in streams),
            "fullest_percent": max((100 * stream.weight // MAX_WEIGHT for stream in streams), default=0),
        }

    def put(self, stream: Stream, names: Iterable[str]) -> None:
        """Hold a stream, in place of what was held of its author.

        Args:
            stream: of an author.
            names: the entries that are new in it, if it is the stream that was held already.
        """
        before = self.streams.get(stream.author)
        self.streams[stream.author] = stream
        if before is not None and before is not stream:
            for name in before.entries.keys() - stream.entries.keys():
                self._forget(name, stream.author)
        for name in names:
            kind, key = split_name(name)
            if name in stream.entries:
                self._holders.setdefault(kind, {}).setdefault(key, set()).add(stream.author)

    def drop(self, author: str) -> None:
        """Hold nothing of an author any more."""
        stream = self.streams.pop(author, None)
        for name in stream.entries if stream else ():
            self._forget(name, author)

    def _forget(self, name: str, author: str) -> None:
        kind, key = split_name(name)
        holders = self._holders[kind][key]
        holders.discard(author)
        if not holders:
            del self._holders[kind][key]
