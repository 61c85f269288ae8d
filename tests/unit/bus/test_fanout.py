"""Fanout: one publication for all servers of a topic, repeated for single servers that do not acknowledge it."""

import logging
import threading

import pytest
from fakes import A, B, C, FakeNode

from atoll.bus.delivery import WaitingTimes
from atoll.bus.directory import Topic
from atoll.bus.fanout import Fanout
from atoll.bus.frames import Answer, Question, Request, Status, decode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def send(node, topic, lost_server_s=5.0) -> None:
    Fanout(node, topic, "the/key", b"[{},{}]", WaitingTimes(0, 0.001, 0.001, lost_server_s), "topic t").send()


def finish() -> None:
    for thread in threading.enumerate():
        if thread.name == "zenoh-fanout":
            thread.join(20)
            assert not thread.is_alive()


def two() -> Topic:
    topic = Topic()
    topic.add("a", A)
    topic.add("b", B)
    return topic


def test_a_topic_without_listeners_is_not_an_error(node):
    send(node, Topic())
    assert (node.sent, node.published) == ([], [])


def test_all_get_it_by_one_publication(node):
    node.put = lambda key, data: (node.published.append((key, data)), [answer(node, data, instance) for instance in (A, B)])
    send(node, two())
    finish()
    assert node.sent == []
    assert [(key, decode(data).listener) for key, data in node.published] == [("the/key", 0)]


def answer(node, data, instance, status=Status.TAKEN) -> None:
    node.answer(Answer(decode(data).id, status, instance))


def test_server_that_does_not_acknowledge_gets_it_again_alone(node, caplog):
    node.put = lambda key, data: answer(node, data, A)

    def react(_, frame):
        if len(node.frames(Request)) == 3:
            node.answer(Answer(frame.id, Status.TAKEN, B))

    node.react = react
    send(node, two())
    finish()
    assert {(to, frame.listener) for to, frame in node.sent} == {(B.node, B.listener)}
    assert len({frame.id for _, frame in node.sent}) == 1, "a repeated message must keep its identity, so that it is executed once"
    assert caplog.records == []


def test_server_that_vanishes_and_comes_back_gets_it(node):
    topic = two()
    node.put = lambda key, data: (answer(node, data, A), topic.remove(B), sent.append(decode(data)))
    sent = []
    send(node, topic, lost_server_s=60)
    node.react = lambda to, frame: node.answer(Answer(frame.id, Status.TAKEN, B))
    topic.add("b", B)
    finish()
    assert [to for to, _ in node.sent] == [B.node]
    assert node.frames(Request)[0].id == sent[0].id


@pytest.mark.parametrize(("became", "sent_to_the_successor"), [(Status.UNKNOWN, [C.node]), (Status.LOST, [])])
def test_successor_of_a_server_that_died_gets_it_unless_it_was_begun(node, caplog, became, sent_to_the_successor):
    topic = two()

    def put(key, data):
        answer(node, data, A)
        topic.remove(B)
        topic.add("b", C)

    def react(to, frame):
        status = became if isinstance(frame, Question) else Status.TAKEN
        node.answer(Answer(frame.id, status, C))

    node.put, node.react = put, react
    send(node, topic, lost_server_s=60)
    finish()
    assert {(to, frame.listener, frame.instance) for to, frame in node.sent if isinstance(frame, Question)} == {(C.node, C.listener, B)}
    assert [to for to, frame in node.sent if isinstance(frame, Request)] == sent_to_the_successor
    assert caplog.records == []


def test_process_of_the_same_name_that_cannot_read_the_journal_does_not_get_it(node, caplog):
    topic = two()
    node.put = lambda key, data: (answer(node, data, A), topic.remove(B), topic.add("b", C))
    node.react = lambda to, frame: node.answer(Answer(frame.id, Status.NO_MEMORY, C))
    send(node, topic, lost_server_s=0.05)
    finish()
    assert node.frames(Request) == []
    assert [record.message for record in caplog.records] == [f"a message for all of topic t was not acknowledged by {B}"]


def test_server_that_refuses_is_stopping(node):
    node.put = lambda key, data: [answer(node, data, instance, Status.REFUSED) for instance in (A, B)]
    send(node, two())
    finish()
    assert node.sent == []


def test_server_that_never_acknowledges_is_named_in_one_line(node, caplog):
    node.put = lambda key, data: answer(node, data, A)
    with caplog.at_level(logging.WARNING):
        send(node, two(), lost_server_s=0.01)
        finish()
    assert [record.message for record in caplog.records] == [f"a message for all of topic t was not acknowledged by {B}"]
