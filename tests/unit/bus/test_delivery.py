"""The sender's side: the choice of a server, and the effect of each answer and of silence."""

import threading

import pytest
from fakes import A, B, C, FakeNode
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout

from atoll.bus.delivery import Deadline, Delivery, WaitingTimes
from atoll.bus.directory import Topic
from atoll.bus.errors import NobodyListens, ServerLost
from atoll.bus.frames import Answer, Heartbeat, Instance, Question, Reply, Request, Status

PATIENCE = WaitingTimes(default_retries=0, retry_interval_s=0.001, question_interval_s=0.001, lost_server_s=0.01)


def topic(**servers: Instance) -> Topic:
    made = Topic()
    for name, instance in servers.items():
        made.add(name, instance)
    return made


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def deliver(node, servers, **given):
    patience = given.pop("patience", PATIENCE)
    return Delivery(node, servers, b"[{},{}]", patience, to="topic t", **given).run()


def test_cast_ends_with_its_acknowledgement(node):
    node.react = lambda to, frame: node.answer(Answer(frame.id, Status.TAKEN, A))
    assert deliver(node, topic(a=A)) is None
    assert [(to, frame.listener, frame.wants_reply) for to, frame in node.sent] == [(A.node, A.listener, False)]


def test_call_ends_with_its_reply_and_hears_acknowledgement_and_heartbeat_before(node):
    def react(_, frame):
        node.answer(Answer(frame.id, Status.TAKEN, A))
        node.answer(Heartbeat(frame.id))
        node.answer(Reply(frame.id, False, b"1"))

    node.react = react
    assert deliver(node, topic(a=A), wants_reply=True).body == b"1"


def test_nobody_listens(node):
    with pytest.raises(NobodyListens, match=r"nobody listens to topic t \(tried 1 times\)"):
        deliver(node, topic())
    with pytest.raises(MessageDeliveryFailure, match="tried 3 times"):
        deliver(node, topic(), retry=2)
    with pytest.raises(MessagingTimeout):
        deliver(node, topic(a=A), server="b")
    assert node.sent == []


def test_call_that_retries_for_ever_ends_with_its_time(node):
    with pytest.raises(MessagingTimeout, match="time to wait") as caught:
        deliver(node, topic(), retry=-1, timeout_s=0.01, wants_reply=True)
    assert not isinstance(caught.value, MessageDeliveryFailure)


def test_server_that_comes_while_a_message_waits_gets_it(node):
    servers = topic()
    node.react = lambda to, frame: node.answer(Answer(frame.id, Status.TAKEN, A))
    comes = threading.Thread(target=servers.add, args=("a", A))
    comes.start()
    deliver(node, servers, retry=-1)
    comes.join()
    assert [to for to, _ in node.sent] == [A.node]


def test_refused_message_goes_to_another(node):
    def react(to, frame):
        instance = Instance(to, frame.listener)
        node.answer(Answer(frame.id, Status.REFUSED if instance == A else Status.TAKEN, instance))

    node.react = react
    for _ in range(3):
        deliver(node, topic(a=A, b=B))
    assert node.frames(Request)[-1].listener == B.listener


def test_all_refuse(node):
    node.react = lambda to, frame: node.answer(Answer(frame.id, Status.REFUSED, Instance(to, frame.listener)))
    with pytest.raises(NobodyListens):
        deliver(node, topic(a=A, b=B))
    assert len({to for to, _ in node.sent}) == 2


def test_unanswered_message_is_asked_for_and_not_sent_again(node):
    """If it were sent again to another server it could be executed twice; only a server that never received it gets it again."""
    questions = []

    def react(_, frame):
        if isinstance(frame, Question):
            questions.append(frame)
            if len(questions) == 3:
                node.answer(Answer(frame.id, Status.TAKEN, A))

    node.react = react
    deliver(node, topic(a=A, b=B))
    assert [type(frame) for _, frame in node.sent] == [Request, Question, Question, Question]
    assert {to for to, _ in node.sent} == {node.sent[0][0]}


def test_message_that_never_came_is_sent_again_with_the_same_identity(node):
    def react(_, frame):
        requests = node.frames(Request)
        if isinstance(frame, Question):
            node.answer(Answer(frame.id, Status.UNKNOWN, A))
        elif len(requests) == 2:
            node.answer(Answer(frame.id, Status.TAKEN, A))

    node.react = react
    deliver(node, topic(a=A))
    first, second = node.frames(Request)
    assert first == second


