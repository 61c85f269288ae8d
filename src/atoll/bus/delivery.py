"""The sender's side of the bus: the delivery of one message to one server.

A message goes to one instance of a server. It goes to another instance only after the first one has answered that it did not take the
message, so no message is executed twice. If no answer arrives, the sender asks for the status of the message (`Question`). It asks the
instance or, if the instance has vanished, the processes that were started under its name and may have read its journal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from queue import Empty
from typing import NoReturn

from oslo_messaging import MessageDeliveryFailure, MessagingTimeout

from atoll.bus.directory import Topic
from atoll.bus.errors import NobodyListens, ServerLost
from atoll.bus.frames import Answer, Heartbeat, Instance, Question, Reply, Request, Status
from atoll.bus.node import Node, WaitingMessage


@dataclass(frozen=True)
class WaitingTimes:
    """The waiting times of a sender, in seconds.

    Attributes:
        default_retries: attempts after the first while nobody listens, for a message whose sender set no number; -1 for no limit.
        retry_interval_s: the time between two attempts.
        question_interval_s: the time without an answer after which the sender asks.
        lost_server_s: the time to wait for a server that vanished with the message.
    """

    default_retries: int
    retry_interval_s: float
    question_interval_s: float
    lost_server_s: float


class Deadline:
    """The deadline of a message."""

    def __init__(self, seconds: float | None, monitor_s: float | None = None) -> None:
        """Start the deadline of a message.

        Args:
            seconds: the time that the message has, in seconds; `None` for no limit.
            monitor_s: the longest time between heartbeats from the server, in seconds; `None` for no limit.
        """
        now = time.monotonic()
        self._end = None if seconds is None else now + seconds
        self._monitor_s = monitor_s
        self._heartbeat_due = None if monitor_s is None else now + monitor_s

    def heard(self) -> None:
        """Record that a heartbeat arrived."""
        if self._monitor_s is not None:
            self._heartbeat_due = time.monotonic() + self._monitor_s

    def left_s(self, at_most: float) -> float:
        """Return the seconds to wait now, between 0 and `at_most`."""
        ends = [end for end in (self._end, self._heartbeat_due) if end is not None]
        return max(0.0, min(at_most, min(ends) - time.monotonic())) if ends else at_most

    @property
    def is_over(self) -> bool:
        """True if the deadline has passed."""
        return self.left_s(1.0) == 0


class Delivery:
    """The delivery of one message to one server of a topic."""

    def __init__(  # noqa: PLR0913 - the parts of a message
        self,
        node: Node,
        topic: Topic,
        body: bytes,
        patience: WaitingTimes,
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
        """Prepare a message for sending.

        Args:
            node: this process.
            topic: the topic's listeners.
            body: JSON of [context, message].
            patience: the waiting times.
            to: a description of the target, for error messages.
            server: the name of the only server that may have the message; `None` for any.
            alias: the topic whose listeners may have the message if no server of `topic` has this name; see `ZenohDriver.send`.
            nearest: prefer the server that answers soonest.
            retry: attempts after the first while nobody listens; `None` for the default, -1 for no limit.
            timeout_s: the seconds within which a call must be answered.
            monitor_s: the longest time between heartbeats from the server, in seconds.
            wants_reply: whether the message is a call.
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
        """The time at which the message was sent; `None` if the next answer does not measure the distance of the server."""

    def run(self) -> Reply | None:
        """Send the message, and wait until a server has taken it or, for a call, has replied; return the reply to a call.

        Raises:
            NobodyListens: nobody listens.
            MessageDeliveryFailure: the server that a cast was sent to vanished before it acknowledged.
            MessagingTimeout: the deadline has passed.
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
                # Refused: another server may take the message. If all servers have refused it, they are stopping: wait for a new server.
                self._refused_by.add(answer.instance)

    def _find(self) -> Instance:
        """Return the next server to try."""
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

    def _send(self, waiting: WaitingMessage, instance: Instance) -> None:
        request = Request(waiting.id, instance.listener, self._wants_reply, waiting.oldest, self._monitor_s, self._body)
        self._sent_at = time.monotonic()
        self._node.send(instance.node, request, self._topic.key)
        if self._nearest and self._wants_reply and self._topic.wants_measurement(instance):
            # Only the answer to a question measures the distance of the server: a reply includes the duration of the method.
            self._node.send(instance.node, Question(waiting.id, instance.listener, instance), self._topic.key)
        elif self._wants_reply:
            self._sent_at = None

    def _measure(self, instance: Instance) -> None:
        """Record the time until the first answer."""
        if self._sent_at is not None:
            self._topic.measured(instance, time.monotonic() - self._sent_at)
            self._sent_at = None

    def _await(self, waiting: WaitingMessage, instance: Instance, name: str) -> Reply | Answer:
        """Return the frame that ends the wait for this server: a reply, a taken cast, or a refusal."""
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
                # The message never arrived, or not at the process that this instance replaced.
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

    def _ask(self, waiting: WaitingMessage, instance: Instance, name: str) -> None:
        """Ask the server for the status of the message; if the server has vanished, ask its successors.

        Raises:
            ServerLost, MessageDeliveryFailure: no successor appeared in time; see `run`.
        """
        self._sent_at = None
        if instance in self._topic:
            self._vanished_at = None
            self._node.send(instance.node, Question(waiting.id, instance.listener, instance), self._topic.key)
            return
        now = time.monotonic()
        self._vanished_at = self._vanished_at or now
        if now - self._vanished_at >= self._patience.lost_server_s:
            self._raise_lost(instance)
        for successor in self._topic.named(name):
            self._node.send(successor.node, Question(waiting.id, successor.listener, instance), self._topic.key)

    def _raise_lost(self, instance: Instance) -> NoReturn:
        text = f"server {instance}, which was sent a message for {self._to}, was lost; the message may have been executed"
        raise ServerLost(text) if self._wants_reply else MessageDeliveryFailure(text)
