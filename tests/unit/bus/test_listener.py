"""Mailboxes: each message is delivered once, each question is answered, and predecessors' messages are taken over."""

import logging
import threading
from contextvars import Context

import pytest
from fakes import FakeNode

from atoll.bus import frames, payload
from atoll.bus.frames import Answer, Heartbeat, Instance, MessageId, Question, Reply, Request, Status
from atoll.bus.journal import JournalHistory
from atoll.bus.listener import Mailbox, NotificationListener, Subject, sender_realm
from atoll.bus.realms import new_node

BODY = payload.encode([{"user": "ann"}, {"method": "m"}])
SENDER = 77


def request(number: int = 1, *, call: bool = False, oldest: int | None = None, body: bytes = BODY, listener: int = 1) -> Request:
    return Request(MessageId(SENDER, number), listener, call, number if oldest is None else oldest, 0, body)


class Server:
    """A mailbox and the messages that it delivered."""

    def __init__(self, journals=None, kind="rpc", node=1):
        self.node = FakeNode(node)
        self.delivered = []
        self.mailbox = Mailbox(self.node, [Subject(kind, "e", "t", "s")], self.delivered.append, seen_per_sender=100, journal_dir=journals)

    def open(self):
        self.mailbox.open()
        return self

    def answers(self):
        return [frame.status for frame in self.node.frames(Answer)]

    def ask(self, number=1, instance=None):
        """Return the answer to a question."""
        del self.node.sent[:]
        self.mailbox.answer(Question(MessageId(SENDER, number), 1, instance or self.mailbox.instance))
        ((to, frame),) = self.node.sent
        assert to == SENDER
        return frame.status if isinstance(frame, Answer) else frame

    def kill(self):
        """Release the lock on the journal, as the death of the process does."""
        self.mailbox._journal.close()


@pytest.fixture
def server() -> Server:
    return Server().open()


def test_cast_is_delivered_once_and_acknowledged_each_time(server):
    for _ in range(3):
        server.mailbox.accept(request())
    (incoming,) = server.delivered
    assert (incoming.ctxt, incoming.message) == ({"user": "ann"}, {"method": "m"})
    assert server.answers() == [Status.TAKEN] * 3


def test_call_is_acknowledged_by_its_reply_or_when_asked(server):
    server.mailbox.accept(request(call=True))
    assert server.node.sent == []
    assert server.ask() is Status.TAKEN
    server.delivered[0].reply({"x": 1})
    reply = Reply(MessageId(SENDER, 1), False, b'{"x":1}')
    assert server.node.sent[-1] == (SENDER, reply)
    assert server.ask() == reply
    server.mailbox.accept(request(call=True))
    assert server.node.sent[-1] == (SENDER, reply)
    assert len(server.delivered) == 1


def test_the_thread_that_executes_a_message_knows_the_realm_of_its_sender(server):
    for realm in (3, 4):
        server.mailbox.accept(Request(MessageId(new_node(realm), 1), 1, False, 1, 0, BODY))
    found = []

    def execute():
        found.append(sender_realm())
        for incoming in server.delivered:
            incoming.acknowledge()
            found.append(sender_realm())

    Context().run(execute)
    assert found == [None, 3, 4]


def test_failure_is_sent_and_reply_that_is_not_json_is_a_failure(server, caplog):
    server.mailbox.accept(request(call=True))
    server.delivered[0].reply(object())
    assert server.node.frames(Reply)[-1].failed
    assert len(caplog.records) == 1
    server.delivered[0].reply(failure=(KeyError, KeyError("of the method"), None))
    reply = server.node.frames(Reply)[-1]
    assert reply.failed
    assert b"of the method" in reply.body


def test_cast_that_was_executed_is_not_replied_to(server):
    server.mailbox.accept(request())
    server.delivered[0].reply({"x": 1})
    assert server.node.frames(Reply) == []
    assert server.ask() is Status.TAKEN


def test_heartbeat_and_monitor_timeout(server):
    server.mailbox.accept(request(call=True)._replace(monitor_s=3))
    incoming = server.delivered[0]
    assert incoming.client_timeout == 3
    incoming.heartbeat()
    assert server.node.sent == [(SENDER, Heartbeat(MessageId(SENDER, 1)))]