def test_successor_is_asked_and_gets_what_never_came(node):
    servers = topic(a=A)

    def react(to, frame):
        if isinstance(frame, Request) and to == A.node:
            servers.remove(A)
            servers.add("a", B)
            servers.add("other", C)
        elif isinstance(frame, Question):
            assert (frame.instance, to) == (A, B.node), "only servers of the same name may be asked"
            node.answer(Answer(frame.id, Status.UNKNOWN, B))
        else:
            node.answer(Reply(frame.id, False, b"1"))

    node.react = react
    assert deliver(node, servers, server="a", wants_reply=True).body == b"1"
    assert [to for to, frame in node.sent if isinstance(frame, Request)] == [A.node, B.node]


@pytest.mark.parametrize(("wants_reply", "error"), [(True, ServerLost), (False, MessageDeliveryFailure)])
def test_begun_message_of_a_dead_server_is_lost(node, wants_reply, error):
    servers = topic(a=A)

    def react(_, frame):
        servers.remove(A)
        servers.add("a", B)
        if isinstance(frame, Question):
            node.answer(Answer(frame.id, Status.LOST, B))

    node.react = react
    with pytest.raises(error, match=r"was lost; the message may have been executed") as caught:
        deliver(node, servers, wants_reply=wants_reply, patience=PATIENCE.__class__(0, 0.001, 0.001, 1000))
    assert isinstance(caught.value, MessagingTimeout) == wants_reply


@pytest.mark.parametrize("successor_knows", [True, False])
def test_server_that_vanished_is_waited_for_only_so_long(node, successor_knows):
    servers = topic(a=A)

    def react(_, frame):
        servers.remove(A)
        if successor_knows:
            servers.add("a", B)
        if isinstance(frame, Question):
            node.answer(Answer(frame.id, Status.NO_MEMORY, B))

    node.react = react
    with pytest.raises(ServerLost):
        deliver(node, servers, wants_reply=True)


def test_call_gives_up_when_its_time_is_over(node):
    with pytest.raises(MessagingTimeout, match="timed out waiting for a reply") as caught:
        deliver(node, topic(a=A), wants_reply=True, timeout_s=0.005)
    assert not isinstance(caught.value, ServerLost)


def test_call_without_heartbeats_ends_after_its_monitor_timeout(node):
    with pytest.raises(MessagingTimeout):
        deliver(node, topic(a=A), wants_reply=True, timeout_s=3600, monitor_s=0.005)
    assert node.frames(Request)[0].monitor_s == 0.005


def test_late_and_foreign_answers_change_nothing(node):
    def react(_, frame):
        node.answer(Answer(frame.id, Status.NO_MEMORY, C))
        node.answer(Answer(frame.id, Status.TAKEN, A))

    node.react = react
    assert deliver(node, topic(a=A)) is None


def test_nearest_server_is_found_by_calls_too(node):
    """A reply comes when the method has ended; the answer to a question sent with the call measures the distance of the server."""
    servers = topic(far=A, near=B)
    held = []

    def react(to, frame):
        instance = Instance(to, frame.listener)
        if isinstance(frame, Question):
            if instance == A:
                servers.measured(A, 5.0)  # as if the answer had taken long
            node.answer(Answer(frame.id, Status.TAKEN, instance))
            node.answer(held.pop())
        elif servers.wants_measurement(instance):
            held.append(Reply(frame.id, False, b"1"))
        else:
            node.answer(Reply(frame.id, False, b"1"))

    node.react = react
    for _ in range(5):
        deliver(node, servers, wants_reply=True, nearest=True, patience=WaitingTimes(0, 1, 60, 60))
    assert [to for to, frame in node.sent if isinstance(frame, Request)] == [A.node, *[B.node] * 4]
    assert len(node.frames(Question)) == 2, "expected one question for each server, not for each call"


def test_balanced_calls_are_not_measured(node):
    node.react = lambda to, frame: node.answer(Reply(frame.id, False, b"1"))
    servers = topic(a=A)
    deliver(node, servers, wants_reply=True)
    assert (servers.wants_measurement(A), node.frames(Question)) == (True, [])


def test_deadline_without_end_waits_as_long_as_it_is_told():
    deadline = Deadline(None)
    assert deadline.left_s(7.0) == 7.0
    assert not deadline.is_over
    assert Deadline(0).is_over
    assert Deadline(1000).left_s(7.0) == 7.0
    monitored = Deadline(1000, 0)
    assert monitored.is_over
    monitored.heard()
    assert Deadline(None, 1000).left_s(7.0) == 7.0
