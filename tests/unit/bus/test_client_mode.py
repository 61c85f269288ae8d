"""A client that starts without a router, and gets one."""

import socket
import threading

import oslo_messaging
import pytest
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout, Target

from atoll.bus.errors import Unreachable
from atoll.bus.options import GROUP
from atoll.bus.router import router
from atoll.zenoh_link import config as zenoh_config


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as trial:
        return trial.getsockname()[1]


@pytest.fixture
def transport(conf, port, monkeypatch):
    monkeypatch.setattr(zenoh_config, "CLIENT_CONNECT_MS", 200)
    made = oslo_messaging.get_rpc_transport(conf, f"zenoh://127.0.0.1:{port}/v")
    conf.set_override("mode", "client", GROUP)
    conf.set_override("retry_interval", 0.05, GROUP)
    made.cleanup()
    made = oslo_messaging.get_rpc_transport(conf, f"zenoh://127.0.0.1:{port}/v")
    yield made
    made.cleanup()


def client(transport, **options):
    return oslo_messaging.get_rpc_client(transport, Target(topic="t"), **options)


def test_without_a_router_a_message_fails_and_says_where_there_is_none(transport, port):
    with pytest.raises(Unreachable, match=rf"no router answers at 127\.0\.0\.1:{port}") as caught:
        client(transport).cast({}, "tell")
    assert isinstance(caught.value, MessageDeliveryFailure)


def test_a_call_does_not_wait_longer_than_its_timeout(transport):
    with pytest.raises(MessagingTimeout):
        client(transport, timeout=1, retry=-1).call({}, "tell")


def test_a_server_waits_for_its_router_and_serves(transport, port, caplog):
    class Endpoint:
        def echo(self, ctxt, x):
            return x

    server = oslo_messaging.get_rpc_server(transport, Target(topic="t", server="s"), [Endpoint()])
    starting = threading.Thread(target=server.start)
    starting.start()
    while "trying again" not in caplog.text:
        starting.join(0.05)
        assert starting.is_alive()
    with router([f"tcp/127.0.0.1:{port}"]):
        starting.join(20)
        assert not starting.is_alive()
        assert client(transport, timeout=10, retry=-1).call({}, "echo", x=1) == 1
        server.stop()
        server.wait()
