"""Listeners: where messages arrive, are acknowledged, and are handed to oslo.messaging's servers."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from oslo_messaging._drivers import base
from oslo_messaging._drivers import common as rpc_common

from atoll.bus import payload
from atoll.bus.frames import (
    Answer,
    Frame,
    Heartbeat,
    Instance,
    MalformedFrameError,
    MessageId,
    Question,
    Reply,
    Request,
    Status,
    decode,
    encode,
)
from atoll.bus.journal import Journal, Kind, Past, Record, journal_directory
from atoll.bus.node import Node
from atoll.bus.seen import Seen, State

LOG = logging.getLogger(__name__)

_STATUS: dict[State | Reply, Status] = {State.NEW: Status.REFUSED, State.FORGOTTEN: Status.LOST}
"""What a sender is told of a message; of those in other states, that it was taken."""


class Place(NamedTuple):
    """What a listener listens to.

    Attributes:
        kind: "rpc" or "notify".
        exchange, topic: of the target.
        name: the server (rpc) or the pool (notify).
    """

    kind: str
    exchange: str
    topic: str
    name: str


class Incoming(base.RpcIncomingMessage):  # type: ignore[misc]
    """A message in a server's hands."""

    def __init__(self, mailbox: Mailbox, request: Request, context: Any, message: Any) -> None:
        super().__init__(context, message, msg_id=str(request.id))
        self._mailbox = mailbox
        self._request = request
        self.client_timeout = request.monitor_s or None

    def acknowledge(self) -> None:
        """The server begins to execute it; the sender has its acknowledgement since the message arrived."""
        self._mailbox.begin(self._request.id)

    def requeue(self) -> None:
        """The server gives it back: it is handed out again."""
        self._mailbox.deliver(self)

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Send what the method returned, or how it failed; a cast's sender wants neither."""
        if not self._request.wants_reply:
            self._mailbox.settle(Reply(self._request.id, False, b""))
            return
        self._mailbox.settle(_reply(self._request.id, reply, failure), send=True)

    def heartbeat(self) -> None:
        """Tell the caller that the method is still at work."""
        self._mailbox.node.send(self._request.id.origin, Heartbeat(self._request.id))


def _reply(message: MessageId, reply: Any, failure: Any) -> Reply:
    if failure is None:
        try:
            return Reply(message, False, payload.encode(reply))
        except (TypeError, ValueError) as error:
            LOG.exception("the reply to message %s can't be turned into JSON", message)
            failure = (type(error), error, error.__traceback__)
    return Reply(message, True, rpc_common.serialize_remote_exception(failure).encode())


