"""The directory: presence tokens come and go, and messages are shared among the present servers."""

import threading
from collections import Counter
from types import SimpleNamespace

import pytest
import zenoh
from fakes import A, B, C

from atoll.bus.directory import Directory, Topic
from atoll.bus.frames import Instance
from atoll.bus.keys import Keys

KEYS = Keys("")


def sample(name, instance, kind=zenoh.SampleKind.PUT):
    return SimpleNamespace(key_expr=KEYS.listener("rpc", "e", "t", name, instance), kind=kind)


class FakeSession:
    """A session that reports tokens as Zenoh does: to the subscriber, and as replies of `get`."""

    def __init__(self, *present, during=()):
        self.present, self.during, self.watched = present, during, []

    def liveliness(self):
        return self

    def declare_subscriber(self, pattern, handler, history):
        assert history
        self.watched.append(pattern)
        self.tell = handler.callback if hasattr(handler, "callback") else handler
        return self

    def get(self, pattern, timeout):
        for told in self.during:
            self.tell(told)
        return [SimpleNamespace(ok=told) for told in self.present] + [SimpleNamespace(ok=None)]


@pytest.fixture(autouse=True)
def _callback(monkeypatch):
    monkeypatch.setattr(zenoh.handlers, "Callback", lambda callback, indirect: SimpleNamespace(callback=callback))


def test_present_servers_and_those_that_come_and_go():
    session, topic = FakeSession(sample("a", A)), Topic()
    topic.watch(session, "pattern")
    assert topic.names() == {"a"}
    session.tell(sample("b", B))
    session.tell(sample("b", B))
    session.tell(sample("b", C))
    assert (topic.named("b"), topic.name_of(B), C in topic) == ([B, C], "b", True)
    session.tell(sample("a", A, zenoh.SampleKind.DELETE))
    session.tell(sample("a", A, zenoh.SampleKind.DELETE))
    assert (topic.names(), A in topic, topic.name_of(A)) == ({"b"}, False, None)


def test_server_that_went_during_the_first_look_is_gone():
    """The reply to the first look was on its way when the server went: it must not bring the server back."""
    session = FakeSession(sample("a", A), sample("b", B), during=[sample("a", A), sample("a", A, zenoh.SampleKind.DELETE)])
    topic = Topic()
    topic.watch(session, "pattern")
    assert topic.names() == {"b"}
    session.tell(sample("a", A))
    assert topic.names() == {"a", "b"}, "a server may return when its link heals"


def test_wrong_token_is_dropped_with_one_line(caplog):
    session, topic = FakeSession(), Topic()
    topic.watch(session, "pattern")
    session.tell(SimpleNamespace(key_expr="oslo/x/rpc/e/t/name/nonsense/1", kind=zenoh.SampleKind.PUT))
    assert topic.names() == set()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def topic_of(*instances):
    topic = Topic()
    for index, instance in enumerate(instances):
        topic.add(f"s{index}", instance)
    return topic


def test_messages_are_balanced():
    topic = topic_of(A, B, C)
    assert Counter(topic.choose(None, (), nearest=False) for _ in range(30)) == {A: 10, B: 10, C: 10}
    assert {topic.choose("s1", (), nearest=False) for _ in range(5)} == {B}
    assert {topic.choose(None, {A, C}, nearest=False) for _ in range(5)} == {B}
    assert topic.choose("s1", {B}, nearest=False) is None
    assert topic.choose("none", (), nearest=False) is None


def test_messages_to_one_target_don_t_turn_those_to_another():
    topic = Topic()
    for name, instance in (("p", A), ("p", B), ("q", C), ("q", Instance(13, 1))):
        topic.add(name, instance)
    chosen = Counter(topic.choose(name, (), nearest=False) for _ in range(10) for name in ("p", "q"))
    assert set(chosen.values()) == {5}


def test_nearest_is_who_answers_soonest_and_each_is_tried():
    topic = topic_of(A, B, C)
    tried = []
    for seconds in (0.5, 0.1, 0.3):
        tried.append(topic.choose(None, (), nearest=True))
        topic.measured(tried[-1], seconds)
    assert sorted(tried) == [A, B, C]
    assert topic.choose(None, (), nearest=True) == tried[1]
    assert topic.choose(None, {tried[1]}, nearest=True) == tried[2]
    for _ in range(30):
        topic.measured(tried[1], 2.0)
    assert topic.choose(None, (), nearest=True) == tried[2], "the nearest server changes when one becomes slower"
    topic.remove(tried[2])
    assert topic.choose(None, (), nearest=True) == tried[0]


def test_waiting_sender_is_woken_by_a_change():
    topic = topic_of()
    comes = threading.Thread(target=topic.add, args=("a", A))
    comes.start()
    while A not in topic:
        topic.wait_for_change(20)
    comes.join()


def test_topic_is_watched_once_from_its_first_use_on():
    session = FakeSession()
    directory = Directory(session, KEYS)
    assert directory.known("rpc", "e", "t") is None
    first = directory.topic("rpc", "e", "t")
    assert directory.topic("rpc", "e", "t") is first is directory.known("rpc", "e", "t")
    assert directory.topic("notify", "e", "t") is not first
    assert session.watched == [KEYS.listeners("rpc", "e", "t"), KEYS.listeners("notify", "e", "t")]
