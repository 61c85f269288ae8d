"""A node of the bus: one Zenoh session for all transports of a process on the same bus, and the senders and listeners that share it.

Nothing is opened before the first message or listener, so a process may fork until then.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import zenoh
from oslo_messaging import MessageDeliveryFailure

from atoll.bus import frames, peers
from atoll.bus.address import Address
from atoll.bus.directory import Directory
from atoll.bus.errors import Unreachable
from atoll.bus.frames import Answer, Frame, Heartbeat, Instance, MalformedFrameError, Question, Reply, Request, Status, decode, encode
from atoll.bus.keys import Inbox, Keys, TopicKey
from atoll.bus.realms import OWN, new_node, realm_of
from atoll.zenoh_link.config import Tls, session_config

LOG = logging.getLogger(__name__)

_MOST_KEYS = 10_000
"""The greatest number of cached keys, of nodes and topics to which the node has sent."""

# Never drop a frame because a link is busy: the sender waits. Frames are batched while a link is busy, and not delayed otherwise.
_BLOCK = zenoh.CongestionControl.BLOCK


@dataclass(frozen=True)
class NodeSettings:
    """The settings of a node: its bus, how it reaches the bus, and its realm there (`atoll.bus.realms`)."""

    address: Address
    socket_dir: Path | None = None
    mode: str = "peer"
    listen: tuple[str, ...] = ()
    tls: Tls | None = None
    connect_by_tls: bool = False
    multicast: bool = False
    lease_s: float = 10.0
    realm: int = OWN


class Receiver(Protocol):
    """The interface of a listener to its node."""

    def accept(self, request: Request) -> None:
        """Handle a message that arrived."""

    def answer(self, question: Question) -> None:
        """Answer a question about a message."""


class WaitingMessage:
    """A message whose sender waits.

    Attributes:
        id: the message's id.
        oldest: the number of the oldest message for whose answer this node waits.
        realms: the realms that the message was sent to; no other realm may answer.
        frames: the frames that arrived for it.
    """

    __slots__ = ("frames", "id", "oldest", "realms")

    def __init__(self, id: frames.MessageId, oldest: int) -> None:
        self.id = id
        self.oldest = oldest
        self.realms: set[int] = set()
        self.frames: SimpleQueue[Answer | Reply | Heartbeat] = SimpleQueue()


class Node:
    """This process on the bus.

    Attributes:
        id: the realm and 40 random bits, new for each run of a process.
        keys: the bus's key expressions.
        directory: the listeners of the topics that this node sends to.
    """

    def __init__(self, settings: NodeSettings) -> None:
        """Join the bus, and start to receive.

        Raises:
            ValueError: a setting is wrong.
            zenoh.ZError, OSError: an endpoint can't be bound.
        """
        self.id = new_node(settings.realm)
        self.pid = os.getpid()
        self.settings = settings
        self.keys = Keys(settings.address.vhost)
        self._waiting: OrderedDict[int, WaitingMessage] = OrderedDict()
        self._waiting_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._receivers: dict[int, tuple[Receiver, Collection[TopicKey]]] = {}
        self._receiver_numbers = itertools.count(1)
        self._samples: SimpleQueue[tuple[Callable[[Frame], None], zenoh.Sample] | None] = SimpleQueue()
        self._sent_to: dict[tuple[int, TopicKey | None], str] = {}
        self.session = self._open()
        threading.Thread(target=self._read_samples, name="zenoh-inbox", daemon=True).start()
        # One key without a wildcard for most frames: Zenoh finds its subscriber directly, however many topics a process has.
        self._inbox = self.subscribe(self.keys.node(self.id), partial(self._receive, source=OWN, topic=None))
        self._of_clients = self._subscribe_to_clients() if settings.realm == OWN else None
        self.directory = Directory(self.session, self.keys)

    def _open(self) -> zenoh.Session:
        settings = self.settings
        scheme = "tls" if settings.connect_by_tls else "tcp"
        connect = [f"{scheme}/{endpoint}" for endpoint in settings.address.endpoints]
        with contextlib.ExitStack() as stack:
            listen = list(settings.listen)
            if settings.socket_dir is not None and settings.mode == "peer":
                own, others = stack.enter_context(peers.joining(settings.socket_dir, self._socket_name))
                listen.append(own)
                connect += others
            return zenoh.open(
                session_config(
                    mode=settings.mode,
                    listen=listen,
                    connect=connect,
                    lease_s=settings.lease_s,
                    tls=settings.tls,
                    multicast=settings.multicast,
                )
            )

    @property
    def is_of_parent(self) -> bool:
        """True if the node was opened before a fork, and so can't be used in this process."""
        return self.pid != os.getpid()

    @property
    def _socket_name(self) -> str:
        return f"{self.id:016x}"

    def close(self) -> None:
        """Leave the bus. Zenoh still sends the frames that were published before."""
        session: Any = self.session
        session.close()
        self._samples.put(None)
        if self.settings.socket_dir is not None and self.settings.mode == "peer":
            peers.leave(self.settings.socket_dir, self._socket_name)

    # Sending

    @contextlib.contextmanager
    def waiting(self) -> Iterator[WaitingMessage]:
        """Yield a new id for a message to send, with a queue for the frames that arrive for it."""
        with self._waiting_lock:
            number = next(self._numbers)
            oldest = next(iter(self._waiting), number)
            waiting = self._waiting[number] = WaitingMessage(frames.MessageId(self.id, number), oldest)
        try:
            yield waiting
        finally:
            with self._waiting_lock:
                del self._waiting[number]

    def send(self, node: int, frame: Frame, topic: TopicKey | None = None) -> None:
        """Send a frame to a node.

        Args:
            node: the number of the receiving node.
            frame: the frame.
            topic: the topic of the listener, for a request or a question.

        Raises:
            MessageDeliveryFailure: this node has left the bus.
        """
        if topic is not None and frame.id.origin == self.id and (waiting := self._waiting.get(frame.id.number)) is not None:
            waiting.realms.add(realm_of(node))
        if node == self.id:
            self._receive(frame, self.settings.realm, topic)
        else:
            self.put(self._key(node, topic), encode(frame))

    def _key(self, node: int, topic: TopicKey | None) -> str:
        key = self._sent_to.get((node, topic))
        if key is None:
            if len(self._sent_to) >= _MOST_KEYS:
                self._sent_to.clear()
            key = self._sent_to[node, topic] = self.keys.node(node, self.settings.realm, topic)
        return key

    def put(self, key: str, data: bytes) -> None:
        """Publish bytes under a key.

        Raises:
            MessageDeliveryFailure: this node has left the bus.
        """
        try:
            self.session.put(key, data, congestion_control=_BLOCK)
        except zenoh.ZError as error:
            raise MessageDeliveryFailure(f"the bus is closed in this process: {error}") from error

    # Receiving

    def register(self, receiver: Receiver, topics: Collection[TopicKey]) -> int:
        """Add a listener of this node, and return the number by which frames for its topics reach it."""
        number = next(self._receiver_numbers)
        self._receivers[number] = receiver, topics
        return number

    def _subscribe_to_clients(self) -> Any:
        """Subscribe to all frames that nodes of other realms send to this node."""
        inbox, put = Inbox(self.keys, self.id), self._samples.put

        def take(sample: zenoh.Sample) -> None:
            put((lambda frame: self._receive_of_client(frame, inbox, str(sample.key_expr)), sample))

        callback: Any = zenoh.handlers.Callback(take, indirect=False)
        return self.session.declare_subscriber(self.keys.from_clients(self.id), callback)

    def unregister(self, number: int) -> None:
        """Remove a listener of this node."""
        self._receivers.pop(number, None)

    def subscribe(self, key: str, receive: Callable[[Frame], None]) -> Any:
        """Call `receive`, in the node's thread, with each frame published under a key; undeclare the returned object to end it."""
        # Zenoh calls back in the thread that reads from the network, which must not wait for anything. Its alternative, a thread for each
        # subscription (indirect=True), keeps a process from ending: the interpreter waits for these threads before it closes the session.
        put = self._samples.put
        callback: Any = zenoh.handlers.Callback(lambda sample: put((receive, sample)), indirect=False)
        return self.session.declare_subscriber(key, callback)

    def _read_samples(self) -> None:
        while (came := self._samples.get()) is not None:
            receive, sample = came
            try:
                receive(decode(bytes(sample.payload)))
            except MalformedFrameError as error:
                LOG.warning("dropped a malformed message on %s: %s", sample.key_expr, error)
            except Exception:
                LOG.exception("a message on %s could not be handled", sample.key_expr)

    def _receive_of_client(self, frame: Frame, inbox: Inbox, key: str) -> None:
        try:
            source, topic = inbox.read(key)
        except ValueError as error:
            raise MalformedFrameError(str(error)) from None
        self._receive(frame, source, topic)

    def _receive(self, frame: Frame, source: int, topic: TopicKey | None) -> None:
        """Pass a frame on, if its sender, of realm `source`, may send it."""
        if isinstance(frame, Request | Question):
            if (topic is None and source != OWN) or realm_of(frame.id.origin) != source:
                raise MalformedFrameError(f"realm {source:x} sent {frame.id}, which is not its own message, or names no topic")
            self._receive_for_listener(frame, topic)
            return
        # The sender no longer waits: the frame is late, and dropped.
        waiting = self._waiting.get(frame.id.number) if frame.id.origin == self.id else None
        if waiting is None:
            return
        if source not in waiting.realms or (isinstance(frame, Answer) and realm_of(frame.instance.node) != source):
            raise MalformedFrameError(f"realm {source:x} answered {frame.id}, which was not sent to it")
        waiting.frames.put(frame)

    def _receive_for_listener(self, frame: Request | Question, topic: TopicKey | None) -> None:
        receiver, topics = self._receivers.get(frame.listener, (None, ()))
        if receiver is None or (topic is not None and topic not in topics):
            # The listener is closed. A request is refused. For a question, this node no longer knows whether the message was taken.
            status = Status.REFUSED if isinstance(frame, Request) else Status.NO_MEMORY
            self.send(frame.id.origin, Answer(frame.id, status, Instance(self.id, frame.listener)))
        elif isinstance(frame, Request):
            receiver.accept(frame)
        else:
            receiver.answer(frame)


