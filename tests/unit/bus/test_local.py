"""`local://` through oslo.messaging's public interface, as the services use it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout, RemoteError, Target
from oslo_messaging._drivers import base, impl_fake

from atoll.bus import local

PATIENCE_S = 20
Serve = Callable[..., Any]


class Endpoint:
    """Keeps what it was told."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.heard: list[Any] = []
        self.lock = threading.Lock()
        self.told = threading.Semaphore(0)

    def add(self, ctxt, x, y):
        return x + y

    def who(self, ctxt):
        return self.name

    def context(self, ctxt):
        return ctxt

    def tell(self, ctxt, what):
        with self.lock:
            self.heard.append(what)
        self.told.release()

    def fail(self, ctxt):
        raise KeyError("of the other side")

    def wait(self, ctxt, event):
        event.wait(PATIENCE_S)


@pytest.fixture
def transport() -> Iterator[Any]:
    made = oslo_messaging.get_rpc_transport(cfg.CONF, "local://")
    assert isinstance(made._driver, local.LocalDriver), "the entry point leads here"
    yield made
    made.cleanup()


@pytest.fixture
def serve(transport) -> Iterator[Serve]:
    servers = []

    def serve_(endpoint: Endpoint, server: str = "paris", topic: str = "compute") -> Any:
        target = Target(topic=topic, server=server)
        servers.append(oslo_messaging.get_rpc_server(transport, target, [endpoint]))
        servers[-1].start()
        return servers[-1]

    yield serve_
    for server in servers:
        server.stop()  # without `wait`, which takes a second: futurist's idle workers look once in a second whether it is over


@pytest.fixture
def client(transport) -> Any:
    return oslo_messaging.get_rpc_client(transport, Target(topic="compute"), timeout=PATIENCE_S)


def heard(endpoint: Endpoint) -> Any:
    assert endpoint.told.acquire(timeout=PATIENCE_S), "nothing came"
    return endpoint.heard[-1]


def test_call_is_answered(serve, client):
    serve(Endpoint())
    assert client.call({}, "add", x=1, y=2) == 3


def test_context_arrives(serve, client):
    serve(Endpoint())
    assert client.call({"user": "ann"}, "context") == {"user": "ann"}


def test_cast_arrives(serve, client):
    endpoint = Endpoint()
    serve(endpoint)
    client.cast({}, "tell", what="x")
    assert heard(endpoint) == "x"


def test_call_reaches_one_server_of_a_topic(serve, client):
    serve(Endpoint("a"), "a")
    serve(Endpoint("b"), "b")
    assert {client.call({}, "who") for _ in range(20)} <= {"a", "b"}


def test_call_to_a_server_reaches_that_one(serve, client):
    serve(Endpoint("a"), "a")
    serve(Endpoint("b"), "b")
    assert [client.prepare(server=name).call({}, "who") for name in "abba"] == list("abba")


def test_fanout_reaches_all_servers_of_the_topic_and_no_other(serve, client):
    endpoints = [Endpoint(), Endpoint(), Endpoint()]
    other = Endpoint()
    for index, endpoint in enumerate(endpoints):
        serve(endpoint, f"s{index}")
    serve(other, "s0", topic="network")
    client.prepare(fanout=True).cast({}, "tell", what="all")
    assert [heard(endpoint) for endpoint in endpoints] == ["all"] * 3
    assert other.heard == []


def test_fanout_with_no_listener_is_dropped(serve, client):
    client.prepare(fanout=True).cast({}, "tell", what="early")
    endpoint = Endpoint()
    serve(endpoint)
    client.cast({}, "tell", what="late")
    assert heard(endpoint) == "late"
    assert endpoint.heard == ["late"]


def test_call_with_no_listener_fails_at_once(client):
    begun = time.monotonic()
    with pytest.raises(MessageDeliveryFailure, match="nobody listens to topic compute, server any"):
        client.call({}, "add", x=1, y=2)
    with pytest.raises(MessageDeliveryFailure, match="server lyon"):
        client.prepare(server="lyon").call({}, "add", x=1, y=2)
    assert time.monotonic() - begun < PATIENCE_S / 2


def test_call_to_another_server_fails_at_once(serve, client):
    serve(Endpoint(), "paris")
    with pytest.raises(MessageDeliveryFailure, match="server lyon"):
        client.prepare(server="lyon").call({}, "who")


def test_cast_with_no_listener_is_dropped_and_kept_nowhere(transport, serve, client):
    for _ in range(10):
        client.cast({}, "tell", what="early")
        client.prepare(server="lyon").cast({}, "tell", what="early")
    exchange = transport._driver._exchange_manager.get_exchange(None)
    assert not exchange._topic_queues
    assert not exchange._server_queues
    endpoint = Endpoint()
    serve(endpoint, "lyon")
    client.cast({}, "tell", what="late")
    assert heard(endpoint) == "late"
    assert endpoint.heard == ["late"]


def test_exception_of_the_other_side_is_raised_here(serve, client):
    serve(Endpoint())
    with pytest.raises((KeyError, RemoteError), match="of the other side"):
        client.call({}, "fail")


def test_unknown_method_is_told(serve, client):
    serve(Endpoint())
    with pytest.raises((oslo_messaging.UnsupportedVersion, oslo_messaging.NoSuchMethod, RemoteError, AttributeError)):
        client.call({}, "nosuch")


def test_call_gives_up_when_its_time_is_over(serve, client):
    serve(Endpoint())
    event = threading.Event()
    with pytest.raises(MessagingTimeout):
        client.prepare(timeout=0.05).call({}, "wait", event=event)
    event.set()


