"""Fanout: messages for all servers of a topic.

One publication reaches all servers, and routers copy it as late as possible. Each server acknowledges the message. The message is sent
again, individually, to each server that is present and has not acknowledged it. If such a server has vanished, the processes that were
started under its name are asked for the status of the message, as in a delivery. The process that has the server's journal gets the
message, unless the server had begun it. A thread of the node does this; the sender does not wait.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from queue import Empty

from atoll.bus.delivery import WaitingTimes
from atoll.bus.directory import Topic
from atoll.bus.frames import Answer, Heartbeat, Instance, Question, Reply, Request, Status, encode
from atoll.bus.node import Node, WaitingMessage
from atoll.bus.realms import realm_of

LOG = logging.getLogger(__name__)

Missing = dict[Instance, str]
"""The servers that have not acknowledged a message, with their names."""


class Fanout:
    """A message for all servers that listen to a topic now."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a message
        self, node: Node, topic: Topic, key: str, body: bytes, patience: WaitingTimes, to: str
    ) -> None:
        """Prepare a message; the arguments are those of `Delivery`, and `key` is the topic's fanout key."""
        self._node = node
        self._topic = topic
        self._key = key
        self._body = body
        self._patience = patience
        self._to = to

    def send(self) -> None:
        """Publish the message, and repeat it in the background to servers that do not acknowledge. Without a listener it does nothing."""
        missing = {instance: self._topic.name_of(instance) or "" for instance in self._topic.named(None)}
        if not missing:
            return
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(self._node.waiting())
            waiting.realms.update(realm_of(instance.node) for instance in missing)
            self._node.put(self._key, encode(Request(waiting.id, 0, False, waiting.oldest, 0, self._body)))
            threading.Thread(target=self._see_through, args=(stack.pop_all(), waiting, missing), name="zenoh-fanout", daemon=True).start()

    def _see_through(self, stack: contextlib.ExitStack, waiting: WaitingMessage, missing: Missing) -> None:
        with stack:
            end = time.monotonic() + self._patience.lost_server_s
            while missing and time.monotonic() < end:
                try:
                    self._heard(waiting, waiting.frames.get(timeout=self._patience.question_interval_s), missing)
                except Empty:
                    self._repeat(waiting, missing)
        if missing:
            LOG.warning("a message for all of %s was not acknowledged by %s", self._to, ", ".join(map(str, missing)))

    def _repeat(self, waiting: WaitingMessage, missing: Missing) -> None:
        """Send the message again to servers that are present, and ask the successors of the others for its status.

        A server that vanished may also reappear when its link heals; the wait is as long as for the server of a call.
        """
        for instance, name in missing.items():
            if instance in self._topic:
                self._send(waiting, instance)
                continue
            for successor in self._topic.named(name):
                self._node.send(successor.node, Question(waiting.id, successor.listener, instance), self._topic.key)

    def _send(self, waiting: WaitingMessage, instance: Instance) -> None:
        self._node.send(instance.node, Request(waiting.id, instance.listener, False, waiting.oldest, 0, self._body), self._topic.key)

    def _heard(self, waiting: WaitingMessage, frame: Answer | Reply | Heartbeat, missing: Missing) -> None:
        if not isinstance(frame, Answer):
            return
        if frame.status in {Status.TAKEN, Status.REFUSED}:
            missing.pop(frame.instance, None)
        elif frame.status in {Status.UNKNOWN, Status.LOST}:
            self._succeed(waiting, frame, missing)

    def _succeed(self, waiting: WaitingMessage, answer: Answer, missing: Missing) -> None:
        """Send the message to the successor of servers that vanished, unless they began it."""
        name = self._topic.name_of(answer.instance)
        vanished = [instance for instance, known in missing.items() if known == name and instance not in self._topic]
        for instance in vanished:
            del missing[instance]
        if vanished and name and answer.status is Status.UNKNOWN:
            missing[answer.instance] = name
            self._send(waiting, answer.instance)
