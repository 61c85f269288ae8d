"""A router's access list with real links: the rights of listed clients, and that a client that is not listed has none."""

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zenoh

from atoll.bus import access, realms
from atoll.bus.access import Client, Limits
from atoll.bus.address import Address
from atoll.bus.frames import Heartbeat, Instance, MessageId, Reply, Request, encode
from atoll.bus.node import Node, NodeSettings
from atoll.bus.router import router
from atoll.mesh.certificates import authority
from atoll.zenoh_link.config import Tls, session_config

REALMS = realms.assign(["edge", "coast"])
CONDUCTOR, SCHEDULER, COMPUTE = (("rpc", "nova", topic) for topic in ("conductor", "scheduler", "compute"))
PATIENCE_S = 20


def limits(name: str) -> Limits:
    return Limits("paris", REALMS[name], name, (COMPUTE[1:],), (CONDUCTOR[1:],))


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


class Receiver:
    def __init__(self) -> None:
        self.got: list[Any] = []

    def accept(self, frame: object) -> None:
        self.got.append(frame)

    answer = accept


class Stage:
    """A router with paris's own node, and the clients that connect to it by TLS."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        made = authority(directory / "ca", "cloud")
        for name in ("paris", "edge", "coast", "stolen", "trusted"):
            made.certify(directory / name, name, "127.0.0.1")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.stack = contextlib.ExitStack()

    def tls(self, name: str) -> Tls:
        return Tls(*(str(self.directory / name / file) for file in ("ca.pem", "cert.pem", "key.pem")))

    def route(self, *clients: Client) -> contextlib.AbstractContextManager[zenoh.Session]:
        return router([f"tls/127.0.0.1:{self.port}"], socket_dir=self.directory / "s", tls=self.tls("paris"), clients=clients)

    def own(self) -> Node:
        node = Node(NodeSettings(Address((), "paris"), self.directory / "s"))
        self.stack.callback(node.close)
        return node

    def node(self, name: str, realm: int = 0) -> Node:
        address = Address((f"127.0.0.1:{self.port}",), "paris")
        node = Node(NodeSettings(address, mode="client", tls=self.tls(name), connect_by_tls=True, realm=realm))
        self.stack.callback(node.close)
        return node

    def session(self, name: str) -> zenoh.Session:
        session = zenoh.open(session_config(mode="client", listen=[], connect=[f"tls/127.0.0.1:{self.port}"], tls=self.tls(name)))
        self.stack.callback(session.close)
        return session


@pytest.fixture
def stage(short_dir) -> Iterator[Stage]:
    made = Stage(short_dir)
    with made.stack:
        yield made


@pytest.fixture
def listed(stage) -> Iterator[Stage]:
    with stage.route(*(Client(name, limits(name)) for name in ("edge", "coast"))):
        yield stage
        stage.stack.close()


def hear(session: zenoh.Session, key: str) -> list[bytes]:
    got: list[bytes] = []
    session.declare_subscriber(key, lambda sample: got.append(bytes(sample.payload)))
    return got


def find(session: zenoh.Session, pattern: str) -> list[str]:
    """Return the presence tokens that a session sees."""
    return [str(reply.ok.key_expr) for reply in session.liveliness().get(pattern, timeout=1.0) if reply.ok]


def message(origin: int, listener: int, number: int = 1) -> Request:
    return Request(MessageId(origin, number), listener, False, number, 0, b"[{},{}]")


def test_client_calls_serves_and_is_answered(listed):
    paris, edge = listed.own(), listed.node("edge", REALMS["edge"])
    conductor, compute = Receiver(), Receiver()
    theirs = Instance(paris.id, paris.register(conductor, {CONDUCTOR}))
    ours = Instance(edge.id, edge.register(compute, {COMPUTE}))
    tokens = [
        paris.session.liveliness().declare_token(paris.keys.listener(*CONDUCTOR, "paris", theirs)),
        edge.session.liveliness().declare_token(edge.keys.listener(*COMPUTE, "edge", ours)),
    ]
    until(lambda: edge.directory.topic(*CONDUCTOR).names() == {"paris"})
    until(lambda: paris.directory.topic(*COMPUTE).names() == {"edge"})
    with edge.waiting() as asked, paris.waiting() as told:
        edge.send(paris.id, message(edge.id, theirs.listener, asked.id.number), CONDUCTOR)
        paris.send(edge.id, message(paris.id, ours.listener, told.id.number), COMPUTE)
        until(lambda: conductor.got and compute.got)
        paris.send(edge.id, Reply(conductor.got[0].id, False, b"1"))
        edge.send(paris.id, Heartbeat(compute.got[0].id))
        assert asked.frames.get(timeout=PATIENCE_S).body == b"1"
        assert isinstance(told.frames.get(timeout=PATIENCE_S), Heartbeat)
    heard = []
    edge.subscribe(edge.keys.fanout(*COMPUTE[1:]), heard.append)
    until(lambda: paris.put(paris.keys.fanout(*COMPUTE[1:]), encode(message(paris.id, 0))) or heard)
    del tokens


def test_client_may_do_nothing_else(listed, caplog):
    """Other topics, names and realms, messages for others, and messages to all."""
    caplog.set_level(logging.CRITICAL, "atoll.bus.node")
    paris, coast = listed.own(), listed.node("coast", REALMS["coast"])
    edge = listed.session("edge")
    keys, mine = paris.keys, REALMS["edge"]
    got = [hear(node.session, "oslo/**") for node in (paris, coast)]
    heard, own = hear(edge, "oslo/**"), hear(edge, keys.nodes_of(mine))
    forged = [(CONDUCTOR, "edge", mine), (COMPUTE, "paris", mine), (COMPUTE, "edge", 0), (COMPUTE, "edge", REALMS["coast"])]
    tokens = [
        *(
            paris.session.liveliness().declare_token(keys.listener(*topic, "paris", Instance(paris.id, 1)))
            for topic in (CONDUCTOR, SCHEDULER)
        ),
        *(edge.liveliness().declare_token(keys.listener(*topic, name, Instance(realm << 40 | 1, 1))) for topic, name, realm in forged),
    ]
    until(lambda: find(edge, "oslo/paris/rpc/nova/conductor/**"))
    for key in (
        keys.node(paris.id, mine, SCHEDULER),
        keys.node(paris.id, mine, COMPUTE),
        keys.node(paris.id, mine, ("notify", "nova", "conductor")),
        keys.node(paris.id, 0, CONDUCTOR),
        keys.node(paris.id, REALMS["coast"]),
        keys.node(coast.id, mine),
        keys.node(coast.id, mine, COMPUTE),
        keys.fanout("nova", "compute"),
        keys.fanout("nova", "scheduler"),
        "oslo/other/anything",
    ):
        edge.put(key, b"forged")
    for key in (keys.node(coast.id, 0), keys.node(coast.id, 0, COMPUTE), keys.fanout("nova", "scheduler"), "oslo/other/anything"):
        paris.session.put(key, b"secret")
    edge.put(keys.node(paris.id, mine), b"last")
    paris.session.put(keys.node(mine << 40 | 1, 0), b"last")
    until(lambda: b"last" in got[0] and own)
    assert b"forged" not in got[0] + got[1]
    assert b"secret" not in heard + own
    assert find(edge, "oslo/paris/rpc/nova/scheduler/**") == []
    assert not paris.directory.topic(*COMPUTE).names()
    assert paris.directory.topic(*CONDUCTOR).names() == {"paris"}
    del tokens


def closed(session: zenoh.Session) -> bool:
    return not list(session.info.links())


def test_certificate_that_is_not_listed_opens_no_link(listed):
    """Such as the certificate of a revoked site, or that of a full site."""
    paris, edge = listed.own(), listed.node("edge", REALMS["edge"])
    got = [hear(paris.session, "**"), hear(edge.session, "**")]
    stolen = listed.session("stolen")
    heard = hear(stolen, "**")
    stolen.put(edge.keys.node(edge.id, 0), b"forged")
    stolen.put(edge.keys.node(paris.id, 0, CONDUCTOR), b"forged")
    until(lambda: closed(stolen))
    edge.put(edge.keys.node(paris.id, REALMS["edge"]), b"last")
    until(lambda: b"last" in got[0])
    assert b"forged" not in got[0] + got[1]
    assert set(heard) <= {b"forged"}, "the session may receive its own messages only"


def test_client_that_is_taken_off_the_list_is_off_the_bus_and_the_others_are_back(stage):
    clients = [Client(name, limits(name)) for name in ("edge", "coast")]
    with stage.route(*clients):
        edge, coast = stage.session("edge"), stage.node("coast", REALMS["coast"])
        heard = hear(edge, "**")
    with stage.route(clients[1]):
        paris = stage.own()
        got = hear(paris.session, "**")
        until(lambda: coast.put(coast.keys.node(paris.id, REALMS["coast"]), b"back") or b"back" in got)
        edge.put(coast.keys.node(paris.id, REALMS["edge"]), b"forged")
        paris.put(coast.keys.node(REALMS["edge"] << 40 | 1, 0), b"secret")
        until(lambda: closed(edge))
        assert b"forged" not in got
        assert heard in ([], [b"forged"])
        stage.stack.close()


def test_trusted_client_uses_the_whole_bus(stage):
    with stage.route(Client("trusted")):
        paris, trusted = stage.own(), stage.node("trusted")
        got = hear(trusted.session, "oslo/**")
        until(lambda: paris.put("oslo/paris/anything", b"x") or got)
        stage.stack.close()


@pytest.mark.parametrize(
    "clients",
    [
        [Client("a"), Client("a")],
        [Client("a", Limits("v", 1, "a", (), ())), Client("b", Limits("v", 1, "b", (), ()))],
        [Client("a", Limits("v", 0, "a", (), ()))],
    ],
)
def test_list_that_would_mix_two_up_is_refused(clients):
    with pytest.raises(ValueError, match="of its own"):
        access.access_control(clients)
