"""A process on the bus: one session for all transports, frames for waiting senders, and frames of strangers."""

import logging
import os
import threading
from collections.abc import Iterator

import pytest
import zenoh
from fakes import A
from oslo_messaging import MessageDeliveryFailure

from atoll.bus.address import Address
from atoll.bus.frames import Answer, Heartbeat, Instance, MessageId, Question, Reply, Request, Status, encode
from atoll.bus.node import NODES, Node, NodeSettings, _Nodes
from atoll.bus.realms import realm_of
from atoll.zenoh_link.config import session_config

PATIENCE_S = 20
TOPIC = ("rpc", "e", "t")


@pytest.fixture
def settings(short_dir) -> NodeSettings:
    return NodeSettings(Address((), "v"), short_dir)


@pytest.fixture
def node(settings) -> Iterator[Node]:
    made = Node(settings)
    yield made
    made.close()


@pytest.fixture
def other(settings, node) -> Iterator[Node]:
    made = Node(settings)
    yield made
    made.close()


def register(node, receiver, *sessions) -> int:
    """Register a listener, and wait until other sessions see it: its presence token comes after its subscription."""
    number = node.register(receiver, {TOPIC})
    with node.session.liveliness().declare_token(f"ready/{number}"):
        for session in sessions:
            while not [reply for reply in session.liveliness().get(f"ready/{number}", timeout=PATIENCE_S) if reply.ok]:
                pass
    return number


class Receiver:
    def __init__(self):
        self.got, self.came = [], threading.Semaphore(0)

    def accept(self, frame):
        self.got.append(frame)
        self.came.release()

    answer = accept

    def wait(self, times=1):
        for _ in range(times):
            assert self.came.acquire(timeout=PATIENCE_S)
        return self.got


def request(listener, number=1, origin=1):
    return Request(MessageId(origin, number), listener, False, number, 0, b"[{},{}]")


def test_frames_go_to_the_listener_that_they_name(node, other):
    receivers = [Receiver(), Receiver()]
    numbers = [register(node, receiver, other.session) for receiver in receivers]
    for number in numbers:
        other.send(node.id, request(number, number), TOPIC)
        other.send(node.id, Question(MessageId(1, number), number, A), TOPIC)
        node.send(node.id, request(number, number), TOPIC)
    for number, receiver in zip(numbers, receivers, strict=True):
        assert {frame.listener for frame in receiver.wait(3)} == {number}


def test_sender_gets_the_frames_for_its_message_and_no_others(node, other):
    with node.waiting() as first, node.waiting() as second:
        for waiting in (second, first):
            waiting.realms.add(realm_of(other.id))
            other.send(node.id, Reply(waiting.id, False, b"%d" % waiting.id.number))
        other.send(node.id, Heartbeat(MessageId(other.id, first.id.number)))
        assert first.frames.get(timeout=PATIENCE_S).body == b"1"
        assert second.frames.get(timeout=PATIENCE_S).body == b"2"
        assert first.frames.empty()
    node.send(node.id, Reply(first.id, False, b"late"))
    assert first.frames.empty()


def test_oldest_is_the_lowest_that_is_waited_for(node):
    with node.waiting() as first:
        with node.waiting() as second, node.waiting() as third:
            assert [(w.id.number, w.oldest) for w in (first, second, third)] == [(1, 1), (2, 1), (3, 1)]
        with node.waiting() as fourth:
            assert (fourth.id.number, fourth.oldest) == (4, 1)
    with node.waiting() as fifth:
        assert (fifth.id.number, fifth.oldest) == (5, 5)


def test_node_answers_for_a_listener_that_has_gone(node, other):
    receiver = Receiver()
    register(node, receiver, other.session)
    node.unregister(1)
    with other.waiting() as waiting:
        message = waiting.id
        other.send(node.id, request(1, *message[::-1]), TOPIC)
        assert waiting.frames.get(timeout=PATIENCE_S) == Answer(message, Status.REFUSED, Instance(node.id, 1))
        other.send(node.id, Question(message, 1, Instance(node.id, 1)), TOPIC)
        assert waiting.frames.get(timeout=PATIENCE_S) == Answer(message, Status.NO_MEMORY, Instance(node.id, 1))
    assert receiver.got == []


