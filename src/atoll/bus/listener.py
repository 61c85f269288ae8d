"""Listeners: receive and acknowledge messages, and pass them to oslo.messaging's servers."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
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
from atoll.bus.journal import EntryKind, Journal, JournalEntry, JournalHistory, journal_directory
from atoll.bus.node import Node
from atoll.bus.realms import realm_of
from atoll.bus.seen import RequestState, SeenRequests

LOG = logging.getLogger(__name__)

_sender: ContextVar[int | None] = ContextVar("sender", default=None)

_STATUS: dict[RequestState | Reply, Status] = {RequestState.NEW: Status.REFUSED, RequestState.FORGOTTEN: Status.LOST}
"""The status with which a question about a message is answered, by the message's state; in any other state, it is `TAKEN`."""


def sender_realm() -> int | None:
    """Return the realm of the sender of the message that this thread executes, as the bus has checked it; `None` if there is no message."""
    return _sender.get()


class Subject(NamedTuple):
    """The subject of a listener.

    Attributes:
        kind: "rpc" or "notify".
        exchange, topic: the target's exchange and topic.
        name: the server (rpc) or the pool (notify).
    """

    kind: str
    exchange: str
    topic: str
    name: str


class Incoming(base.RpcIncomingMessage):
    """A message that a listener has taken, for the server that executes it."""

    def __init__(self, mailbox: Mailbox, request: Request, context: Any, message: Any) -> None:
        super().__init__(context, message, msg_id=str(request.id))
        self._mailbox = mailbox
        self._request = request
        self.client_timeout = request.monitor_s or None

    def acknowledge(self) -> None:
        """Record that the server begins to execute the message, which was acknowledged to its sender on arrival.

        oslo.messaging calls this in the thread that then calls the method, so the method can ask for `sender_realm`.
        """
        _sender.set(realm_of(self._request.id.origin))
        self._mailbox.begin(self._request.id)

    def requeue(self) -> None:
        """Deliver the message again: the server returned it."""
        self._mailbox.deliver(self)

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Send the result of the method or its failure; the sender of a cast gets neither."""
        if not self._request.wants_reply:
            self._mailbox.settle(Reply(self._request.id, False, b""))
            return
        self._mailbox.settle(_reply(self._request.id, reply, failure), send=True)

    def heartbeat(self) -> None:
        """Send the caller a sign that the method is still at work."""
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
    """The mailbox of one listener: it takes each message once, and passes it to `deliver`."""

    def __init__(  # noqa: PLR0913 - its settings
        self, node: Node, subjects: list[Subject], deliver: Any, *, seen_per_sender: int, journal_dir: Path | None, durable: bool = True
    ) -> None:
        """Create a mailbox; `open` makes it receive.

        Args:
            node: this process.
            subjects: the subjects that the listener listens to, all with the same name.
            deliver: called with each `Incoming`; the messages of one sender are delivered in the order in which they were sent.
            seen_per_sender: the number of messages of one sender to remember.
            journal_dir: the root directory of the journals; `None` means that no journal is kept.
            durable: flush journals to the disk, so that they survive a loss of power.
        """
        self.node = node
        self.deliver = deliver
        self._subjects = subjects
        self._seen = SeenRequests(seen_per_sender)
        self._journal: Journal | None = None
        self._past = JournalHistory()
        self._durable = durable
        self._lock = threading.Lock()
        self._open = False
        self._tokens: list[Any] = []
        self._fanouts: list[Any] = []
        topics = frozenset((subject.kind, subject.exchange, subject.topic) for subject in subjects)
        self.instance = Instance(node.id, node.register(self, topics))
        self._journals = None if journal_dir is None else journal_directory(journal_dir, node.settings.address.vhost, *subjects[0])

    def open(self) -> None:
        """Take over the messages of predecessors, and announce this listener to senders.

        Raises:
            OSError: the journal can't be written.
        """
        session, keys = self.node.session, self.node.keys
        if self._journals:
            self._take_over(self._journals)
        self._open = True
        for subject in self._subjects:
            if subject.kind == "rpc":
                self._fanouts.append(self.node.subscribe(keys.fanout(subject.exchange, subject.topic), self._on_fanout))
            self._tokens.append(session.liveliness().declare_token(keys.listener(*subject, self.instance)))
            known = self.node.directory.known(subject.kind, subject.exchange, subject.topic)
            if known is not None:
                # Zenoh announces the listener a moment later, but a sender in this process must find it immediately.
                known.add(subject.name, self.instance)

    def close(self) -> None:
        """Stop taking messages. The server still replies to those that it has."""
        with self._lock:
            self._open = False
        for declared in (*self._tokens, *self._fanouts):
            declared.undeclare()
        self._tokens.clear()
        self._fanouts.clear()
        for subject in self._subjects:
            known = self.node.directory.known(subject.kind, subject.exchange, subject.topic)
            if known is not None:
                known.remove(self.instance)

    def forget(self) -> None:
        """Release the journal to a successor, once all messages are executed."""
        self.node.unregister(self.instance.listener)
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    # Frames from the network

    def accept(self, request: Request) -> None:
        """Take a message that arrived, unless it was seen before, and acknowledge it.

        A call is acknowledged by its reply, or when its sender asks; that saves a frame.
        """
        try:
            context, message = _read(request.body)
        except ValueError as error:
            LOG.warning("dropped message %s, which is not JSON of [context, message]: %s", request.id, error)
            return
        with self._lock:
            known = self._seen.look(request.id, request.oldest)
            if known is RequestState.NEW:
                known = self._take(request, context, message)
        if known is not RequestState.TAKEN or not request.wants_reply:
            self._tell(request.id, known)

    def _take(self, request: Request, context: Any, message: Any) -> RequestState:
        if not self._open:
            return RequestState.NEW
        if self._journal is not None and not request.wants_reply:
            try:
                self._journal.taken(request.id, encode(request))
            except OSError as error:
                LOG.error("message %s is refused, because the journal in %s can't be written: %s", request.id, self._journals, error)  # noqa: TRY400 - the error says it all
                return RequestState.NEW
        self._seen.take(request.id)
        self.deliver(Incoming(self, request, context, message))
        return RequestState.TAKEN

    def _take_over(self, journals: Path) -> None:
        """Begin a journal with the entries of dead predecessors, and execute the casts that they acknowledged and never began."""
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

    def _needed(self) -> list[JournalEntry]:
        return self._past.records() + [JournalEntry(EntryKind.BEGUN, message) for message in self._seen.begun()]

    def _on_fanout(self, frame: Frame) -> None:
        if isinstance(frame, Request):
            self.accept(frame)

    def answer(self, question: Question) -> None:
        """Answer a question about a message that was sent to this listener, or to one whose journal it took over."""
        if question.instance == self.instance:
            with self._lock:
                known = self._seen.ask(question.id)
            if known is RequestState.NEW:
                self._send(question.id, Status.UNKNOWN if self._open else Status.REFUSED)
            else:
                self._tell(question.id, known)
        elif not self._past.remembers(question.instance):
            self._send(question.id, Status.NO_MEMORY)
        else:
            self._send(question.id, Status.LOST if self._past.was_begun(question.id) else Status.UNKNOWN)

    def _tell(self, message: MessageId, known: RequestState | Reply) -> None:
        """Answer with the status of a message. For a message in the state `NEW`, which was refused, that is `REFUSED`."""
        if isinstance(known, Reply) and known.body:
            self.node.send(message.origin, known)
        else:
            self._send(message, _STATUS.get(known, Status.TAKEN))

    def _send(self, message: MessageId, status: Status) -> None:
        self.node.send(message.origin, Answer(message, status, self.instance))

    # The server's calls

    def begin(self, message: MessageId) -> None:
        """Record that a message is about to be executed; a notification has been executed already."""
        if self._journals is not None:
            self._note_begin(message)
        if self._subjects[0].kind == "notify":
            self.settle(Reply(message, False, b""))

    def _note_begin(self, message: MessageId) -> None:
        with self._lock:
            self._seen.begin(message)
            try:
                if self._journal is not None:
                    self._journal.begun(message)
            except OSError as error:
                LOG.error("the journal in %s can't be written: %s", self._journals, error)  # noqa: TRY400 - the error says it all

    def settle(self, reply: Reply, *, send: bool = False) -> None:
        """Keep the reply to an executed message for a sender that asks again."""
        with self._lock:
            self._seen.reply(reply)
        if send:
            self.node.send(reply.id.origin, reply)


def _read(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the context and the message of a request.

    Raises:
        ValueError: the body is not JSON, or not a list of these two.
    """
    match payload.decode(body):
        case [dict() as context, dict() as message]:
            return context, message
        case other:
            raise ValueError(f"a list of two objects was expected, not this {type(other).__name__}")


