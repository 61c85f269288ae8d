"""A server and a client over a real socket."""

import asyncio
import gc
import os
import socket
import stat
import sys
import threading
import time
import warnings
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.control import client as client_module
from atoll.control import server as server_module
from atoll.control import sockets
from atoll.control.client import ControlClient
from atoll.control.messages import decode
from atoll.control.server import ControlServer, HungUpError
from atoll.errors import AtollError

pytestmark = pytest.mark.timeout(30)


def lost(why):
    return AtollError("wan.failed", f"lost: {why}")


def absent(why):
    return AtollError("wan.not_running", f"absent: {why}")


async def echo(exchange):
    for event in exchange.request.get("events", ()):
        exchange.send(event)
    return exchange.request.get("value")


async def refuse(_exchange):
    raise AtollError("site.unknown", "no such site", "a hint")


async def fail(_exchange):
    raise ZeroDivisionError("by zero")


async def give(exchange):
    exchange.sockets += [socket.create_server(("127.0.0.1", 0)) for _ in range(exchange.request["count"])]
    return exchange.request["count"]


async def sleep(_exchange):
    await asyncio.sleep(60)


_made: list[socket.socket] = []
"""Sockets of the requests that fail after they have made some."""


async def make_and_fail(exchange):
    _made[:] = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    exchange.sockets += _made
    match exchange.request["how"]:
        case "refuses":
            raise AtollError("site.unknown", "no such site", "a hint")
        case "fails":
            raise ZeroDivisionError("by zero")
        case "hung-up":
            raise HungUpError
    return object()  # no JSON


class World:
    """A server in a thread, and a client of it."""

    def __init__(self, path):
        self.path = path
        self.hung_up = threading.Event()
        handlers = {
            "echo": echo,
            "refuse": refuse,
            "fail": fail,
            "give": give,
            "sleep": sleep,
            "make": make_and_fail,
            "end": self._end,
            "watch": self._watch,
        }
        self.server = ControlServer(path, handlers, name="the server", invalid="wan.invalid", failed="wan.failed")
        self.client = ControlClient(path, lost, absent=absent)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self):
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result()
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        # A connection that arrives while the server closes would end with the server's process; here, the server has no process of its own.
        # From Python 3.13 on, the destructor of its transport fails as well.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning), mock.patch.object(sys, "unraisablehook"):
            gc.collect()

    async def _stop(self):
        self.server.close()
        for writer in self.server._deferred:  # in use, the end of the process closes them
            writer.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, exchange):
        exchange.defer()
        self._loop.call_later(0.1, self.server.close)

    async def _watch(self, exchange):
        async with exchange.hang_up() as gone:
            exchange.send("watching")
            await gone
            self.hung_up.set()
            raise HungUpError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("control") / "control.sock") as world:
        yield world


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=values, events=st.lists(values, max_size=4))
def test_requests_and_answers_arrive_as_they_were_sent(world, value, events):
    assert world.client.ask("echo", value=value) == value
    assert list(world.client.follow("echo", value=value, events=events)) == events


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_answered_or_hung_up_on(world, pieces):
    with sockets.connect(world.path, 10.0) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        for line in connection.makefile("rb"):
            assert decode(line)["error"]["code"] == "wan.invalid"
    assert world.client.ask("echo", value=1) == 1


def test_several_requests_over_one_connection_are_answered_in_order(world):
    with sockets.connect(world.path, 10.0) as connection:
        connection.sendall(b"".join(b'{"verb": "echo", "value": %d}\n' % number for number in range(20)))
        lines = connection.makefile("rb")
        assert [decode(lines.readline())["ok"] for _ in range(20)] == list(range(20))


@pytest.mark.parametrize(
    ("verb", "code", "text"),
    [("refuse", "site.unknown", "no such site"), ("fail", "wan.failed", "by zero"), ("fly", "wan.invalid", "does not know the verb 'fly'")],
)
def test_refusals(world, verb, code, text):
    for ask in (world.client.ask, world.client.follow, world.client.ask_for_sockets):
        with pytest.raises(AtollError, match=text) as caught:
            ask(verb)
        assert caught.value.kind.code == code


def test_a_message_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "LINE_LIMIT", 1000)
    with World(tmp_path / "s") as world, pytest.raises(AtollError, match="more than 1000 bytes"):
        world.client.ask("echo", value="x" * 1000)


