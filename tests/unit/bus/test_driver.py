"""The driver through oslo.messaging's public interface, in one process; tests/bus has the same with many."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import InvalidTransportURL, MessageDeliveryFailure, MessagingTimeout, Target

from atoll.bus import options
from atoll.bus.driver import ZenohDriver
from atoll.bus.errors import NobodyListens
from atoll.bus.frames import Instance
from atoll.bus.node import NODES

PATIENCE_S = 20


class Endpoint:
    """An endpoint that keeps the messages that it received."""

    def __init__(self, name: str = "") -> None:
        self.name, self.heard, self.told = name, [], threading.Semaphore(0)
        self.go_on = threading.Event()

    def add(self, ctxt, x, y):
        return x + y

    def context(self, ctxt):
        return ctxt

    def who(self, ctxt):
        return self.name

    def tell(self, ctxt, what):
        self.heard.append(what)
        self.told.release()

    def fail(self, ctxt):
        raise KeyError("of the other side")

    def wait(self, ctxt):
        self.told.release()
        assert self.go_on.wait(PATIENCE_S)
        return "done"

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        self.tell(ctxt, (event_type, payload))

    def hears(self, times=1):
        for _ in range(times):
            assert self.told.acquire(timeout=PATIENCE_S), "no message arrived"
        return self.heard


@pytest.fixture
def transport(conf):
    made = oslo_messaging.get_rpc_transport(conf, "zenoh:///v")
    assert isinstance(made._driver, ZenohDriver), "the entry point must lead to this driver"
    yield made
    made.cleanup()
    assert NODES._nodes == {}


@pytest.fixture
def serve(transport):
    servers = []

    def serve_(endpoint, server="paris", topic="compute"):
        servers.append(oslo_messaging.get_rpc_server(transport, Target(topic=topic, server=server), [endpoint]))
        servers[-1].start()
        return servers[-1]

    yield serve_
    for server in servers:
        server.stop()
        server.listener.cleanup()


@pytest.fixture
def client(transport) -> Any:
    return oslo_messaging.get_rpc_client(transport, Target(topic="compute"), timeout=PATIENCE_S)


def test_nothing_is_opened_before_it_is_used(transport, short_dir):
    assert NODES._nodes == {}
    assert list(short_dir.iterdir()) == []


def test_calls_and_casts(serve, client):
    endpoint = Endpoint()
    serve(endpoint)
    assert client.call({}, "add", x=1, y=2) == 3
    assert client.call({"user": "ann"}, "context") == {"user": "ann"}
    client.cast({}, "tell", what={"deep": [1, None, "é"]})
    assert endpoint.hears() == [{"deep": [1, None, "é"]}]
    with pytest.raises(KeyError, match="of the other side"):
        client.call({}, "fail")
    with pytest.raises(oslo_messaging.RemoteError, match="nosuch"):
        client.call({}, "nosuch")


def test_servers_of_a_topic_take_turns_and_each_can_be_named(serve, client):
    for name in "abc":
        serve(Endpoint(name), name)
    assert Counter(client.call({}, "who") for _ in range(9)) == {"a": 3, "b": 3, "c": 3}
    assert [client.prepare(server=name).call({}, "who") for name in "abca"] == list("abca")


def test_listener_to_topic_and_server_as_one_name_is_that_server(serve, client):
    """As with RabbitMQ, where both are one queue; Neutron's agents listen so."""
    serve(Endpoint("agent"), "any", topic="compute.lyon")
    assert client.prepare(server="lyon").call({}, "who") == "agent"
    with pytest.raises(NobodyListens, match=r"topic compute \(tried"):
        client.cast({}, "tell", what="who is for nobody by name is not for it")
    serve(Endpoint("server"), "lyon")
    assert client.prepare(server="lyon").call({}, "who") == "server"


def test_listener_that_comes_so_gets_the_waiting_messages(serve, transport):
    waiting = oslo_messaging.get_rpc_client(transport, Target(topic="compute"), timeout=PATIENCE_S, retry=-1)
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(waiting.prepare(server="lyon").call({}, "who")))
    caller.start()
    serve(Endpoint("agent"), "any", topic="compute.lyon")
    caller.join(PATIENCE_S)
    assert answers == ["agent"]


def test_fanout_reaches_all_and_no_listener_is_not_an_error(serve, client):
    client.prepare(fanout=True).cast({}, "tell", what="early")
    endpoints = [Endpoint(), Endpoint()]
    for index, endpoint in enumerate(endpoints):
        serve(endpoint, f"s{index}")
    client.prepare(fanout=True).cast({}, "tell", what="all")
    assert [endpoint.hears() for endpoint in endpoints] == [["all"]] * 2


@pytest.mark.parametrize("how", ["call", "cast"])
def test_nobody_listens(serve, client, how):
    serve(Endpoint(), "paris")
    with pytest.raises(NobodyListens, match="nobody listens to topic compute, server lyon"):
        getattr(client.prepare(server="lyon"), how)({}, "tell", what=1)
    with pytest.raises(MessageDeliveryFailure, match=r"nobody listens to topic other \(tried 1 times\)"):
        getattr(client.prepare(topic="other"), how)({}, "tell", what=1)


def test_exchanges_and_virtual_hosts_are_apart(serve, client, conf, transport):
    serve(Endpoint())
    with pytest.raises(NobodyListens):
        client.prepare(exchange="other").call({}, "who")
    elsewhere = oslo_messaging.get_rpc_transport(conf, "zenoh:///w")
    with pytest.raises(NobodyListens):
        oslo_messaging.get_rpc_client(elsewhere, Target(topic="compute")).call({}, "who")
    elsewhere.cleanup()
    assert client.call({}, "who") == "", "the session of the other transport must stay open"


