"""The wire format of the bus: the frames that two nodes exchange.

Each frame begins with the identity of the message that it is about: the node that sent the message (a number for each run of a process)
and the number that the node gave to the message. All numbers are in network byte order.

    magic 0xA1 | kind | origin u64 | number u64 | … REQUEST    flags u8 | listener u32 | oldest u64 | monitor u32 | JSON [context, message]
    QUESTION   listener u32 | node u64 | its listener u32         asks for the status of the message that was sent to that listener ANSWER
    status u8 | node u64 | listener u32                the listener that answers REPLY      failed u8 | JSON HEARTBEAT
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

MAGIC = 0xA1
"""The first byte of a frame, which names the format and its version."""


class MalformedFrameError(ValueError):
    """Bytes that are not a frame, or a frame that was cut short."""


class MessageId(NamedTuple):
    """The identity of a message: the node that sent it, and the number that this node gave to it."""

    origin: int
    number: int

    def __str__(self) -> str:
        return f"{self.origin:016x}.{self.number}"


class Instance(NamedTuple):
    """One run of a server: its node, and the number of its listener on that node."""

    node: int
    listener: int

    def __str__(self) -> str:
        return f"{self.node:016x}.{self.listener}"


class Status(IntEnum):
    """The answer of a listener that is asked for the status of a message."""

    TAKEN = 1
    """The listener has taken the message, and acknowledges it."""
    REFUSED = 2
    """The listener will not take the message: it may be sent to another server."""
    UNKNOWN = 3
    """The message never arrived at the listener; it can be sent again."""
    NO_MEMORY = 4
    """Another listener took the message, and left no record that the answering listener can read."""
    LOST = 5
    """The message may or may not have been executed: the process that took it died, or its record was dropped."""


class Request(NamedTuple):
    """A message for a listener.

    Attributes:
        id: the message's identity, the same when it is sent again.
        listener: the number of the listener at the receiving node; 0 for all that subscribed to the key (fanout).
        wants_reply: whether the sender waits for a reply.
        oldest: the lowest number among the messages for which the sender still waits.
        monitor_s: the seconds within which the sender expects a heartbeat; 0 for never.
        body: JSON of [context, message].
    """

    id: MessageId
    listener: int
    wants_reply: bool
    oldest: int
    monitor_s: int
    body: bytes


class Question(NamedTuple):
    """A question to `listener` about message `id`, which was sent to `instance`: that listener itself, or a predecessor."""

    id: MessageId
    listener: int
    instance: Instance


class Answer(NamedTuple):
    """The status of message `id` at `instance`."""

    id: MessageId
    status: Status
    instance: Instance


class Reply(NamedTuple):
    """The result of a method as JSON, or its failure."""

    id: MessageId
    failed: bool
    body: bytes


class Heartbeat(NamedTuple):
    """A sign that the method is still at work."""

    id: MessageId


Frame = Request | Question | Answer | Reply | Heartbeat

_HEAD = struct.Struct("!BBQQ")
_REQUEST = struct.Struct("!BBQQBIQI")
_QUESTION = struct.Struct("!BBQQIQI")
_ANSWER = struct.Struct("!BBQQBQI")
_REPLY = struct.Struct("!BBQQB")

_KIND_REQUEST, _KIND_QUESTION, _KIND_ANSWER, _KIND_REPLY, _KIND_HEARTBEAT = range(1, 6)


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    origin, number = frame.id
    if type(frame) is Request:
        listener, wants_reply = frame.listener, frame.wants_reply
        return _REQUEST.pack(MAGIC, _KIND_REQUEST, origin, number, wants_reply, listener, frame.oldest, frame.monitor_s) + frame.body
    if type(frame) is Reply:
        return _REPLY.pack(MAGIC, _KIND_REPLY, origin, number, frame.failed) + frame.body
    if type(frame) is Answer:
        return _ANSWER.pack(MAGIC, _KIND_ANSWER, origin, number, frame.status, *frame.instance)
    if type(frame) is Question:
        return _QUESTION.pack(MAGIC, _KIND_QUESTION, origin, number, frame.listener, *frame.instance)
    return _HEAD.pack(MAGIC, _KIND_HEARTBEAT, *frame.id)


def decode(data: bytes) -> Frame:
    """Return the frame in `data`, without reading the JSON inside.

    Raises:
        MalformedFrameError: `data` is not a frame.
    """
    if len(data) < _HEAD.size:
        raise MalformedFrameError(f"{len(data)} bytes are fewer than a frame has")
    if data[0] != MAGIC:
        raise MalformedFrameError(f"the first byte is {data[0]:#04x}, not {MAGIC:#04x}")
    try:
        return _DECODERS[data[1]](data)
    except KeyError:
        raise MalformedFrameError(f"no frame is of kind {data[1]}") from None
    except (struct.error, ValueError) as error:
        raise MalformedFrameError(f"a frame of kind {data[1]}: {error}") from None


def _decode_request(data: bytes) -> Request:
    _, _, origin, number, wants_reply, listener, oldest, monitor_s = _REQUEST.unpack_from(data)
    return Request(MessageId(origin, number), listener, bool(wants_reply), oldest, monitor_s, data[_REQUEST.size :])


def _decode_question(data: bytes) -> Question:
    _, _, origin, number, listener, node, its_listener = _QUESTION.unpack(data)
    return Question(MessageId(origin, number), listener, Instance(node, its_listener))


def _decode_answer(data: bytes) -> Answer:
    _, _, origin, number, status, node, listener = _ANSWER.unpack(data)
    return Answer(MessageId(origin, number), Status(status), Instance(node, listener))


def _decode_reply(data: bytes) -> Reply:
    _, _, origin, number, failed = _REPLY.unpack_from(data)
    return Reply(MessageId(origin, number), bool(failed), data[_REPLY.size :])


def _decode_heartbeat(data: bytes) -> Heartbeat:
    _, _, origin, number = _HEAD.unpack(data)
    return Heartbeat(MessageId(origin, number))


_DECODERS: dict[int, Callable[[bytes], Frame]] = {
    _KIND_REQUEST: _decode_request,
    _KIND_QUESTION: _decode_question,
    _KIND_ANSWER: _decode_answer,
    _KIND_REPLY: _decode_reply,
    _KIND_HEARTBEAT: _decode_heartbeat,
}