def test_message_that_never_came_may_be_sent_again(server):
    assert server.ask() is Status.UNKNOWN


def test_message_is_given_back_to_the_server(server):
    server.mailbox.accept(request())
    server.delivered[0].requeue()
    assert len(server.delivered) == 2


def test_mailbox_that_is_not_open_refuses(server):
    closed = Server()
    closed.mailbox.accept(request())
    assert (closed.answers(), closed.delivered) == ([Status.REFUSED], [])
    server.mailbox.accept(request(1, call=True))
    server.mailbox.close()
    server.mailbox.accept(request(2, oldest=1))
    assert server.answers() == [Status.REFUSED]
    assert server.ask(2) is Status.REFUSED
    assert server.ask(1) is Status.TAKEN, "a closed mailbox must still answer for messages that it took"
    server.delivered[0].reply(1)
    assert server.ask(1) == Reply(MessageId(SENDER, 1), False, b"1")
    assert (server.node.tokens, server.node.subscribed) == ([], [])


def test_presence_is_told_after_all_is_ready():
    server = Server()
    assert server.node.tokens == []
    server.open()
    assert server.node.tokens == [server.node.keys.listener("rpc", "e", "t", "s", server.mailbox.instance)]
    assert server.node.subscribed == [server.node.keys.fanout("e", "t")]


def test_fanout_comes_once_though_it_was_sent_again(server):
    message = request(listener=0)
    server.mailbox._on_fanout(message)
    server.mailbox.accept(message._replace(listener=1))
    server.mailbox._on_fanout(Heartbeat(message.id))
    assert len(server.delivered) == 1
    assert server.answers() == [Status.TAKEN] * 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"[{}]", b"[{},{},{}]", b'{"a":1,"b":2}', b'"ab"', b"[1,2]", b"[{},[]]", b"null", b"[" * 9999, b"\xff", b" ["],
)
def test_garbage_is_dropped_with_one_line(server, caplog, body):
    with caplog.at_level(logging.DEBUG):
        server.mailbox.accept(request(body=body))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(MessageId(SENDER, 1)) in caplog.text
    assert (server.delivered, server.node.sent) == ([], [])
    server.mailbox.accept(request(2))
    assert len(server.delivered) == 1


