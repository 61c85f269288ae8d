"""Slow clients of a service, which hold none of its threads."""

import gc
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_cheroot import plain_server

from atoll.services.patches.shared import slow_clients
from atoll.services.wsgi import THREADS, Server

PATIENCE_S = 20


def consume(environ, start_response):
    left = int(environ.get("CONTENT_LENGTH") or 0)
    got = len(environ["wsgi.input"].read(left)) if left else len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(str(got))))])
    return [str(got).encode()]


def ignore(environ, start_response):
    start_response("401 Unauthorized", [("Content-Length", "2")])
    return [b"no"]


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[str, int]]]:
    servers: list[Server] = []

    def start_(application) -> tuple[str, int]:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(400)
        servers.append(Server(listener, application))
        servers[-1].start_in_thread()
        return listener.getsockname()

    yield start_
    for server in servers:
        server.stop()
        server._listener.close()


def get(address: tuple[str, int], patience_s: float = 3) -> int:
    connection = http.client.HTTPConnection(*address, timeout=patience_s)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


HELD = {
    "nothing": b"",
    "a byte": b"G",
    "half a head": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "a small body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1",
    "a large body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n1",
    "an upload": b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 100000000\r\n\r\n1",
    "chunks": b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nh",
    "an expectation": b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 100\r\n\r\n1",
    "a folded length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n 100\r\n\r\n1",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 100\r\n\r\n1",
    "a second request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1",
}


@pytest.mark.parametrize("application", [consume, ignore])
@pytest.mark.parametrize("name", sorted(HELD))
def test_slow_clients_leave_threads_for_others(start, name, application):
    address = start(application)
    held = [socket.create_connection(address, PATIENCE_S) for _ in range(3 * THREADS)]
    for each in held:
        each.sendall(HELD[name])
    for _ in range(3):
        assert get(address) in {200, 401}
    for each in held:
        each.close()
    assert get(address) in {200, 401}


def test_upstream_gives_a_thread_to_a_slow_client():
    """If this fails, patches/shared/slow_clients.py can go."""
    with plain_server(consume, threads=1) as address, socket.create_connection(address, PATIENCE_S) as slow:
        slow.sendall(HELD["half a head"])
        time.sleep(0.5)
        with pytest.raises(TimeoutError):
            get(address, 1)