class _Nodes:
    """The nodes of this process, by their settings: transports on the same bus share one.

    Attributes:
        joining: the lock that a transport holds while it opens its node and outbox, so that only one of its threads does.
    """

    def __init__(self) -> None:
        self.joining = threading.RLock()
        self._lock = threading.Lock()
        self._nodes: dict[NodeSettings, tuple[Node, int]] = {}
        self._of_parents: list[Any] = []
        self._failures: dict[NodeSettings, tuple[float, Unreachable]] = {}
        self._opened = False
        self._forked_too_late = False

    def acquire(self, settings: NodeSettings, asked_at: float | None = None) -> Node:
        """Return the node with these settings, opened if necessary.

        Args:
            settings: the node's settings.
            asked_at: the time since which the caller waits for the node (`time.monotonic`): a router that another thread has failed to
                reach since then is not tried again.

        Raises:
            MessageDeliveryFailure: this process was forked from one that had joined a bus.
            Unreachable: the router of a client does not answer.
        """
        if self._forked_too_late:
            # Zenoh starts its threads once for a process, and a forked process does not have them: connecting would never end.
            raise MessageDeliveryFailure(
                "this process was forked from one that had joined the bus, and can't join; fork before the first message"
            )
        asked_at = time.monotonic() if asked_at is None else asked_at
        with self._lock:
            node, users = self._nodes.get(settings, (None, 0))
            if node is None:
                failed_at, failure = self._failures.get(settings, (0.0, None))
                if failure is not None and failed_at > asked_at:
                    raise failure
                self._opened = True
                node = self._open(settings)
            self._nodes[settings] = node, users + 1
            return node

    def _open(self, settings: NodeSettings) -> Node:
        try:
            return Node(settings)
        except zenoh.ZError as error:
            if settings.mode != "client":
                raise
            hosts = ", ".join(settings.address.endpoints) or "any (the URL names none)"
            failure = Unreachable(f"no router answers at {hosts}: {str(error).partition(' at ')[0]}")
            self._failures[settings] = time.monotonic(), failure
            raise failure from error

    def release(self, node: Node) -> None:
        """Release a node; the last user closes it."""
        if node.is_of_parent:
            return
        with self._lock:
            _, users = self._nodes[node.settings]
            if users > 1:
                self._nodes[node.settings] = node, users - 1
                return
            del self._nodes[node.settings]
        node.close()

    def forget(self) -> None:
        """After a fork, keep the parent's sessions without using them: dropping the last reference to a session would close it."""
        self._forked_too_late = self._opened
        self._of_parents.append(self._nodes)
        self._nodes = {}
        self._lock = threading.Lock()
        self.joining = threading.RLock()

    def close(self) -> None:
        """At the end of the process, send the frames that wait, and remove the sockets."""
        for node, _ in list(self._nodes.values()):
            if not node.is_of_parent:
                node.close()
        self._nodes.clear()


NODES = _Nodes()
os.register_at_fork(after_in_child=NODES.forget)
atexit.register(NODES.close)
