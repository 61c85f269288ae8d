"""The streams of the document that a site holds, one of each author, and the records that are folded from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from atoll.mesh.entry import Fields, split_name
from atoll.mesh.parts import digest_of, pack_state
from atoll.mesh.record import Record, fold
from atoll.mesh.stream import MAX_WEIGHT, Stream


class StreamSet:
    """The streams by author, and an index of the authors of each record.

    Attributes:
        streams: the streams by author.
        ignored: by revoked author, the stamp after which entries are ignored.
    """

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.ignored: dict[str, int] = {}
        self._holders: dict[str, dict[str, set[str]]] = {}
        self._state: tuple[bytes, bytes] | None = None  # the packed versions of all streams and their digest, until one changes

    def entries(self, author: str) -> Mapping[str, Fields]:
        """Return the entries of an author; empty if there is no stream."""
        stream = self.streams.get(author)
        return stream.entries if stream else {}

    def share(self, other: StreamSet) -> None:
        """Show the streams of another set of this process without a copy; neither document may merge a change of them after that."""
        for stream in other.streams.values():
            self.put(stream, stream.entries)

    def digest(self) -> bytes:
        """Return the digest of the versions of all streams. Each probe carries it."""
        return self._stated()[1]

    def state(self) -> bytes:
        """Return the versions of all streams, packed."""
        return self._stated()[0]

    def state_without(self, authors: Collection[str]) -> bytes:
        """Return the versions of all streams, packed, without those of some authors."""
        streams = ((author, stream) for author, stream in self.streams.items() if author not in authors)
        return pack_state({author: stream.head.version for author, stream in streams if stream.head})

    def _stated(self) -> tuple[bytes, bytes]:
        if self._state is None:
            state = self.state_without(())
            self._state = state, digest_of(state)
        return self._state

    def others(self, name: str, author: str) -> Iterator[Fields]:
        """Yield the entries under a name of all authors but one."""
        kind, key = split_name(name)
        holders = self._holders.get(kind, {}).get(key, ())
        return (self.streams[other].entries[name] for other in holders if other != author)

    def record(self, kind: str, key: str) -> Record | None:
        """Return the record folded from all entries; `None` if there are none."""
        name = f"{kind}/{key}"
        holders = self._holders.get(kind, {}).get(key, ())
        return fold(kind, key, ((author, self.streams[author].entries[name]) for author in holders), self.ignored)

    def entries_about(self, kind: str, key: str) -> dict[str, Fields]:
        """Return the entries about a record by author, without those that are ignored."""
        name = f"{kind}/{key}"
        found = {author: self.streams[author].entries[name] for author in self._holders.get(kind, {}).get(key, ())}
        late = self.ignored
        return {
            author: {field: item for field, item in fields.items() if author not in late or item.stamp <= late[author]}
            for author, fields in found.items()
        }

    def keys(self, kind: str) -> list[str]:
        """Return the keys of all records of a kind."""
        return list(self._holders.get(kind, ()))

    def kinds(self) -> frozenset[str]:
        """Return the kinds of all records."""
        return frozenset(kind for kind, holders in self._holders.items() if holders)

    def size(self) -> dict[str, int]:
        """Return the size: authors, entries, bytes, and the fullness of the fullest stream in percent."""
        streams = self.streams.values()
        return {
            "authors": len(streams),
            "entries": sum(len(stream.entries) for stream in streams),
            "bytes": sum(len(stream.part().update) for stream in streams),
            "fullest_percent": max((100 * stream.weight // MAX_WEIGHT for stream in streams), default=0),
        }

    def put(self, stream: Stream, names: Iterable[str]) -> None:
        """Add a stream, in place of the earlier stream of its author.

        Args:
            stream: the stream.
            names: the names of the new entries, if `stream` is the stored object with entries added.
        """
        self._state = None
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
        """Remove the stream of an author."""
        self._state = None
        stream = self.streams.pop(author, None)
        for name in stream.entries if stream else ():
            self._forget(name, author)

    def _forget(self, name: str, author: str) -> None:
        kind, key = split_name(name)
        holders = self._holders[kind][key]
        holders.discard(author)
        if not holders:
            del self._holders[kind][key]