class Mailbox:
    """Takes the messages for some places of one listener, each once, and hands them to `deliver`."""

    def __init__(  # noqa: PLR0913 - what it stands on
        self, node: Node, places: list[Place], deliver: Any, *, seen_per_sender: int, journal_dir: Path | None, durable: bool = True
    ) -> None:
        """A mailbox that is not open yet.

        Args:
            node: this process.
            places: all with the same name.
            deliver: called with each `Incoming`, in an order that keeps each sender's.
            seen_per_sender: messages of one sender that are remembered.
            journal_dir: root of the journals, or None for none.
            durable: journals survive a loss of power.
        """
        self.node = node
        self.deliver = deliver
        self._places = places
        self._seen = Seen(seen_per_sender)
        self._journal: Journal | None = None
        self._past = Past()
        self._durable = durable
        self._lock = threading.Lock()
        self._open = False
        self._tokens: list[Any] = []
        self._fanouts: list[Any] = []
        topics = frozenset((place.kind, place.exchange, place.topic) for place in places)
        self.instance = Instance(node.id, node.register(self, topics))
        self._journals = None if journal_dir is None else journal_directory(journal_dir, node.settings.address.vhost, *places[0])

    def open(self) -> None:
        """Take what predecessors left, and let senders find this listener.

        Raises:
            OSError: the journal can't be written.
        """
        session, keys = self.node.session, self.node.keys
        if self._journals:
            self._take_over(self._journals)
        self._open = True
        for place in self._places:
            if place.kind == "rpc":
                self._fanouts.append(self.node.subscribe(keys.fanout(place.exchange, place.topic), self._on_fanout))
            self._tokens.append(session.liveliness().declare_token(keys.listener(*place, self.instance)))
            known = self.node.directory.known(place.kind, place.exchange, place.topic)
            if known is not None:
                # Zenoh tells of it a moment later; who in this process sends at once finds it now.
                known.add(place.name, self.instance)

    def close(self) -> None:
        """Take no more messages. Those that are in the server's hands are still replied to."""
        with self._lock:
            self._open = False
        for declared in (*self._tokens, *self._fanouts):
            declared.undeclare()
        self._tokens.clear()
        self._fanouts.clear()
        for place in self._places:
            known = self.node.directory.known(place.kind, place.exchange, place.topic)
            if known is not None:
                known.remove(self.instance)

    def forget(self) -> None:
        """All is done: leave the journal to a successor."""
        self.node.unregister(self.instance.listener)
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    # Frames from the network

    def accept(self, request: Request) -> None:
        """A message came: take it, unless it is known already, and acknowledge it.

        A call is acknowledged by its reply, or when its sender asks; that saves a frame.
        """
        try:
            context, message = _read(request.body)
        except ValueError as error:
            LOG.warning("dropped message %s, which is not JSON of [context, message]: %s", request.id, error)
            return
        with self._lock:
            known = self._seen.look(request.id, request.oldest)
            if known is State.NEW:
                known = self._take(request, context, message)
        if known is not State.TAKEN or not request.wants_reply:
            self._tell(request.id, known)

    def _take(self, request: Request, context: Any, message: Any) -> State:
        if not self._open:
            return State.NEW
        if self._journal is not None and not request.wants_reply:
            try:
                self._journal.taken(request.id, encode(request))
            except OSError as error:
                LOG.error("message %s is refused, because the journal in %s can't be written: %s", request.id, self._journals, error)  # noqa: TRY400
                return State.NEW
        self._seen.take(request.id)
        self.deliver(Incoming(self, request, context, message))
        return State.TAKEN

    def _take_over(self, journals: Path) -> None:
        """Begin a journal with what dead predecessors left, and execute the casts that they acknowledged and never began."""
        self._journal = Journal(journals, self.instance, self._needed, durable=self._durable)
        with self._past.take_over(journals) as left:
            self._journal.inherit(self._past.records())
            for message, frame in left.items():
                self._journal.taken(message, frame)
        for message, frame in left.items():
            incoming = _left(self, message, frame)
            if incoming is not None:
                LOG.info("message %s, which a predecessor acknowledged and did not begin, is executed now", message)
                self._seen.take(message)
                self.deliver(incoming)

    def _needed(self) -> list[Record]:
        return self._past.records() + [Record(Kind.BEGUN, message) for message in self._seen.begun()]

    def _on_fanout(self, frame: Frame) -> None:
        if isinstance(frame, Request):
            self.accept(frame)

    def answer(self, question: Question) -> None:
        """Say what became of a message that was sent to this listener, or to one whose journal it took over."""
        if question.instance == self.instance:
            with self._lock:
                known = self._seen.ask(question.id)
            if known is State.NEW:
                self._send(question.id, Status.UNKNOWN if self._open else Status.REFUSED)
            else:
                self._tell(question.id, known)
        elif not self._past.remembers(question.instance):
            self._send(question.id, Status.NO_MEMORY)
        else:
            self._send(question.id, Status.LOST if self._past.was_begun(question.id) else Status.UNKNOWN)

    def _tell(self, message: MessageId, known: State | Reply) -> None:
        """Answer what is known of a message; one that is still new was refused."""
        if isinstance(known, Reply) and known.body:
            self.node.send(message.origin, known)
        else:
            self._send(message, _STATUS.get(known, Status.TAKEN))

    def _send(self, message: MessageId, status: Status) -> None:
        self.node.send(message.origin, Answer(message, status, self.instance))

    # What the server does with them

    def begin(self, message: MessageId) -> None:
        """The message is about to be executed; a notification has been."""
        if self._journals is not None:
            self._note_begin(message)
        if self._places[0].kind == "notify":
            self.settle(Reply(message, False, b""))

    def _note_begin(self, message: MessageId) -> None:
        with self._lock:
            self._seen.begin(message)
            try:
                if self._journal is not None:
                    self._journal.begun(message)
            except OSError as error:
                LOG.error("the journal in %s can't be written: %s", self._journals, error)  # noqa: TRY400

    def settle(self, reply: Reply, *, send: bool = False) -> None:
        """The message was executed: keep the reply for a sender that asks again."""
        with self._lock:
            self._seen.reply(reply)
        if send:
            self.node.send(reply.id.origin, reply)


def _read(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Context and message of a request.

    Raises:
        ValueError: it is not JSON, or not of these.
    """
    match payload.decode(body):
        case [dict() as context, dict() as message]:
            return context, message
        case other:
            raise ValueError(f"a list of two objects was expected, not this {type(other).__name__}")


def _left(mailbox: Mailbox, message: MessageId, frame: bytes) -> Incoming | None:
    """A request that is read from a journal; None, and a line in the log, when the record is damaged."""
    try:
        match decode(frame):
            case Request() as request:
                return Incoming(mailbox, request, *_read(request.body))
            case other:
                raise MalformedFrameError(f"a {type(other).__name__} is no request")
    except ValueError as error:
        LOG.warning("dropped message %s of a predecessor's journal: %s", message, error)
        return None


class RpcListener(base.Listener):  # type: ignore[misc]
    """Hands each message to the server's pool of threads as it comes, with no thread between."""

    def __init__(self, batch_size: int, batch_timeout: float | None) -> None:
        super().__init__(batch_size, batch_timeout)
        self.mailbox: Mailbox

    def deliver(self, incoming: Incoming) -> None:
        """Called by the mailbox."""
        self.on_incoming_callback([incoming])

    def start(self, on_incoming_callback: Any) -> None:
        """Begin to listen."""
        super().start(on_incoming_callback)
        self.mailbox.open()

    def stop(self) -> None:
        """Take no more messages."""
        self.mailbox.close()

    def cleanup(self) -> None:
        """All messages were executed."""
        self.mailbox.forget()


class NotificationListener(base.PollStyleListener):  # type: ignore[misc]
    """Keeps messages until they are polled, one by one or in batches."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox: Mailbox
        self._messages: SimpleQueue[Incoming | None] = SimpleQueue()

    def deliver(self, incoming: Incoming) -> None:
        """Called by the mailbox."""
        self._messages.put(incoming)

    @base.batch_poll_helper  # type: ignore[untyped-decorator]
    def poll(self, timeout: float | None = None) -> Incoming | None:
        """The next message, or None after `timeout` seconds or when the listener was stopped and all were polled."""
        try:
            return self._messages.get(timeout=timeout)
        except Empty:
            return None

    def stop(self) -> None:
        """Take no more messages, and let `poll` return."""
        self.mailbox.close()
        # Twice: one for the poll that is under way, one for the last one, which must not wait.
        self._messages.put(None)
        self._messages.put(None)

    def cleanup(self) -> None:
        """All messages were handled."""
        self.mailbox.forget()
