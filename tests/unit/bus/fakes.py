"""A node without a bus, which keeps the sent frames in a list."""

import contextlib
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from atoll.bus.frames import Frame, Instance, MessageId, Question, Request
from atoll.bus.keys import Keys
from atoll.bus.node import WaitingMessage


class FakeNode:
    """The parts of a `Node` that deliveries, fanouts and mailboxes use.

    `react` is called with each frame that is sent, and may answer through `answer`.
    """

    def __init__(self, node: int = 1) -> None:
        self.id = node
        self.keys = Keys("")
        self.settings = SimpleNamespace(address=SimpleNamespace(vhost="v"))
        self.sent: list[tuple[int, Frame]] = []
        self.published: list[tuple[str, bytes]] = []
        self.react: Callable[[int, Frame], None] = lambda node, frame: None
        self.tokens: list[str] = []
        self.subscribed: list[str] = []
        self.session = SimpleNamespace(liveliness=lambda: SimpleNamespace(declare_token=self._declare(self.tokens)))
        self.directory = SimpleNamespace(known=lambda *_: None)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, WaitingMessage] = {}
        self._listeners = itertools.count(1)

    def _declare(self, keys: list[str]) -> Callable[[str], Any]:
        def declare(key: str) -> Any:
            keys.append(key)
            return SimpleNamespace(undeclare=lambda: keys.remove(key))

        return declare

    @contextlib.contextmanager
    def waiting(self):
        number = next(self._numbers)
        self._waiting[number] = WaitingMessage(MessageId(self.id, number), next(iter(self._waiting), number))
        try:
            yield self._waiting[number]
        finally:
            del self._waiting[number]

    def send(self, node: int, frame: Frame, topic: object = None) -> None:
        assert (topic is not None) == isinstance(frame, Request | Question)
        self.sent.append((node, frame))
        self.react(node, frame)

    def put(self, key: str, data: bytes) -> None:
        self.published.append((key, data))

    def answer(self, frame: Any) -> None:
        """Deliver a frame to the message that waits for it."""
        if frame.id.number in self._waiting:
            self._waiting[frame.id.number].frames.put(frame)

    def register(self, _: object, _topics: object) -> int:
        return next(self._listeners)

    def unregister(self, number: int) -> None:
        """Accept that a mailbox is closed."""

    def subscribe(self, key: str, _: object) -> Any:
        return self._declare(self.subscribed)(key)

    def frames(self, kind: type) -> list[Any]:
        """Return the sent frames of this kind."""
        return [frame for _, frame in self.sent if isinstance(frame, kind)]


A, B, C = Instance(10, 1), Instance(11, 1), Instance(12, 1)