def test_each_is_delivered_once_to_many_threads(server):
    def accept_all():
        for number in range(1, 100):
            server.mailbox.accept(request(number, oldest=1))

    threads = [threading.Thread(target=accept_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.delivered) == 99


# With a journal


def test_cast_that_was_not_begun_is_executed_by_the_successor(tmp_path):
    first = Server(tmp_path, node=1).open()
    for number in (1, 2, 3):
        first.mailbox.accept(request(number, oldest=1))
    first.delivered[0].acknowledge()
    dead = first.mailbox.instance
    first.kill()
    second = Server(tmp_path, node=2).open()
    assert [int(incoming.msg_id.rpartition(".")[2]) for incoming in second.delivered] == [2, 3]
    assert second.ask(1, dead) is Status.LOST
    assert second.ask(9, dead) is Status.UNKNOWN
    second.mailbox.accept(request(2, oldest=1))
    second.mailbox.accept(request(3, oldest=1))
    assert len(second.delivered) == 2, "a sender that repeats a message must learn that it was taken"
    assert second.answers()[-2:] == [Status.TAKEN] * 2


def test_call_that_was_not_begun_may_be_sent_to_the_successor(tmp_path):
    first = Server(tmp_path, node=1).open()
    first.mailbox.accept(request(1, call=True, oldest=1))
    first.mailbox.accept(request(2, call=True, oldest=1))
    first.delivered[1].acknowledge()
    first.kill()
    second = Server(tmp_path, node=2).open()
    assert second.delivered == []
    assert second.ask(1, first.mailbox.instance) is Status.UNKNOWN
    assert second.ask(2, first.mailbox.instance) is Status.LOST


def test_listener_that_has_not_read_a_journal_has_no_memory_of_it(tmp_path, server):
    assert server.ask(1, Instance(5, 5)) is Status.NO_MEMORY
    assert Server(tmp_path).open().ask(1, Instance(5, 5)) is Status.NO_MEMORY


def test_third_life_knows_what_the_first_began(tmp_path):
    first = Server(tmp_path, node=1).open()
    first.mailbox.accept(request(1, call=True))
    first.delivered[0].acknowledge()
    first.kill()
    Server(tmp_path, node=2).open().kill()
    assert Server(tmp_path, node=3).open().ask(1, first.mailbox.instance) is Status.LOST


def test_kill_in_the_middle_of_taking_over_repeats_nothing(tmp_path, monkeypatch):
    first = Server(tmp_path, node=1).open()
    first.mailbox.accept(request(1))
    first.kill()
    second = Server(tmp_path, node=2)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # killed before it could
    second.open()
    monkeypatch.undo()
    second.delivered[0].acknowledge()
    second.kill()
    assert Server(tmp_path, node=3).open().delivered == []


def test_damaged_record_is_dropped_with_one_line(tmp_path, caplog):
    first = Server(tmp_path, node=1).open()
    for number, frame in enumerate([b"junk", frames.encode(Heartbeat(MessageId(1, 1))), frames.encode(request(body=b"{")), b"\xa1\x01"]):
        first.mailbox._journal.taken(MessageId(SENDER, number), frame)
    first.mailbox.accept(request(9))
    first.kill()
    second = Server(tmp_path, node=2).open()
    assert len(second.delivered) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4


def test_message_is_refused_when_the_journal_can_t_be_written(tmp_path, monkeypatch, caplog):
    server = Server(tmp_path).open()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server.mailbox._journal, "taken", full)
    server.mailbox.accept(request(1))
    assert (server.delivered, server.answers()) == ([], [Status.REFUSED])
    assert "No space left" in caplog.text
    monkeypatch.undo()
    server.mailbox.accept(request(1))
    assert len(server.delivered) == 1


def test_listener_that_ended_well_leaves_nothing_to_execute(tmp_path):
    server = Server(tmp_path, node=1).open()
    server.mailbox.accept(request(1))
    server.delivered[0].acknowledge()
    server.delivered[0].reply()
    server.mailbox.close()
    server.mailbox.forget()
    server.mailbox.forget()
    successor = Server(tmp_path, node=2).open()
    assert successor.delivered == []
    assert successor.ask(1, server.mailbox.instance) is Status.LOST
    past = JournalHistory()
    with past.take_over(tmp_path / "none") as left:
        assert left == {}


# Notifications


def notifications(journals=None, node=1) -> tuple[Server, NotificationListener]:
    server, listener = Server(journals, "notify", node), NotificationListener()
    listener.mailbox, server.mailbox.deliver = server.mailbox, listener.deliver
    server.open()
    return server, listener


def test_notifications_are_polled_in_order_even_after_the_stop():
    server, listener = notifications()
    for number in (1, 2, 3):
        server.mailbox.accept(request(number, oldest=1))
    assert [incoming.msg_id[-1] for incoming in listener.poll(timeout=1)] == ["1"]
    listener.stop()
    assert [incoming.msg_id[-1] for _ in range(2) for incoming in listener.poll()] == ["2", "3"]
    assert not listener.poll()
    assert not listener.poll()
    assert not listener.poll(timeout=0.001)
    server.mailbox.accept(request(4))
    assert server.answers()[-1] is Status.REFUSED


def test_notification_whose_handling_was_cut_short_is_handled_again(tmp_path):
    """oslo.messaging acknowledges a notification when it was handled."""
    first, listener = notifications(tmp_path, 1)
    for number in (1, 2):
        first.mailbox.accept(request(number, oldest=1))
    listener.poll()[0].acknowledge()
    listener.poll()
    first.kill()
    _, listener = notifications(tmp_path, 2)
    assert [incoming.msg_id[-1] for incoming in listener.poll(timeout=1)] == ["2"]


def test_handled_notifications_take_no_memory():
    server, listener = notifications()
    for number in range(1, 1000):
        server.mailbox.accept(request(number, oldest=1))
        listener.poll()[0].acknowledge()
    assert len(server.mailbox._seen._senders[SENDER].records) <= 101
