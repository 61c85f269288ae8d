"""The bytes of a probe: a message of SWIM with the sender's coordinate, its clock and the digest of its document."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from atoll.mesh.swim_messages import Ack, Ask, Gossip, Message, News, PeerState, Ping
from atoll.mesh.vivaldi import Coordinate

_KINDS: tuple[type[Message], ...] = (Ping, Ack, Ask, Gossip)
_STATES = tuple(PeerState)
_HEAD = struct.Struct(">BI")
_NEWS = struct.Struct(">BI")
_CLOCK = struct.Struct(">Q")

MOST_BYTES = 1 << 16
"""The greatest size of a probe in bytes; 200 opinions about members with names of 255 bytes have 51 KiB."""


@dataclass(frozen=True)
class ProbeMessage:
    """A message between two mesh nodes.

    Attributes:
        message: the message of SWIM.
        coordinate: the sender's coordinate.
        digest: the digest of the sender's document.
        clock_ms: the sender's own clock, in milliseconds since 1970.
    """

    message: Message
    coordinate: Coordinate
    digest: bytes
    clock_ms: int

    def encode(self) -> bytes:
        """Return the bytes of the probe."""
        message = self.message
        parts = [
            _HEAD.pack(_KINDS.index(type(message)), 0 if isinstance(message, Gossip) else message.number),
            self.coordinate.pack(),
            _CLOCK.pack(max(self.clock_ms, 0)),
            _text(self.digest),
        ]
        if isinstance(message, Ask):
            parts.append(_text(message.target.encode()))
        if isinstance(message, Ping | Ack) and message.digest is not None:
            # News about a member without a name: versions without such digests ignore it.
            parts += [_NEWS.pack(PeerState.ALIVE, message.digest), _text(b"")]
        for news in message.news:
            parts += [_NEWS.pack(news.state, news.incarnation), _text(news.name.encode())]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> ProbeMessage:
        """Return the probe that `encode` wrote.

        Raises:
            ValueError: the bytes are not a probe, or too many.
        """
        if len(data) > MOST_BYTES:
            raise ValueError(f"a probe of {len(data)} bytes: expected at most {MOST_BYTES}")
        try:
            return cls._decode(_Reader(data))
        except (struct.error, IndexError) as error:
            raise ValueError(f"malformed probe: {error}") from None

    @classmethod
    def _decode(cls, reader: _Reader) -> ProbeMessage:
        kind, number = reader.unpack(_HEAD)
        coordinate = Coordinate.unpack(reader.take(Coordinate.SIZE))
        (clock_ms,) = reader.unpack(_CLOCK)
        digest = reader.text()
        target = reader.text().decode() if _KINDS[kind] is Ask else ""
        news, opinions = _read_news(reader.rest())
        return cls(_message(_KINDS[kind], number, target, tuple(news), opinions), coordinate, digest, clock_ms)


def _read_news(data: bytes) -> tuple[list[News], int | None]:
    """Return the news, and the digest of opinions if there is one. This takes most of the time of a large cloud's messages."""
    news: list[News] = []
    opinions: int | None = None
    place, end = 0, len(data)
    while place < end:
        state, incarnation = _NEWS.unpack_from(data, place)
        start = place + _NEWS.size + 1
        place = start + data[start - 1]
        if place > end:
            raise ValueError("the probe ends too early")
        if name := data[start:place].decode():
            news.append(News(name, _STATES[state], incarnation))
        else:
            opinions = incarnation
    return news, opinions


def _message(kind: type[Message], number: int, target: str, news: tuple[News, ...], opinions: int | None) -> Message:
    if kind is Ask:
        return Ask(number, target, news)
    return Ping(number, news, opinions) if kind is Ping else Ack(number, news, opinions) if kind is Ack else Gossip(news)


def _text(data: bytes) -> bytes:
    return bytes([len(data)]) + data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def rest(self) -> bytes:
        return self._data[self._at :]

    def take(self, count: int) -> bytes:
        if len(self._data) - self._at < count:
            raise ValueError("the probe ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def text(self) -> bytes:
        return self.take(self.take(1)[0])

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.take(form.size))
