"""The messages that a listener has seen, so that none is executed twice.

The scheme is that of RIFL (Lee et al., "Implementing Linearizability at Large Scale and Low Latency", SOSP 2015), without its leases. The
sender numbers its messages, and each carries the number of the oldest one for which the sender still waits. Messages below that number need
not be remembered and must not be executed. So the memory grows with the number of messages for which senders wait; it is bounded even if a
sender never names an oldest message.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from enum import Enum

from atoll.bus.frames import MessageId, Reply

MAX_SENDERS = 10_000
"""The greatest number of senders that are remembered; beyond it, the sender whose last message is oldest is forgotten."""


class RequestState(Enum):
    """The state of a message at a listener."""

    NEW = "new"
    TAKEN = "taken"
    BEGUN = "begun"
    SETTLED = "settled"
    """The sender has stopped waiting for the message."""
    FORGOTTEN = "forgotten"
    """So many later messages arrived that it is unknown whether this one was seen; it must not be executed."""


class SeenRequests:
    """The messages of each sender. It takes no lock; its listener does."""

    def __init__(self, per_sender: int) -> None:
        self._per_sender = per_sender
        self._senders: OrderedDict[int, _Sender] = OrderedDict()

    def look(self, message: MessageId, oldest: int) -> RequestState | Reply:
        """Return the state of a message that arrived, or its reply if there is one.

        Args:
            message: the message's identity.
            oldest: the number of the oldest message for which the sender waits, which the message carries.
        """
        sender = self._senders.get(message.origin)
        if sender is None:
            sender = self._senders[message.origin] = _Sender()
            if len(self._senders) > MAX_SENDERS:
                self._senders.popitem(last=False)
        else:
            self._senders.move_to_end(message.origin)
        sender.forget_below(oldest)
        return sender.state(message.number)

    def ask(self, message: MessageId) -> RequestState | Reply:
        """Return the state of a message that a sender asks about, or its reply."""
        sender = self._senders.get(message.origin)
        return RequestState.NEW if sender is None else sender.state(message.number)

    def take(self, message: MessageId) -> None:
        """Record that the server has taken the message."""
        self._senders.setdefault(message.origin, _Sender()).take(message.number, self._per_sender)

    def begin(self, message: MessageId) -> None:
        """Record that the message is being executed."""
        sender = self._senders.get(message.origin)
        if sender is not None and message.number in sender.records:
            sender.records[message.number] = RequestState.BEGUN

    def begun(self) -> Iterator[MessageId]:
        """Yield the messages that were begun, executed or not, and for which the sender may still ask."""
        for origin, sender in self._senders.items():
            for number, state in sender.records.items():
                if state is not RequestState.TAKEN:
                    yield MessageId(origin, number)

    def reply(self, reply: Reply) -> None:
        """Keep the reply to an executed message until the sender has it."""
        sender = self._senders.get(reply.id.origin)
        if sender is not None:
            sender.reply(reply)


class _Sender:
    """The messages of one sender. It no longer waits for those below `settled`; those from `floor` on are remembered one by one."""

    __slots__ = ("floor", "numbers", "records", "settled")

    def __init__(self) -> None:
        self.settled = self.floor = 0
        self.records: dict[int, RequestState | Reply] = {}
        self.numbers: deque[int] = deque()

    def state(self, number: int) -> RequestState | Reply:
        if number < self.settled:
            return RequestState.SETTLED
        return self.records.get(number, RequestState.FORGOTTEN if number < self.floor else RequestState.NEW)

    def take(self, number: int, limit: int) -> None:
        self.records[number] = RequestState.TAKEN
        self.numbers.append(number)
        # Check two messages for each new one: pending ones stay, and so are at most half of the messages that are kept.
        for _ in range(2):
            if len(self.numbers) > limit:
                self._forget_one()

    def reply(self, reply: Reply) -> None:
        if reply.id.number in self.records:
            self.records[reply.id.number] = reply

    def _forget_one(self) -> None:
        number = self.numbers.popleft()
        if self.records.get(number) in {RequestState.TAKEN, RequestState.BEGUN}:
            # The server still holds the message, which takes more memory than its entry here.
            self.numbers.append(number)
        else:
            self.records.pop(number, None)
            self.floor = max(self.floor, number + 1)

    def forget_below(self, oldest: int) -> None:
        if oldest <= self.settled:
            return
        self.settled = oldest
        # Numbers arrive nearly in order; a number that came early stays until the numbers before it are dropped.
        while self.numbers and self.numbers[0] < oldest:
            self.records.pop(self.numbers.popleft(), None)