def test_requests_that_arrive_in_pieces_are_whole_for_the_application(start):
    address = start(consume)
    for size in (0, 1, 70_000, 900_000, 3 << 20):
        with socket.create_connection(address, PATIENCE_S) as connection:
            message = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
            step = max(1, len(message) // 7)
            for offset in range(0, len(message), step):
                connection.sendall(message[offset : offset + step])
                time.sleep(0.005)
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert answer.endswith(b"\r\n\r\n%d" % size), (size, answer[-60:])


@pytest.mark.parametrize("size", [10_000, 40_000, 130_000, 300_000, 1_000_000])
def test_a_request_of_any_size_is_answered_without_delay(start, size):
    """The kernel collects only as much as the window that it offers at first."""
    begun = time.monotonic()
    with socket.create_connection(start(consume), PATIENCE_S) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - begun < slow_clients.ARRIVAL_S / 2


def test_one_that_gives_up_its_request_is_let_go(start):
    address = start(consume)
    for _ in range(4 * THREADS):
        with socket.create_connection(address, PATIENCE_S) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1")
            connection.shutdown(socket.SHUT_WR)
            connection.recv(100)
    assert get(address) == 200


def connections(address: tuple[str, int]) -> int:
    """Return the number of the server's own connections that this process has not closed; other tests' threads open descriptors too."""
    found = psutil.Process().net_connections("tcp")
    return sum(bool(each.laddr) and each.laddr.port == address[1] and each.status != psutil.CONN_LISTEN for each in found)


@pytest.mark.parametrize("application", [consume, ignore])
def test_connections_that_have_ended_leave_no_descriptors_to_the_garbage_collector(start, application):
    address = start(application)
    get(address)
    gc.collect()
    before = connections(address)
    gc.disable()
    try:
        for name in sorted(HELD):
            for _ in range(THREADS):
                with socket.create_connection(address, PATIENCE_S) as connection:
                    connection.sendall(HELD[name])
        get(address, PATIENCE_S)  # so the server has accepted all connections before
        deadline = time.monotonic() + PATIENCE_S
        while connections(address) > before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert connections(address) <= before
    finally:
        gc.enable()


def test_uploads_that_wait_for_others_are_closed_with_the_server():
    listener = socket.create_server(("127.0.0.1", 0), backlog=400)
    server = Server(listener, consume)
    server.start_in_thread()
    uploads = [socket.create_connection(listener.getsockname(), PATIENCE_S) for _ in range(2 * THREADS)]
    for each in uploads:
        each.sendall(HELD["an upload"])
    deadline = time.monotonic() + PATIENCE_S
    while len(server.arrivals._uploads) < THREADS and time.monotonic() < deadline:
        time.sleep(0.02)
    waiting = [conn.socket for conn in server.arrivals._uploads]
    server.stop()
    listener.close()
    assert len(waiting) >= THREADS
    assert {each.fileno() for each in waiting} == {-1}
    for each in uploads:
        each.close()


def test_connections_whose_request_is_late_are_closed(start, monkeypatch):
    monkeypatch.setattr(slow_clients, "ARRIVAL_S", 0.3)
    address = start(consume)
    for message in HELD.values():
        with socket.create_connection(address, PATIENCE_S) as connection:
            connection.sendall(message)
            while connection.recv(65536):
                pass  # at last it is closed


def test_an_upload_that_drips_is_broken_off(start, monkeypatch):
    monkeypatch.setattr(slow_clients, "ARRIVAL_S", 0.5)
    address = start(consume)
    with socket.create_connection(address, PATIENCE_S) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        begun = time.monotonic()
        with pytest.raises(OSError, match=r".*"):
            while time.monotonic() - begun < PATIENCE_S:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begun < 5


def test_too_many_that_wait_make_room(start, monkeypatch):
    monkeypatch.setattr(slow_clients, "MOST_ARRIVING", 20)
    address = start(consume)
    held = [socket.create_connection(address, PATIENCE_S) for _ in range(60)]
    deadline = time.monotonic() + PATIENCE_S
    held[0].settimeout(PATIENCE_S)
    assert held[0].recv(1) == b""
    assert time.monotonic() < deadline
    assert get(address) == 200
    for each in held:
        each.close()


def test_uploads_wait_for_one_another(start):
    address = start(consume)
    head = b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    uploads = [socket.create_connection(address, PATIENCE_S) for _ in range(2 * THREADS)]
    for each in uploads:
        each.sendall(head)

    def end(each: socket.socket) -> None:
        each.sendall(b"0\r\n\r\n")

    threads = [threading.Thread(target=end, args=(each,)) for each in uploads]
    for thread in threads:
        thread.start()
    for each in uploads:
        with each:
            assert b"".join(iter(lambda each=each: each.recv(65536), b"")).endswith(b"\r\n\r\n5")


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_say_how_many_are_missing(seen: bytes, whole: bool):
    needed = slow_clients.missing(seen + (b"\r\n\r\n" if whole else b""))
    assert needed is None or 0 <= needed <= slow_clients.HEAD + 4 + slow_clients.BODY


def test_how_many_bytes_a_request_has():
    assert slow_clients.missing(b"GET / HTTP/1.1\r\n\r\n") == 18
    assert slow_clients.missing(b"GET / HTTP/1.1\r\n") == 17
    assert slow_clients.missing(b"x" * slow_clients.HEAD) == 0
    assert slow_clients.missing(b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n") == 38 + 7
    assert slow_clients.missing(b"POST / HTTP/1.1\r\nContent-Length: 77777777\r\n\r\n") is None
    assert slow_clients.missing(b"POST / HTTP/1.1\r\nContent-Length: -7\r\n\r\n") == 0
    assert slow_clients.missing(b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n") == 0
    assert slow_clients.missing(b"GET / HTTP/1.1\r\n continued\r\n\r\n") == 0