@pytest.fixture
def stranger(short_dir, node) -> Iterator[zenoh.Session]:
    """A raw Zenoh session on the same network."""
    endpoints = [f"unixsock-stream/{path}" for path in short_dir.glob("*.sock")]
    session = zenoh.open(session_config(mode="peer", listen=[], connect=endpoints))
    yield session
    session.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xa1",
        b"garbage of somebody else's",
        b"\xa1\x01" + bytes(20),
        b"\xa1\xff" + bytes(100),
        encode(Heartbeat(MessageId(1, 1)))[:-1],
    ],
)
def test_malformed_message_is_dropped_with_one_line(node, stranger, caplog, data):
    receiver = Receiver()
    number = register(node, receiver, stranger)
    with caplog.at_level(logging.DEBUG):
        stranger.put(node.keys.node(node.id, 0, TOPIC), data)
        stranger.put(node.keys.node(node.id, 0, TOPIC), encode(request(number)))
        receiver.wait()
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert line.message.startswith("dropped a malformed message on oslo/v/node/")


def test_receiver_that_fails_harms_no_other_message(node, stranger, caplog):
    receiver = Receiver()
    number = register(node, receiver, stranger)
    broken = register(node, object(), stranger)
    stranger.put(node.keys.node(node.id, 0, TOPIC), encode(request(broken)))
    stranger.put(node.keys.node(node.id, 0, TOPIC), encode(request(number)))
    receiver.wait()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_wrong_presence_token_is_dropped_with_one_line_and_the_valid_one_is_used(node, stranger, caplog):
    topic = node.directory.topic("rpc", "e", "t")
    tokens = [stranger.liveliness().declare_token(f"oslo/v/rpc/e/t/{end}") for end in ("nonsense", "name/node/x", f"good/{7:016x}/1")]
    while not topic.names():
        topic.wait_for_change(PATIENCE_S)
    assert topic.names() == {"good"}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    for token in tokens:
        token.undeclare()
    while topic.names():
        topic.wait_for_change(PATIENCE_S)
    assert {record.levelname for record in caplog.records} == {"WARNING"}


EDGE, COAST = 7, 8


def test_node_is_of_its_realm(short_dir):
    node = Node(NodeSettings(Address((), "v"), short_dir, realm=EDGE))
    node.close()
    assert realm_of(node.id) == EDGE


def dropped(caplog) -> int:
    return sum(record.message.startswith("dropped a malformed message") for record in caplog.records)


def test_request_in_the_name_of_another_realm_is_dropped(node, stranger, caplog):
    """Its answer would go to the other realm, whose own message of that number would count as a repetition."""
    receiver = Receiver()
    number = register(node, receiver, stranger)
    for origin in (COAST << 40 | 1, 1):
        stranger.put(node.keys.node(node.id, EDGE, TOPIC), encode(request(number, origin=origin)))
        stranger.put(node.keys.node(node.id, EDGE, TOPIC), encode(Question(MessageId(origin, 1), number, A)))
    stranger.put(node.keys.node(node.id, EDGE, TOPIC), encode(request(number, origin=EDGE << 40 | 1)))
    assert [frame.id.origin for frame in receiver.wait()] == [EDGE << 40 | 1]
    assert dropped(caplog) == 4


def test_request_for_no_topic_or_for_another_one_does_not_reach_the_listener(node, stranger, caplog):
    """A message that a router lets pass for one topic must not reach the listener of another one in the same process."""
    receiver = Receiver()
    number = register(node, receiver, stranger)
    for topic in (None, ("rpc", "e", "other"), ("notify", "e", "t"), ("rpc", "other", "t")):
        stranger.put(node.keys.node(node.id, EDGE, topic), encode(request(number, number=1, origin=EDGE << 40 | 1)))
    stranger.put(node.keys.node(node.id, EDGE, TOPIC), encode(request(number, number=2, origin=EDGE << 40 | 1)))
    assert [frame.id.number for frame in receiver.wait(1)] == [2]
    assert dropped(caplog) == 1


