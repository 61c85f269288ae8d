"""What a listener remembers of the messages it got, so that none is executed twice.

The scheme is that of RIFL (Lee et al., "Implementing Linearizability at Large Scale and Low Latency", SOSP 2015), without its leases: the
sender numbers its messages and says with each which is the oldest that it still waits for. Below that number nothing need be remembered,
and nothing may be executed any more. So the memory is as large as what senders wait for, with a bound against senders that never say.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from enum import Enum

from atoll.bus.frames import MessageId, Reply

MAX_SENDERS = 10_000
"""Senders remembered; beyond it the one not heard of for longest is forgotten."""


class State(Enum):
    """What a listener knows of a message."""

    NEW = "new"
    TAKEN = "taken"
    BEGUN = "begun"
    SETTLED = "settled"
    """Its sender has stopped waiting for it."""
    FORGOTTEN = "forgotten"
    """So many came after it that nobody knows any more whether it did; it must not be executed."""


class Seen:
    """The messages of each sender. Not locked: its listener is."""

    def __init__(self, per_sender: int) -> None:
        self._per_sender = per_sender
        self._senders: OrderedDict[int, _Sender] = OrderedDict()

    def look(self, message: MessageId, oldest: int) -> State | Reply:
        """What is known of a message; a reply when it was given.

        Args:
            message: its identity.
            oldest: the number that its sender gave with it.
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

    def ask(self, message: MessageId) -> State | Reply:
        """What is known of a message that is asked about."""
        sender = self._senders.get(message.origin)
        return State.NEW if sender is None else sender.state(message.number)

    def take(self, message: MessageId) -> None:
        """The message is in the server's hands."""
        self._senders.setdefault(message.origin, _Sender()).take(message.number, self._per_sender)

    def begin(self, message: MessageId) -> None:
        """The message is being executed."""
        sender = self._senders.get(message.origin)
        if sender is not None and message.number in sender.records:
            sender.records[message.number] = State.BEGUN

    def begun(self) -> Iterator[MessageId]:
        """The messages that were begun, executed or not, and whose sender may still ask for them."""
        for origin, sender in self._senders.items():
            for number, state in sender.records.items():
                if state is not State.TAKEN:
                    yield MessageId(origin, number)

    def reply(self, reply: Reply) -> None:
        """The message was executed; keep its reply until the sender has it."""
        sender = self._senders.get(reply.id.origin)
        if sender is not None:
            sender.reply(reply)


class _Sender:
    """The messages of one sender: those below `settled` are not waited for any more, those from `floor` on are told apart."""

    __slots__ = ("floor", "numbers", "records", "settled")

    def __init__(self) -> None:
        self.settled = self.floor = 0
        self.records: dict[int, State | Reply] = {}
        self.numbers: deque[int] = deque()

    def state(self, number: int) -> State | Reply:
        if number < self.settled:
            return State.SETTLED
        return self.records.get(number, State.FORGOTTEN if number < self.floor else State.NEW)

    def take(self, number: int, limit: int) -> None:
        self.records[number] = State.TAKEN
        self.numbers.append(number)
        # Two for each that comes: what is pending is passed over, and at most half of what is kept then is.
        for _ in range(2):
            if len(self.numbers) > limit:
                self._forget_one()

    def reply(self, reply: Reply) -> None:
        if reply.id.number in self.records:
            self.records[reply.id.number] = reply

    def _forget_one(self) -> None:
        number = self.numbers.popleft()
        if self.records.get(number) in {State.TAKEN, State.BEGUN}:
            # It is still in the server's hands, where it takes more memory than here.
            self.numbers.append(number)
        else:
            self.records.pop(number, None)
            self.floor = max(self.floor, number + 1)

    def forget_below(self, oldest: int) -> None:
        if oldest <= self.settled:
            return
        self.settled = oldest
        # Numbers arrive nearly in order; one that is out of order stays until those before it go.
        while self.numbers and self.numbers[0] < oldest:
            self.records.pop(self.numbers.popleft(), None)