@pytest.mark.parametrize("how", ["refuses", "fails", "hung-up", "unsendable"])
def test_sockets_of_a_request_that_fails_are_closed_and_not_sent(world, how):
    with sockets.connect(world.path, 10.0) as connection:
        connection.sendall(b'{"verb": "make", "how": "%s"}\n' % how.encode())
        answer, passed, _flags, _address = socket.recv_fds(connection, 4096, 8)
    assert passed == []
    assert answer == b"" if how == "hung-up" else "error" in decode(answer)
    assert [each.fileno() for each in _made] == [-1, -1]


@pytest.mark.parametrize("count", [0, 1, 200])
def test_sockets_are_passed(world, count):
    given_ = world.client.ask_for_sockets("give", count=count)
    assert len({each.getsockname() for each in given_}) == count
    for each in given_:
        assert not os.get_inheritable(each.fileno())
        each.close()


def test_a_client_that_hangs_up_is_noticed(world):
    events = world.client.follow("watch")
    assert next(events) == "watching"
    events.close()
    assert world.hung_up.wait(10)


def test_the_end_is_waited_for(tmp_path):
    with World(tmp_path / "s") as world:
        ended = threading.Event()
        waiting = threading.Thread(target=lambda: (world.client.ask_and_await_end("end"), ended.set()))
        waiting.start()
        while world.client.listens():
            time.sleep(0.01)
        assert not ended.wait(0.2), "the client must wait until the server's process has ended"
        for writer in world.server._deferred:
            world._loop.call_soon_threadsafe(writer.close)  # as the end of the process does
        waiting.join(10)
        assert ended.is_set()


def test_nothing_listens(tmp_path):
    (tmp_path / "file").touch()
    dead = socket.socket(socket.AF_UNIX)
    sockets.at(tmp_path / "dead", dead.bind)
    dead.close()
    for path in (tmp_path / "none", tmp_path / "no" / "directory", tmp_path / "file" / "s", tmp_path / "dead"):
        client = ControlClient(path, lost, absent=absent)
        assert not client.listens()
        for ask in (client.ask, client.follow, client.ask_for_sockets, client.ask_and_await_end):
            with pytest.raises(AtollError, match="absent: "):
                ask("echo")
        with pytest.raises(AtollError, match="lost: "):
            ControlClient(path, lost).ask("echo")


@pytest.mark.parametrize("answer", [b"", b'{"ok": ', b"nonsense\n", b"[]\n"])
def test_a_server_that_ends_meanwhile(tmp_path, answer):
    listener = socket.socket(socket.AF_UNIX)
    sockets.at(tmp_path / "s", listener.bind)
    listener.listen()

    def serve():
        for _ in range(4):
            connection, _address = listener.accept()
            connection.makefile("rb").readline()
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    client = ControlClient(tmp_path / "s", lost, absent=absent)
    for ask in (client.ask, client.follow, client.ask_for_sockets, client.ask_and_await_end):
        with pytest.raises(AtollError, match="lost: "):
            ask("echo")
    listener.close()


def test_a_server_that_does_not_answer_in_time(world):
    with pytest.raises(AtollError, match=r"lost: no answer within 0.05 s"):
        world.client.ask("sleep", timeout_s=0.05)
    with pytest.raises(AtollError, match=r"lost: no answer within 0.05 s"):
        ControlClient(world.path, lost, answer_s=0.05).ask_for_sockets("sleep")
    assert client_module.ANSWER_S == 30


def test_only_its_user_may_use_the_socket(world):
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert sockets.trusted_users() == {os.geteuid(), 0}


def test_another_user_is_refused_by_credentials_too(world, monkeypatch):
    monkeypatch.setattr(sockets, "peer_user", lambda _connection: 4711)
    with pytest.raises(AtollError, match="user 4711 may not use the control socket") as caught:
        world.client.ask("echo")
    assert caught.value.kind.code == "control.refused"


def test_the_path_may_be_long_and_an_old_socket_is_replaced(tmp_path):
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    sockets.listen(deep / "s").close()
    with World(deep / "s") as world:
        assert world.client.ask("echo", value=3) == 3
    assert not (deep / "s").exists()