def _left(mailbox: Mailbox, message: MessageId, frame: bytes) -> Incoming | None:
    """Return a request read from a journal; a damaged entry is logged, and gives `None`."""
    try:
        match decode(frame):
            case Request() as request:
                return Incoming(mailbox, request, *_read(request.body))
            case other:
                raise MalformedFrameError(f"a {type(other).__name__} is not a request")
    except ValueError as error:
        LOG.warning("dropped message %s of a predecessor's journal: %s", message, error)
        return None


class RpcListener(base.Listener):
    """A listener that passes each message directly to the server's pool of threads."""

    def __init__(self, batch_size: int, batch_timeout: float | None) -> None:
        super().__init__(batch_size, batch_timeout)
        self.mailbox: Mailbox

    def deliver(self, incoming: Incoming) -> None:
        """Pass a message of the mailbox to the server."""
        self.on_incoming_callback([incoming])

    def start(self, on_incoming_callback: Any) -> None:
        """Begin to listen to the topics."""
        super().start(on_incoming_callback)
        self.mailbox.open()

    def stop(self) -> None:
        """Stop taking new messages."""
        self.mailbox.close()

    def cleanup(self) -> None:
        """Release the mailbox: all messages were executed."""
        self.mailbox.forget()


class NotificationListener(base.PollStyleListener):
    """A listener that keeps messages until they are polled, one by one or in batches."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox: Mailbox
        self._messages: SimpleQueue[Incoming | None] = SimpleQueue()

    def deliver(self, incoming: Incoming) -> None:
        """Keep a message of the mailbox until it is polled."""
        self._messages.put(incoming)

    @base.batch_poll_helper
    def poll(self, timeout: float | None = None) -> Incoming | None:
        """Return the next message; `None` after `timeout` seconds, or when the listener was stopped and all messages were polled."""
        try:
            return self._messages.get(timeout=timeout)
        except Empty:
            return None

    def stop(self) -> None:
        """Stop taking messages, and let `poll` return."""
        self.mailbox.close()
        # Twice: for the poll that is waiting, and for the one after it, which must not wait.
        self._messages.put(None)
        self._messages.put(None)

    def cleanup(self) -> None:
        """Release the mailbox: all messages were handled."""
        self.mailbox.forget()
