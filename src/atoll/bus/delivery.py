"""The sender's side: one message on its way to one server.

A message goes to one instance of a server, and to no other until that one has said that it did not take it. So it can't be executed twice.
When no answer comes the sender asks what became of the message (`Question`): the instance itself, or, when that vanished, whoever was
started under its name and may have read its journal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from queue import Empty
from typing import NoReturn

from oslo_messaging import MessageDeliveryFailure, MessagingTimeout

from atoll.bus.directory import Topic
from atoll.bus.errors import NobodyListens, ServerLost
from atoll.bus.frames import Answer, Heartbeat, Instance, MessageId, Question, Reply, Request, Status
from atoll.bus.node import Node, Waiting


@dataclass(frozen=True)
class Patience:
    """How long a sender waits for what; all in seconds.

    Attributes:
        default_retries: tries of a message whose sender asked for none, while nobody listens; -1: for ever.
        retry_interval_s: between two tries.
        question_interval_s: without an answer, after which it asks.
        lost_server_s: for a server that vanished with the message.
    """

    default_retries: int
    retry_interval_s: float
    question_interval_s: float
    lost_server_s: float


class Deadline:
    """The time that a message has."""

    def __init__(self, seconds: float | None, monitor_s: float | None = None) -> None:
        """`seconds`: None for no end. `monitor_s`: the longest time without a heartbeat."""
        now = time.monotonic()
        self._end = None if seconds is None else now + seconds
        self._monitor_s = monitor_s
        self._heartbeat_due = None if monitor_s is None else now + monitor_s

    def heard(self) -> None:
        """A heartbeat came."""
        if self._monitor_s is not None:
            self._heartbeat_due = time.monotonic() + self._monitor_s

    def left_s(self, at_most: float) -> float:
        """Seconds to wait now; not more than `at_most`, nor less than 0."""
        ends = [end for end in (self._end, self._heartbeat_due) if end is not None]
        return max(0.0, min(at_most, min(ends) - time.monotonic())) if ends else at_most

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.left_s(1.0) == 0


class Delivery:
    """One message for one server of a topic."""

    def __init__(  # noqa: PLR0913 - what a message is
        self,
        node: Node,
        topic: Topic,
        body: bytes,
        patience: Patience,
        *,
        to: str,
        server: str | None = None,
        alias: Topic | None = None,
        nearest: bool = False,
        retry: int | None = None,
        timeout_s: float | None = None,
        monitor_s: int | None = None,
        wants_reply: bool = False,
    ) -> None:
        """A message that was not sent yet.

        Args:
            node: this process.
            topic: who listens.
            body: JSON of [context, message].
            patience: how long to wait for what.
            to: the target, for error messages.
            server: only a server of this name.
            alias: who may have the message if no server of the topic has this name; see `ZenohDriver.send`.
            nearest: prefer the server that answers soonest.
            retry: tries after the first while nobody listens; None: the default; -1: for ever.
            timeout_s: time that a call has.
            monitor_s: longest time without a heartbeat.
            wants_reply: it is a call.
        """
        self._node = node
        self._topic = topic
        self._body = body
        self._patience = patience
        self._to = to
        self._server = server
        self._alias = alias
        self._nearest = nearest
        self._retries = patience.default_retries if retry is None else retry
        self._deadline = Deadline(timeout_s, monitor_s)
        self._monitor_s = monitor_s or 0
        self._wants_reply = wants_reply
        self._refused_by: set[Instance] = set()
        self._vanished_at: float | None = None
        self._sent_at: float | None = None
        """When the message was sent; None: the next answer says nothing of how far the server is."""

    def run(self) -> Reply | None:
        """Send the message, and wait until a server took it, or, for a call, replied.

        Raises:
            NobodyListens: nobody listens.
            MessageDeliveryFailure: the server that was sent a cast vanished before it acknowledged.
            MessagingTimeout: the time is over.
            ServerLost: the server that was executing a call vanished.
        """
        with self._node.waiting() as waiting:
            while True:
                instance = self._find()
                name = self._topic.name_of(instance) or ""
                self._send(waiting, instance)
                answer = self._await(waiting, instance, name)
                if isinstance(answer, Reply):
                    return answer
                if answer.status is Status.TAKEN:
                    return None
                # Refused: it may be sent to another. When all have refused they are stopping: wait for one that comes.
                self._refused_by.add(answer.instance)

    def _find(self) -> Instance:
        """The next server to try."""
        tries = 0
        while (instance := self._choose()) is None:
            if self._deadline.is_over:
                raise MessagingTimeout(f"nobody listens to {self._to}, and the time to wait for a reply is over")
            if 0 <= self._retries <= tries:
                raise NobodyListens(f"nobody listens to {self._to} (tried {tries + 1} times)")
            tries += 1
            self._topic.wait_for_change(self._deadline.left_s(self._patience.retry_interval_s))
        return instance

    def _choose(self) -> Instance | None:
        instance = self._topic.choose(self._server, self._refused_by, nearest=self._nearest)
        if instance is None and self._alias is not None and self._alias.names():
            self._topic, self._server, self._alias = self._alias, None, None
            return self._choose()
        return instance

    def _send(self, waiting: Waiting, instance: Instance) -> None:
        message = MessageId(self._node.id, waiting.number)
        request = Request(message, instance.listener, self._wants_reply, waiting.oldest, self._monitor_s, self._body)
        self._sent_at = time.monotonic()
        self._node.send(instance.node, request, self._topic.key)
        if self._nearest and self._wants_reply and self._topic.wants_measurement(instance):
            # Only the answer to a question tells how far the server is: the reply comes when the method has ended.
            self._node.send(instance.node, Question(message, instance.listener, instance), self._topic.key)
        elif self._wants_reply:
            self._sent_at = None

    def _measure(self, instance: Instance) -> None:
        """The first answer came."""
        if self._sent_at is not None:
            self._topic.measured(instance, time.monotonic() - self._sent_at)
            self._sent_at = None

    def _await(self, waiting: Waiting, instance: Instance, name: str) -> Reply | Answer:
        """The frame that ends the wait for this server: a reply, or that it took a cast or refused the message."""
        while True:
            try:
                frame = waiting.frames.get(timeout=self._deadline.left_s(self._patience.question_interval_s))
            except Empty:
                self._check_time(instance)
                self._ask(waiting, instance, name)
                continue
            if isinstance(frame, Heartbeat):
                self._deadline.heard()
            elif isinstance(frame, Reply):
                self._measure(instance)
                return frame
            elif frame.status is Status.UNKNOWN:
                # It never arrived, or never at the process in whose place this one was started.
                instance = frame.instance
                self._send(waiting, instance)
            elif frame.status is Status.LOST:
                self._raise_lost(instance)
            elif self._ends(frame):
                return frame

    def _ends(self, answer: Answer) -> bool:
        if answer.status is Status.TAKEN:
            self._measure(answer.instance)
            return not self._wants_reply
        return answer.status is Status.REFUSED

    def _check_time(self, instance: Instance) -> None:
        if self._deadline.is_over:
            raise MessagingTimeout(f"timed out waiting for a reply of {instance}, to which a message for {self._to} was sent")

    def _ask(self, waiting: Waiting, instance: Instance, name: str) -> None:
        """Ask the server, or those of the same name when it vanished; raise when it stays away for too long."""
        message = MessageId(self._node.id, waiting.number)
        self._sent_at = None
        if instance in self._topic:
            self._vanished_at = None
            self._node.send(instance.node, Question(message, instance.listener, instance), self._topic.key)
            return
        now = time.monotonic()
        self._vanished_at = self._vanished_at or now
        if now - self._vanished_at >= self._patience.lost_server_s:
            self._raise_lost(instance)
        for successor in self._topic.named(name):
            self._node.send(successor.node, Question(message, successor.listener, instance), self._topic.key)

    def _raise_lost(self, instance: Instance) -> NoReturn:
        text = f"server {instance}, which was sent a message for {self._to}, was lost; the message may have been executed"
        raise ServerLost(text) if self._wants_reply else MessageDeliveryFailure(text)
