"""The router: its command line, its errors, and the messages between its sides. tests/bus tests broken links."""

import socket

import pytest
import zenoh

from atoll.bus import router
from atoll.bus.address import Address
from atoll.bus.frames import Instance
from atoll.bus.node import Node, NodeSettings
from atoll.zenoh_link.config import Tls


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_peers_of_two_machines_meet_through_their_routers(short_dir, port):
    here, there = short_dir / "a", short_dir / "b"
    endpoint = f"tcp/127.0.0.1:{port}"
    with router.router([endpoint], socket_dir=here), router.router([], [endpoint], there):
        nodes = [Node(NodeSettings(Address((), "v"), directory)) for directory in (here, there)]
        token = nodes[0].session.liveliness().declare_token(nodes[0].keys.listener("rpc", "e", "t", "s", Instance(nodes[0].id, 1)))
        topic = nodes[1].directory.topic("rpc", "e", "t")
        while not topic.names():
            topic.wait_for_change(20)
        token.undeclare()
        for node in nodes:
            node.close()
    assert list(short_dir.rglob("*.sock")) == []


def test_port_can_be_used_again_immediately(port):
    for _ in range(3):
        with router.router([f"tcp/127.0.0.1:{port}"]), socket.create_connection(("127.0.0.1", port)):
            pass


def test_port_that_is_taken_is_told(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp/127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(zenoh.ZError), router.router([endpoint]):
            pass


def test_half_given_tls_is_told():
    with pytest.raises(ValueError, match="tls_ca_file"), router.router([], tls=Tls("")):
        pass


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--listen", "tls/127.0.0.1:0", "--socket-dir", "none", "--tls-ca", "/no/such"], "TLS file /no/such does not exist"),
        (["--listen", "nonsense", "--socket-dir", "none"], "the router can't start"),
        (["--listen", "tcp/127.0.0.1:0", "--socket-dir", "/tmp/" + "x" * 120], "is too long"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(capsys, arguments, told):
    assert router.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the router can't start: ")
    assert told in error
    assert error.count("\n") == 1


def test_a_router_that_cannot_start_leaves_no_signal_blocked(capsys):
    import signal

    assert router.main(["--listen", "tcp/nowhere.invalid:1", "--socket-dir", "none", "--tls-ca", "/nowhere"]) == 1
    assert not {signal.SIGTERM, signal.SIGINT} & signal.pthread_sigmask(signal.SIG_BLOCK, ())
