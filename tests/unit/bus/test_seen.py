"""The memory of a listener: no message is taken twice, none is denied, and the memory is bounded."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from atoll.bus import seen as seen_module
from atoll.bus.frames import MessageId, Reply
from atoll.bus.seen import RequestState, SeenRequests

LIMIT = 4
PENDING = {RequestState.TAKEN, RequestState.BEGUN}


class Messages(RuleBasedStateMachine):
    """Senders that number their messages and name the oldest for which they wait; a network that repeats and delays; a server."""

    sent = Bundle("sent")
    running = Bundle("running")

    def __init__(self):
        super().__init__()
        self.seen = SeenRequests(LIMIT)
        self.numbers = Counter()
        self.waiting: dict[int, list[int]] = {1: [], 2: []}
        self.executed: Counter[MessageId] = Counter()
        self.delivered: set[MessageId] = set()
        self.replied: set[MessageId] = set()

    @rule(target=sent, origin=st.sampled_from([1, 2]))
    def send(self, origin):
        self.numbers[origin] += 1
        number = self.numbers[origin]
        self.waiting[origin].append(number)
        return MessageId(origin, number), self.waiting[origin][0]

    @rule(target=running, frame=sent)
    def deliver(self, frame):
        """Deliver a frame: for the first time, or again, in any order."""
        message, oldest = frame
        known = self.seen.look(message, oldest)
        self.delivered.add(message)
        if known is not RequestState.NEW:
            return multiple()
        self.seen.take(message)
        self.executed[message] += 1
        return message

    @rule(message=running)
    def begin(self, message):
        if message not in self.replied:
            self.seen.begin(message)

    @rule(message=consumes(running))
    def reply(self, message):
        self.replied.add(message)
        self.seen.reply(Reply(message, False, b"1"))

    @rule(frame=sent)
    def stop_waiting(self, frame):
        message, _ = frame
        if message.number in self.waiting[message.origin]:
            self.waiting[message.origin].remove(message.number)

    @rule(frame=sent)
    def ask(self, frame):
        """Ask about a message for which the sender waits; the answer must be true."""
        message, _ = frame
        if message.number not in self.waiting[message.origin]:
            return
        known = self.seen.ask(message)
        if message not in self.delivered:
            assert known in {RequestState.NEW, RequestState.FORGOTTEN}, "a message that never arrived was acknowledged"
        elif message in self.replied:
            assert known in {Reply(message, False, b"1"), RequestState.FORGOTTEN}
        elif message in self.executed:
            assert known in PENDING

    @invariant()
    def nothing_is_executed_twice(self):
        assert all(times == 1 for times in self.executed.values())

    @invariant()
    def memory_is_bounded(self):
        for sender in self.seen._senders.values():
            pending = sum(state in PENDING for state in sender.records.values())
            assert len(sender.records) <= LIMIT + 2 * pending + 1
            assert len(sender.numbers) == len(sender.records)


Messages.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMessages = Messages.TestCase


def message(number: int, origin: int = 1) -> MessageId:
    return MessageId(origin, number)


def test_nothing_is_kept_of_what_nobody_waits_for():
    seen = SeenRequests(LIMIT)
    for number in range(1, 1000):
        assert seen.look(message(number), number) is RequestState.NEW
        seen.take(message(number))
        seen.reply(Reply(message(number), False, b"x"))
    assert len(seen._senders[1].records) == 1
    assert seen.ask(message(1)) is RequestState.SETTLED


def test_long_call_is_not_forgotten_under_those_that_come_after():
    seen = SeenRequests(LIMIT)
    seen.look(message(1), 1)
    seen.take(message(1))
    for number in range(2, 100):
        assert seen.look(message(number), 1) is RequestState.NEW
        seen.take(message(number))
        seen.reply(Reply(message(number), False, b""))
    assert seen.ask(message(1)) is RequestState.TAKEN
    seen.reply(Reply(message(1), False, b"done"))
    assert seen.ask(message(1)) == Reply(message(1), False, b"done")
    assert len(seen._senders[1].records) <= LIMIT + 2


def test_message_that_never_came_is_not_acknowledged_when_many_came_after_it():
    seen = SeenRequests(LIMIT)
    for number in range(2, 100):
        seen.look(message(number), 1)
        seen.take(message(number))
        seen.reply(Reply(message(number), False, b""))
    assert seen.ask(message(1)) is RequestState.FORGOTTEN
    assert seen.look(message(1), 1) is RequestState.FORGOTTEN, "a forgotten message may have been executed, and must not be executed again"


def test_begun_messages_are_told_for_the_journal():
    seen = SeenRequests(LIMIT)
    for number in (1, 2, 3):
        seen.look(message(number), 1)
        seen.take(message(number))
    seen.begin(message(2))
    seen.begin(message(9))
    seen.reply(Reply(message(3), False, b""))
    assert sorted(seen.begun()) == [message(2), message(3)]


def test_senders_not_heard_of_for_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr(seen_module, "MAX_SENDERS", 3)
    seen = SeenRequests(LIMIT)
    for origin in (1, 2, 3, 1, 4):
        if seen.look(message(5, origin), 5) is RequestState.NEW:
            seen.take(message(5, origin))
    assert set(seen._senders) == {3, 1, 4}
    seen.reply(Reply(message(5, 2), False, b""))
    assert seen.ask(message(5, 2)) is RequestState.NEW