def test_call_gives_up_and_its_late_reply_harms_nobody(serve, client):
    endpoint = Endpoint()
    serve(endpoint)
    with pytest.raises(MessagingTimeout):
        client.prepare(timeout=0.05).call({}, "wait")
    endpoint.go_on.set()
    assert client.call({}, "add", x=1, y=1) == 2


def test_server_that_stops_finishes_what_it_took(serve, client):
    endpoint = Endpoint()
    server = serve(endpoint)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.call, {}, "wait")
        endpoint.hears()
        server.stop()
        with pytest.raises(NobodyListens):
            client.call({}, "who")
        endpoint.go_on.set()
        assert waiting.result(PATIENCE_S) == "done"


def test_threads_that_first_use_a_transport_together_join_once(transport, short_dir):
    barrier, driver = threading.Barrier(8), transport._driver

    def use(_):
        barrier.wait()
        return driver._node

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(use, range(8)))) == 1
    transport.cleanup()
    assert NODES._nodes == {}
    assert list(short_dir.rglob("*.sock")) == []


def test_transport_can_be_used_after_its_cleanup(serve, client, transport):
    """oslo's test fixtures, and services that restart their workers, do so."""
    transport.cleanup()
    transport.cleanup()
    serve(Endpoint("again"))
    assert client.call({}, "who") == "again"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("zenoh://user:s3cret@host/", "knows no user and password"),
        ("zenoh://host:99999/", "port 99999 of host is not between 1 and 65535"),
        ("zenoh://host?x=y", r"takes no \?query"),
        ("zenoh://:7447/", "port 7447 without a host"),
    ],
)
def test_wrong_url_is_told_in_one_line_without_passwords(conf, url, told, caplog):
    with pytest.raises(InvalidTransportURL, match=told) as caught:
        oslo_messaging.get_rpc_transport(conf, url)
    assert "s3cret" not in str(caught.value) + caplog.text
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tls": True}, "TLS needs tls_ca_file"),
        ({"tls_cert_file": "/etc/hostname", "tls_key_file": "/etc/hostname"}, "TLS needs tls_ca_file"),
        ({"tls_ca_file": "/no/such"}, "TLS file /no/such does not exist"),
        ({"tls_ca_file": "/etc/hostname", "tls_key_file": "/etc/hostname"}, "tls_cert_file and tls_key_file belong together"),
    ],
)
def test_half_given_tls_is_told_when_the_service_starts(conf, given, told):
    for name, value in given.items():
        conf.set_override(name, value, options.GROUP)
    with pytest.raises(InvalidTransportURL, match=rf"\[oslo_messaging_zenoh\]: {told}"):
        oslo_messaging.get_rpc_transport(conf, "zenoh:///v")


# Notifications


@pytest.fixture
def listen(conf):
    started, transports = [], []

    def listen_(endpoint, topic="notes", pool=None):
        transports.append(oslo_messaging.get_notification_transport(conf, "zenoh:///v"))
        listener = oslo_messaging.get_notification_listener(transports[-1], [Target(topic=topic)], [endpoint], pool=pool)
        listener.start()
        started.append(listener)

    yield listen_
    for listener in started:
        listener.stop()
        listener.wait()
    for transport in transports:
        transport.cleanup()


@pytest.fixture
def notifier(conf):
    transport = oslo_messaging.get_notification_transport(conf, "zenoh:///v")
    yield oslo_messaging.Notifier(transport, "me", driver="messaging", topics=["notes"])
    transport.cleanup()


def test_notification_comes_to_one_of_each_pool(listen, notifier):
    alone, *pool = endpoints = [Endpoint(), Endpoint(), Endpoint()]
    listen(alone)
    listen(pool[0], pool="p")
    listen(pool[1], pool="p")
    for number in range(4):
        notifier.info({}, "it.happened", number)
    assert sorted(alone.hears(4)) == [("it.happened", number) for number in range(4)]
    for endpoint in pool:
        endpoint.hears(2)
    assert sorted(payload for endpoint in pool for _, payload in endpoint.heard) == [0, 1, 2, 3]
    assert [len(endpoint.heard) for endpoint in endpoints] == [4, 2, 2]


def test_notification_waits_until_somebody_listens(listen, notifier):
    for number in range(3):
        notifier.info({}, "it.happened", number)
    endpoint = Endpoint()
    listen(endpoint)
    assert sorted(endpoint.hears(3)) == [("it.happened", number) for number in range(3)]


def test_notification_without_an_outbox_is_an_error_when_nobody_listens(conf):
    conf.set_override("outbox_dir", "none", options.GROUP)
    transport = oslo_messaging.get_notification_transport(conf, "zenoh:///v")
    with pytest.raises(NobodyListens):
        transport._send_notification(Target(topic="notes.info"), {}, {"x": 1}, 1.0, retry=1)
    transport.cleanup()


def test_a_pool_whose_listener_has_gone_does_not_keep_the_notification_from_the_others_nor_bring_it_twice(conf, listen, notifier, caplog):
    endpoint = Endpoint()
    listen(endpoint)
    notifier.info({}, "it.happened", 0)
    endpoint.hears(1)
    topic = notifier.transport._driver._node.directory.topic("notify", conf.control_exchange, "notes.info")
    # A listener that has gone and that Zenoh still announces: its node does not know the listener, and refuses.
    topic.add("gone", Instance(notifier.transport._driver._node.id, 4_000_000))
    notifier.info({}, "it.happened", 1)
    assert endpoint.hears(1) == [("it.happened", 0), ("it.happened", 1)]
    assert "one pool did not get a notification" in caplog.text
    topic.remove(Instance(notifier.transport._driver._node.id, 4_000_000))
    notifier.info({}, "it.happened", 2)
    assert endpoint.hears(1) == [("it.happened", number) for number in range(3)]