def test_answer_after_the_timeout_harms_nobody(serve, client):
    serve(Endpoint())
    event = threading.Event()
    with pytest.raises(MessagingTimeout):
        client.prepare(timeout=0.05).call({}, "wait", event=event)
    event.set()
    assert client.call({}, "add", x=1, y=1) == 2


def test_waiting_call_does_not_keep_others_waiting(serve, client):
    serve(Endpoint())
    event = threading.Event()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.call, {}, "wait", event=event)
        assert client.call({}, "add", x=1, y=1) == 2
        event.set()
        waiting.result(PATIENCE_S)


def test_many_threads_get_each_their_own_answer(serve, client):
    serve(Endpoint("a"), "a")
    serve(Endpoint("b"), "b")
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda x: client.call({}, "add", x=x, y=1), range(400))) == list(range(1, 401))


def test_casts_arrive_once_each(serve, client):
    endpoint = Endpoint()
    serve(endpoint)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda x: client.cast({}, "tell", what=x), range(200)))
    for _ in range(200):
        heard(endpoint)
    assert sorted(endpoint.heard) == list(range(200))


def test_no_call_waits_for_a_poll(serve, client):
    """`fake://` looks every 50 ms; the fastest of these calls would take 25 ms on average, and all of them 1 s at least."""
    serve(Endpoint())
    client.call({}, "add", x=0, y=0)
    took = []
    for _ in range(40):
        begun = time.perf_counter()
        client.call({}, "add", x=1, y=2)
        took.append(time.perf_counter() - begun)
    assert sorted(took)[20] < 0.02


def test_stop_wakes_the_listener(transport):
    listener = local.LocalListener(transport._driver._exchange_manager, [Target(topic="t", exchange="openstack")])
    with ThreadPoolExecutor() as pool:
        polled = pool.submit(listener.poll)
        listener.stop()
        assert not polled.result(PATIENCE_S)


def test_stop_wakes_the_listener_even_after_a_cleanup(transport):
    """The transport's cleanup forgets the exchanges; a listener that waits at one must be found all the same."""
    listener = local.LocalListener(transport._driver._exchange_manager, [Target(topic="t", exchange="openstack")])
    with ThreadPoolExecutor() as pool:
        polled = pool.submit(listener.poll, timeout=PATIENCE_S)
        transport.cleanup()
        begun = time.monotonic()
        listener.stop()
        polled.result()
        assert time.monotonic() - begun < PATIENCE_S / 2


def test_poll_waits_no_longer_than_it_is_told(transport):
    listener = local.LocalListener(transport._driver._exchange_manager, [Target(topic="t", exchange="openstack")])
    assert not listener.poll(timeout=0.01)


def test_server_can_be_stopped_and_another_started(serve, client):
    first = serve(Endpoint("first"))
    assert client.call({}, "who") == "first"
    first.stop()
    first.wait()
    serve(Endpoint("second"))
    assert client.call({}, "who") == "second"


def test_exchanges_are_apart(transport, serve):
    serve(Endpoint())
    elsewhere = oslo_messaging.get_rpc_client(transport, Target(topic="compute", exchange="elsewhere"), timeout=PATIENCE_S)
    with pytest.raises(MessageDeliveryFailure):
        elsewhere.call({}, "add", x=1, y=2)


def test_messages_need_not_be_json(serve, client):
    """They do not leave the process, so nobody encodes them only to see whether it could be done."""
    serve(Endpoint())
    marker = object()
    assert client.call({}, "add", x=[marker], y=[]) == [marker]


def test_notifications_arrive(transport):
    arrived = threading.Event()
    seen = []

    class Listens:
        def info(self, ctxt, publisher_id, event_type, payload, metadata):
            seen.append((event_type, payload))
            arrived.set()

    notifications = oslo_messaging.get_notification_transport(cfg.CONF, "local://")
    listener = oslo_messaging.get_notification_listener(notifications, [Target(topic="notes")], [Listens()])
    listener.start()
    notifier = oslo_messaging.Notifier(notifications, "me", driver="messaging", topics=["notes"])
    notifier.info({}, "it.happened", {"x": 1})
    assert arrived.wait(PATIENCE_S)
    listener.stop()
    listener.wait()
    assert seen == [("it.happened", {"x": 1})]


def test_insides_of_the_fake_driver_are_what_we_build_on():
    """If this fails, read impl_fake.py anew: bus/local.py replaces its waiting, and relies on the rest."""
    exchange = impl_fake.FakeExchange("x")
    assert isinstance(exchange._queues_lock, type(threading.RLock()))
    exchange.ensure_queue(Target(topic="t", server="s"), None)
    exchange.ensure_queue(Target(topic="t"), None)
    assert exchange._server_queues == {("t", "s"): []}
    assert exchange._topic_queues == {("t", None): []}
    exchange.deliver_message("t", {}, "message", reply_q="queue")
    context, message, reply_queue, requeue = exchange.poll(Target(topic="t"), None)
    assert (context, message, reply_queue) == ({}, "message", "queue")
    assert callable(requeue)
    assert exchange.poll(Target(topic="t"), None) == (None, None, None, None)
    assert base.batch_poll_helper
    listener = impl_fake.FakeListener(impl_fake.FakeExchangeManager("x"), [Target(topic="t", exchange="x")], "pool")
    assert (listener._pool, listener._targets[0].topic) == ("pool", "t")
    assert not listener._stopped.is_set()
    impl_fake.FakeExchangeManager.cleanup()
