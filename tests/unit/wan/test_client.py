import fcntl
import json
import socket
import threading

import pytest

from atoll.control import sockets
from atoll.control.messages import failure
from atoll.errors import AtollError
from atoll.wan.client import LOCK, SOCKET, Wan
from atoll.wan.probe import Echo


@pytest.fixture
def answering(tmp_path):
    """Return a function that answers one request with given bytes, and returns the list of requests."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sockets.at(tmp_path / SOCKET, listener.bind)
    listener.listen()
    asked: list[object] = []

    def answering_(answer: bytes) -> list[object]:
        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                asked.append(json.loads(connection.makefile("rb").readline()))
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return asked

    yield answering_
    listener.close()


def test_no_wan(tmp_path):
    assert Wan.connect(tmp_path) is None
    with pytest.raises(AtollError) as caught:
        Wan(tmp_path).cut("a")
    assert caught.value.kind.code == "wan.not_running"
    Wan(tmp_path).close()


@pytest.fixture
def ending(tmp_path):
    """Simulate a WAN that ends during a request: it resets the connection, and releases its lock a moment later."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sockets.at(tmp_path / SOCKET, listener.bind)
    listener.listen()
    lock = (tmp_path / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    gone = threading.Event()

    def serve() -> None:
        connection, _address = listener.accept()
        connection.close()  # with the request unread, so that the connection is reset
        gone.set()
        lock.close()

    threading.Thread(target=serve, daemon=True).start()
    yield gone
    listener.close()


@pytest.mark.parametrize("ask", [Wan.connect, lambda directory: Wan(directory).close()], ids=["connect", "close"])
def test_wan_that_is_about_to_end_is_waited_for(ending, tmp_path, ask):
    assert ask(tmp_path) is None
    assert ending.is_set()


def test_wan_that_resets_the_connection(ending, tmp_path):
    with pytest.raises(AtollError) as caught:
        Wan(tmp_path).counters()
    assert caught.value.kind.code == "wan.failed"


def test_set_is_told(answering, tmp_path):
    asked = answering(b'{"ok": null}\n')
    Wan(tmp_path).set("a:b", {"delay_ms": 5}, one_way=True)
    assert asked == [{"verb": "set", "link": "a:b", "changes": {"delay_ms": 5}, "one_way": True}]


def test_error_is_raised_as_it_was(answering, tmp_path):
    answering(failure(AtollError("wan.unknown", "no link", "a hint")))
    with pytest.raises(AtollError) as caught:
        Wan(tmp_path).cut("x")
    assert (caught.value.kind.code, caught.value.message, caught.value.hint) == ("wan.unknown", "no link", "a hint")


def test_wan_that_dies_meanwhile(answering, tmp_path):
    answering(b"")
    with pytest.raises(AtollError) as caught:
        Wan(tmp_path).counters()
    assert caught.value.kind.code == "wan.failed"


def test_probe_by_pair(answering, tmp_path):
    answering(b'{"ok": [[[1.5, 20.0]], [[1.6, null]]]}\n')
    found = Wan(tmp_path).probe([("a", "b"), ("b", "c")], 1)
    assert found == {("a", "b"): [Echo(1.5, 20.0)], ("b", "c"): [Echo(1.6, None)]}