def test_realm_that_may_send_anything_names_no_topic(node, stranger, caplog):
    """A subscriber for each topic would take Zenoh minutes with a thousand of them."""
    receiver = Receiver()
    number = register(node, receiver, stranger)
    assert node.keys.node(node.id, 0, TOPIC) == node.keys.node(node.id)
    stranger.put(node.keys.node(node.id), encode(request(number, number=2)))
    assert [frame.id.number for frame in receiver.wait(1)] == [2]
    assert dropped(caplog) == 0


def test_only_the_realm_that_a_message_was_sent_to_may_answer(node, stranger):
    with node.waiting() as waiting:
        message = waiting.id
        node.send(EDGE << 40 | 1, request(1, *message[::-1]), TOPIC)
        for source in (COAST, 0):
            for forged in (Reply(message, False, b"1"), Heartbeat(message), Answer(message, Status.TAKEN, Instance(source << 40 | 1, 1))):
                stranger.put(node.keys.node(node.id, source), encode(forged))
        stranger.put(node.keys.node(node.id, EDGE), encode(Answer(message, Status.TAKEN, Instance(COAST << 40 | 1, 1))))
        stranger.put(node.keys.node(node.id, EDGE), encode(Reply(message, False, b"2")))
        assert waiting.frames.get(timeout=PATIENCE_S).body == b"2"
        assert waiting.frames.empty()


@pytest.mark.parametrize("end", ["", "x", "00000g", "000000/rpc", "000000/rpc/e", "000000/rpc/e/t/more", "0000000/rpc/e/t"])
def test_key_that_is_none_is_dropped_with_one_line(node, stranger, caplog, end):
    receiver = Receiver()
    number = register(node, receiver, stranger)
    stranger.put(f"oslo/v/client/{node.id:016x}/{end}".rstrip("/"), encode(request(number)))
    stranger.put(node.keys.node(node.id, 0, TOPIC), encode(request(number)))
    receiver.wait()
    assert (len(receiver.got), dropped(caplog)) == (1, 1)


def test_node_that_has_left_the_bus_cannot_send(settings):
    node = Node(settings)
    node.close()
    with pytest.raises(MessageDeliveryFailure, match="the bus is closed in this process"):
        node.send(12345, Heartbeat(MessageId(1, 1)))


def test_node_that_left_leaves_no_socket_and_no_thread(settings, short_dir):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name == "zenoh-inbox"}

    before = threads()
    node = Node(settings)
    (inbox,) = threads() - before
    assert len(list(short_dir.glob("*.sock"))) == 1
    node.close()
    assert list(short_dir.glob("*.sock*")) == []
    inbox.join(PATIENCE_S)
    assert not inbox.is_alive()


def test_transports_of_a_process_share_a_node(settings, short_dir):
    nodes = _Nodes()
    first, second = nodes.acquire(settings), nodes.acquire(NodeSettings(Address((), "v"), short_dir))
    assert first is second
    third = nodes.acquire(NodeSettings(Address((), "other"), short_dir))
    assert third is not first
    nodes.release(first)
    first.put("still/open", b"")
    nodes.release(first)
    with pytest.raises(MessageDeliveryFailure):
        first.put("closed", b"")
    assert nodes.acquire(settings) is not first
    nodes.close()
    assert list(short_dir.glob("*.sock")) == []


def test_node_of_the_parent_is_left_alone_and_none_is_opened_in_its_place(settings, monkeypatch):
    nodes = _Nodes()
    nodes.forget()
    node = nodes.acquire(settings)
    monkeypatch.setattr(os, "getpid", lambda: node.pid + 1)
    nodes.forget()
    assert node.is_of_parent
    nodes.release(node)
    nodes.close()
    with pytest.raises(MessageDeliveryFailure, match="was forked from one that had joined the bus"):
        nodes.acquire(settings)
    monkeypatch.undo()
    node.put("still/open", b"")
    node.close()


def test_nothing_is_open_without_use():
    assert list(NODES._nodes) == []
