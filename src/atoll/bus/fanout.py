"""Fanout: messages for all servers of a topic.

One publication reaches all servers, and routers copy it as late as possible. Each server acknowledges the message. The message is sent
again, individually, to each server that is present and has not acknowledged it. A thread of the node does this; the sender does not wait.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from queue import Empty

from atoll.bus.delivery import WaitingTimes
from atoll.bus.directory import Topic
from atoll.bus.frames import Answer, Instance, MessageId, Request, Status, encode
from atoll.bus.node import Node, WaitingMessage
from atoll.bus.realms import realm_of

LOG = logging.getLogger(__name__)


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
        missing = set(self._topic.named(None))
        if not missing:
            return
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(self._node.waiting())
            message = MessageId(self._node.id, waiting.number)
            waiting.realms.update(realm_of(instance.node) for instance in missing)
            self._node.put(self._key, encode(Request(message, 0, False, waiting.oldest, 0, self._body)))
            threading.Thread(target=self._see_through, args=(stack.pop_all(), waiting, missing), name="zenoh-fanout", daemon=True).start()

    def _see_through(self, stack: contextlib.ExitStack, waiting: WaitingMessage, missing: set[Instance]) -> None:
        message = MessageId(self._node.id, waiting.number)
        with stack:
            end = time.monotonic() + self._patience.lost_server_s
            while missing and time.monotonic() < end:
                try:
                    self._heard(waiting.frames.get(timeout=self._patience.question_interval_s), missing)
                except Empty:
                    # A server that vanished may come back when its link heals; the wait is as long as for the server of a call.
                    for instance in missing.intersection(self._topic.named(None)):
                        request = Request(message, instance.listener, False, waiting.oldest, 0, self._body)
                        self._node.send(instance.node, request, self._topic.key)
        if missing:
            LOG.warning("a message for all of %s was not acknowledged by %s", self._to, ", ".join(map(str, missing)))

    @staticmethod
    def _heard(frame: object, missing: set[Instance]) -> None:
        if isinstance(frame, Answer) and frame.status in {Status.TAKEN, Status.REFUSED}:
            missing.discard(frame.instance)
