"""The synchronisation of two documents: hellos, state vectors, differences. No I/O: messages are returned to the caller.

    hello      the digest of a document, on every ping           "are we equal?"
    have       a state vector                                    "this is what I have: send me what I lack"
    part       one author's part                                 a live update, or one of the answers to `have`
    chunk      a piece of a message that is too large for one
    page       a piece of a part that is too large for one answer
    next       the offset that the pages have reached            "go on"
    more                                                         "ask again for the rest"
    done                                                         "that was all that you lack"

No answer is larger than `MAX_ANSWER_BYTES`, however large the documents: the reader asks again, or fetches a large part page by page. An
update that is too large to be sent to all is not sent: the others notice it by the digest.

A site asks one other site at a time, so that missing entries arrive once. If the asked site itself lacks something, it asks back. Two
documents in the same two states are compared again only after a pause that doubles: a part that was refused once would be refused again.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgpack

from atoll.mesh.document import Behind, Contradiction, Document, Refused, UnknownAuthor
from atoll.mesh.pages import Page, PageReader, PageRequest, PageSender
from atoll.mesh.parts import Part, digest_of

_LOG = logging.getLogger(__name__)

Message = tuple[str, bytes]
"""The receiver of a message, and the message."""

MAX_MESSAGE_BYTES = 256 * 1024
ANSWER_S = 3.0
"""Seconds without an answer after which an asked site is considered unreachable."""

PAUSE_S = 2.0
MAX_PAUSE_S = 60.0
_HEARD_S = 120.0
_CHUNK_BYTES = MAX_MESSAGE_BYTES - 64
_MAX_CHUNKS = 16

MAX_WHOLE_BYTES = 3 * 1024 * 1024
"""The greatest size of a part in one message, in bytes; a larger part is sent in pages. A part of this size needs at most `_MAX_CHUNKS`
chunks."""
MAX_ANSWER_BYTES = 2 * MAX_WHOLE_BYTES


class _Kind(enum.IntEnum):
    HELLO = 0
    HAVE = 1
    PART = 2
    CHUNK = 3
    DONE = 4
    PAGE = 5
    NEXT = 6
    MORE = 7


@dataclass
class _Peer:
    """The state of the exchange with another site.

    Attributes:
        heard: the time of its last message.
        asked: the digests of both documents when the site was last asked.
        again: the time from which the site may be asked again with the same digests.
        pause_s: the seconds by which `again` was last delayed.
        whole_again: the time from which the site may be asked again for the whole stream of an author.
        chunks: the chunks of the incomplete message.
        under_way: the number and the length of that message.
    """

    heard: float = 0.0
    asked: tuple[bytes, bytes] = (b"", b"")
    again: float = 0.0
    pause_s: float = PAUSE_S
    whole_again: float = 0.0
    chunks: list[bytes] = field(default_factory=list)
    under_way: tuple[int, int] = (0, 0)


class DocumentSync:
    """Synchronises this site's copy of one document with the copies of other sites."""

    def __init__(self, document: Document, now: Callable[[], float] = time.monotonic, relay: Callable[[], Iterable[str]] = tuple) -> None:
        """Start without any peer.

        Args:
            document: this site's document.
            now: a monotonic clock, in seconds.
            relay: returns the sites to which new entries of others are to be passed on, since their author does not send to all.
        """
        self._document = document
        self._relay = relay
        self._now = now
        self._peers: dict[str, _Peer] = {}
        self._asking: str | None = None
        self._asking_until = 0.0
        self._differ: dict[str, bytes] = {}
        self._number = 0
        self._learned = False
        self._page_sender = PageSender(document.part)
        self._page_reader = PageReader()

    def hello(self) -> bytes:
        """Return the digest that a ping carries (8 bytes)."""
        return self._document.digest()

    def live(self, part: Part) -> list[bytes]:
        """Return the messages for every site after a write of this one (`Document.on_update`)."""
        packed = part.pack()
        small = len(packed) <= MAX_WHOLE_BYTES
        return self._pieces(_pack(_Kind.PART, packed) if small else _pack(_Kind.HELLO, self._document.digest()))

    def on_hello(self, peer: str, digest: bytes) -> list[Message]:
        """Handle the digest of another site's document.

        Returns:
            The messages to send.
        """
        self._peer(peer).heard = self._now()
        if digest == self._document.digest():
            self._differ.pop(peer, None)
            return []
        return self._ask(peer, digest)

    def on_message(self, peer: str, data: bytes) -> list[Message]:
        """Handle a message of another site.

        Returns:
            The messages to send, some of them to other sites.

        Raises:
            Refused: the message is malformed, or its content is refused. It changed nothing.
        """
        self._peer(peer).heard = self._now()
        if self._asking == peer:
            self._asking_until = self._now() + ANSWER_S
        kind, *content = _unpack(data)
        if kind is _Kind.CHUNK:
            whole = self._collect(peer, *content)
            if whole is None:
                return []
            kind, *content = _unpack(whole)
        if kind is _Kind.CHUNK:
            raise Refused("a chunked message contains another chunk")
        handlers: dict[_Kind, Callable[..., list[Message]]] = {
            _Kind.HELLO: self.on_hello,
            _Kind.HAVE: self._on_have,
            _Kind.PART: self._on_part,
            _Kind.DONE: self._on_done,
            _Kind.MORE: self._on_more,
            _Kind.PAGE: self._on_page,
            _Kind.NEXT: self._on_next,
        }
        return handlers[kind](peer, *content)

    # --- Asking

    def _ask(self, peer: str, digest: bytes, *, without: str | None = None, back: bool = True) -> list[Message]:
        """Ask a site for missing entries; if another site is being asked, do so later.

        Args:
            peer: the site to ask.
            digest: the digest of its document; empty if unknown.
            without: the author whose whole stream is requested.
            back: whether the other site may ask as well.
        """
        now = self._now()
        if self._asking is not None and now < self._asking_until:
            if self._asking != peer or not digest:  # the peer's answer will be newer than its digest
                self._differ[peer] = digest
            return []
        self._differ.pop(peer, None)
        state = self._peer(peer)
        if not (self._may_ask_whole(state, now) if without else self._may_ask(state, digest, now)):
            return []
        self._asking, self._asking_until = peer, now + ANSWER_S
        vector = self._document.state_without([without] if without else ())
        return [(peer, piece) for piece in self._pieces(_pack(_Kind.HAVE, vector, back))]

    def _may_ask(self, state: _Peer, digest: bytes, now: float) -> bool:
        theirs, ours = state.asked
        if self._document.digest() == ours and digest in {theirs, b""}:
            if now < state.again:
                return False
            state.pause_s = min(2 * state.pause_s, MAX_PAUSE_S)
        else:
            state.asked, state.pause_s = (digest, self._document.digest()), PAUSE_S
        state.again = now + state.pause_s
        return True

    @staticmethod
    def _may_ask_whole(state: _Peer, now: float) -> bool:
        if now < state.whole_again:
            return False
        state.whole_again = now + PAUSE_S
        return True

    def _on_have(self, peer: str, vector: bytes, back: bool) -> list[Message]:
        answer = [(peer, piece) for message in self._answer(vector) for piece in self._pieces(message)]
        if back and self._document.lacks(vector):
            return [*self._ask(peer, digest_of(vector), back=False), *answer]
        return answer

    def _answer(self, vector: bytes) -> list[bytes]:
        """Return the answer for a document with a state vector: the parts that it lacks, or the first of them."""
        messages: list[bytes] = []
        size = 0
        for part in self._document.parts(vector):
            packed = part.pack()
            if len(packed) > MAX_WHOLE_BYTES:
                # The reader asks for the rest when it has all pages.
                return [*messages, *(_pack(_Kind.PAGE, *page) for page in self._page_sender.open(part, packed))]
            size += len(packed)
            if size > MAX_ANSWER_BYTES:
                return [*messages, _pack(_Kind.MORE)]
            messages.append(_pack(_Kind.PART, packed))
        return [*messages, _pack(_Kind.DONE)]

    def _on_more(self, peer: str) -> list[Message]:
        if self._asking != peer:
            return []
        self._asking = None
        return self._ask(peer, b"", back=False)

    def _on_page(self, peer: str, *content: Any) -> list[Message]:
        page = Page(*content)
        if self._asking != peer:
            idle = self._asking is None or self._now() >= self._asking_until
            if page.author != self._document.author or not idle:
                return []
            self._asking, self._asking_until = peer, self._now() + ANSWER_S  # the peer sends entries that this site has lost
        turned = self._page_reader.take(page)
        if isinstance(turned, PageRequest):
            return [(peer, _pack(_Kind.NEXT, *turned))]
        if turned is None:
            return []
        messages = self._on_part(peer, turned)
        return messages or self._on_more(peer)

    def _on_next(self, peer: str, *content: Any) -> list[Message]:
        return [(peer, _pack(_Kind.PAGE, *page)) for page in self._page_sender.turn(PageRequest(*content))]

    def _on_done(self, peer: str) -> list[Message]:
        if self._asking != peer:
            return []
        self._asking = None
        news: list[Message] = []
        if self._learned:  # the part did not come from its author: other sites may lack it too
            self._learned = False
            hello, since = _pack(_Kind.HELLO, self._document.digest()), self._now() - _HEARD_S
            news = [(other, hello) for other, state in self._peers.items() if other != peer and state.heard > since]
        ours = self._document.digest()
        self._differ = {other: digest for other, digest in self._differ.items() if digest != ours}
        for other, digest in list(self._differ.items()):
            if self._asking is None:
                news += self._ask(other, digest)
        return news

    # --- Merging

    def _on_part(self, peer: str, data: bytes) -> list[Message]:
        part = Part.unpack(data)
        try:
            if self._document.merge_part(part):
                self._learned = self._learned or self._asking == peer
                if self._asking != peer:
                    pieces = self._pieces(_pack(_Kind.PART, data))
                    return [(other, piece) for other in self._relay() if other not in {peer, part.author} for piece in pieces]
            elif part.base == 0 and self._document.overtaken(part) and part.author != peer:
                # This site can't judge an older state of a stream; its author can.
                return self._to({part.author}, data)
        except UnknownAuthor as refusal:
            _LOG.info("%s sends entries of %s, which is not known yet", peer, refusal.author)
            return self._ask(peer, b"")
        except Behind as refusal:
            if refusal.wholly and self._asking == peer:
                self._asking = None  # the peer's answer would not help
            return self._ask(peer, b"", without=refusal.author if refusal.wholly else None)
        except Contradiction as refusal:
            _LOG.warning("%s sends entries of %s: %s", peer, refusal.author, refusal.reason)
            return self._send_stream(refusal.author, {peer, refusal.author})
        return []

    def _send_stream(self, author: str, peers: set[str]) -> list[Message]:
        """Send an author's stream to the sites that lack entries of it, above all to the author."""
        part = self._document.part(author)
        if part is None:
            return []
        packed = part.pack()
        if len(packed) <= MAX_WHOLE_BYTES:
            return self._to(peers, packed)
        pages = [_pack(_Kind.PAGE, *page) for page in self._page_sender.open(part, packed)]
        return [(author, page) for page in pages if author in self._peers]

    def _to(self, peers: set[str], part: bytes) -> list[Message]:
        pieces = self._pieces(_pack(_Kind.PART, part))
        return [(peer, piece) for peer in sorted(peers) if peer in self._peers for piece in pieces]

    # --- Messages

    def _peer(self, peer: str) -> _Peer:
        return self._peers.setdefault(peer, _Peer())

    def _pieces(self, message: bytes) -> list[bytes]:
        if len(message) <= MAX_MESSAGE_BYTES:
            return [message]
        self._number += 1
        chunks = [message[start : start + _CHUNK_BYTES] for start in range(0, len(message), _CHUNK_BYTES)]
        return [_pack(_Kind.CHUNK, self._number, index, len(chunks), chunk) for index, chunk in enumerate(chunks)]

    def _collect(self, peer: str, number: int, index: int, length: int, chunk: bytes) -> bytes | None:
        """Add a chunk; return the message if this was its last chunk. If a chunk is lost, the next hello starts another exchange."""
        if not 0 <= index < length <= _MAX_CHUNKS or len(chunk) > _CHUNK_BYTES:
            raise Refused("a chunk is malformed")
        state = self._peer(peer)
        if index == 0:
            state.chunks, state.under_way = [], (number, length)
        if state.under_way != (number, length) or len(state.chunks) != index:
            return None
        state.chunks.append(chunk)
        if index + 1 < length:
            return None
        whole, state.chunks = b"".join(state.chunks), []
        return whole


_CONTENT: dict[_Kind, list[type]] = {
    _Kind.HELLO: [bytes],
    _Kind.HAVE: [bytes, bool],
    _Kind.PART: [bytes],
    _Kind.CHUNK: [int, int, int, bytes],
    _Kind.DONE: [],
    _Kind.PAGE: [str, int, bytes, int, int, bytes],
    _Kind.NEXT: [str, int, bytes, int],
    _Kind.MORE: [],
}


def _pack(kind: _Kind, *content: object) -> bytes:
    return bytes(msgpack.packb([int(kind), *content]))


def _unpack(data: bytes) -> list[Any]:
    try:
        number, *content = msgpack.unpackb(data)
        kind = _Kind(number)
    except Exception as error:  # msgpack raises ValueError, and other errors for some inputs
        raise Refused(f"a message of the exchange is malformed: {error}") from error
    if [type(item) for item in content] != _CONTENT[kind]:
        raise Refused(f"a message of the exchange is malformed: not the content of {kind.name}")
    return [kind, *content]
