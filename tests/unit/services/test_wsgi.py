import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plain_cheroot import plain_server
from upstream import inside

from atoll.pokes import Poker
from atoll.services.common import TOKEN_CACHE
from atoll.services.wsgi import Server, TokenCache, serve

PATIENCE_S = 20


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def listener() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start_(application, **options) -> Server:
        servers.append(Server(listener(), application, **options))
        servers[-1].start_in_thread()
        return servers[-1]

    yield start_
    for server in servers:
        server.stop()
        server._listener.close()


@pytest.fixture
def client() -> Iterator[Callable[[Server], http.client.HTTPConnection]]:
    made: list[http.client.HTTPConnection] = []

    def connect(server: Server) -> http.client.HTTPConnection:
        made.append(http.client.HTTPConnection(*server._listener.getsockname(), timeout=PATIENCE_S))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def get(connection: http.client.HTTPConnection, method: str = "GET", **options) -> tuple[int, bytes]:
    connection.request(method, "/", **options)
    answer = connection.getresponse()
    return answer.status, answer.read()


def closing_echo(environ, start_response):
    lines = list(environ["wsgi.input"])
    environ["wsgi.input"].close()
    body = b"|".join(lines)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.mark.parametrize("chunked", [False, True])
def test_application_cannot_close_the_connection_with_the_body(start, client, chunked):
    connection = client(start(closing_echo))
    for _ in range(2):
        body = iter([b"a\nb", b"c\n"]) if chunked else b"a\nbc\n"
        assert get(connection, "POST", body=body) == (200, b"a\n|bc\n")


def test_upstream_closes_the_connection_with_the_body():
    """If this fails, the server need not wrap a request's body."""

    def closing(environ, start_response):
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"].close()
        start_response("200 OK", [("Content-Length", "0")])
        return []

    with plain_server(closing, threads=2) as address:
        connection = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
        try:
            assert get(connection, "POST", body=b"a\n")[0] == 200
            with contextlib.suppress(BrokenPipeError):  # the server may close before the body is sent
                assert get(connection, "POST", body=b"a\n")[0] == 500
        finally:
            connection.close()


def test_answers(start, client):
    assert get(client(start(hello))) == (200, b"hello")


def test_connection_is_kept(start, client):
    connection = client(start(hello))
    get(connection)
    own = connection.sock.getsockname()
    assert get(connection) == (200, b"hello")
    assert connection.sock.getsockname() == own


def test_head_has_headers_and_no_body(start, client):
    connection = client(start(hello))
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "5", b"")
    assert get(connection) == (200, b"hello"), "no part of the body may be left in the connection"


def test_careless_application_sends_no_body_either(start, client):
    closed = []

    class Answer:
        start: Any

        def __iter__(self):
            self.start("200 OK", [("X-Late", "yes")])
            yield b"hello"

        def close(self):
            closed.append(True)

    def application(environ, start_response):
        answer = Answer()
        answer.start = start_response
        return answer

    connection = client(start(application))
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["X-Late"], answer.read()) == (200, "yes", b"")
    connection.request("HEAD", "/")
    assert connection.getresponse().status == 200
    assert closed == [True, True]


def test_chunked_body_arrives(start, client):
    parts = [b"a" * 70_000, b"b", b"c" * 5]
    assert get(client(start(echo)), "PUT", body=iter(parts), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}) == (
        200,
        b"".join(parts),
    )


def test_chunked_body_streams(start, client):
    """The application gets the first chunk while the client holds back the second: an image is not kept in memory."""
    arrived = threading.Event()

    def application(environ, start_response):
        first = environ["wsgi.input"].read(5)
        arrived.set()
        return echo(environ | {"wsgi.input": SimpleNamespace(read=lambda: first + environ["wsgi.input"].read())}, start_response)

    connection = client(start(application))
    connection.putrequest("PUT", "/")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"5\r\nfirst\r\n")
    assert arrived.wait(PATIENCE_S)
    connection.send(b"6\r\nsecond\r\n0\r\n\r\n")
    assert connection.getresponse().read() == b"firstsecond"


def test_answer_without_length_is_chunked(start, client):
    def application(environ, start_response):
        start_response("200 OK", [])
        yield from (b"one", b"two")

    connection = client(start(application))
    assert get(connection) == (200, b"onetwo")
    assert get(connection) == (200, b"onetwo")


def test_answers_are_sent_immediately(start, client):
    """Accepted sockets have TCP_NODELAY, so that an answer of two writes does not wait for the client's acknowledgement."""
    seen: list[int] = []

    def application(environ, start_response):
        file = environ["wsgi.input"]
        while not hasattr(file, "_sock"):
            file = getattr(file, "rfile", None) or file.raw
        seen.append(file._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return hello(environ, start_response)

    assert get(client(start(application)))[0] == 200
    assert seen
    assert all(seen)


def test_requests_run_concurrently(start, client):
    """Six requests are inside the application at the same time."""
    barrier = threading.Barrier(6, timeout=PATIENCE_S)

    def application(environ, start_response):
        barrier.wait()
        return hello(environ, start_response)

    server = start(application)
    connections = [client(server) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(get, connections)) == [(200, b"hello")] * 6


def test_more_clients_than_threads_are_all_served(start, client):
    server = start(hello, threads=2)
    connections = [client(server) for _ in range(30)]
    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(get, connections)) == [(200, b"hello")] * 30
        assert list(pool.map(get, connections)) == [(200, b"hello")] * 30, "idle connections must be kept without holding threads"


def test_exception_is_a_500_without_its_text(start, client, caplog):
    def application(environ, start_response):
        raise ZeroDivisionError("a secret")

    server = start(application)
    status, body = get(client(server))
    assert status == 500
    assert json.loads(body)["error"]["code"] == 500
    assert b"Its log has the cause" in body
    assert b"secret" not in body
    assert "ZeroDivisionError: a secret" in caplog.text, "the log must have the exception"


def test_server_survives_an_exception(start, client):
    def application(environ, start_response):
        if environ["QUERY_STRING"]:
            raise ZeroDivisionError
        return hello(environ, start_response)

    server = start(application)
    broken = client(server)
    broken.request("GET", "/?x")
    assert broken.getresponse().status == 500
    assert get(client(server)) == (200, b"hello")


def test_nonsense_is_a_400(start):
    server = start(hello)
    with socket.create_connection(server._listener.getsockname(), PATIENCE_S) as connection:
        connection.sendall(b"what?\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_applications_share_a_token_cache_per_server(start, client):
    caches = []

    def application(environ, start_response):
        caches.append(environ[TOKEN_CACHE])
        return hello(environ, start_response)

    server = start(application)
    get(client(server))
    get(client(server))
    assert caches[0] is caches[1]
    assert isinstance(caches[0], TokenCache)


def test_request_in_flight_is_answered_before_the_stop(start, client):
    inside, go = threading.Event(), threading.Event()

    def application(environ, start_response):
        inside.set()
        go.wait(PATIENCE_S)
        return hello(environ, start_response)

    server = start(application)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(get, client(server))
        assert inside.wait(PATIENCE_S)
        stopped = pool.submit(server.stop)
        go.set()
        assert answer.result() == (200, b"hello")
        stopped.result()


def test_stopped_server_does_not_answer(start, client):
    server = start(hello)
    get(client(server))
    server.stop()
    with pytest.raises(OSError, match=r".*"):
        socket.create_connection(server._listener.getsockname(), 1)


class FakeChild:
    name = "paris/placement"

    def __init__(self, count: int, directory: Path) -> None:
        self.arguments = {"directory": str(directory)}
        self.sockets = [listener() for _ in range(count)]
        self.addresses = [each.getsockname() for each in self.sockets]
        self.is_ready, self.stop = threading.Event(), threading.Event()

    def ready(self) -> None:
        self.is_ready.set()

    def wait(self) -> None:
        self.stop.wait(PATIENCE_S)


def test_serve_gives_each_application_its_socket(tmp_path):
    child = FakeChild(2, tmp_path)
    thread = threading.Thread(target=serve, args=(child, hello, echo))
    thread.start()
    assert child.is_ready.wait(PATIENCE_S)
    connections = [http.client.HTTPConnection(*address, timeout=PATIENCE_S) for address in child.addresses]
    assert get(connections[0]) == (200, b"hello")
    assert get(connections[1], "PUT", body=b"x") == (200, b"x")
    for connection in connections:
        connection.close()
    child.stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_served_application_forgets_tokens_when_the_process_is_told(tmp_path):
    caches, child, poker = [], FakeChild(1, tmp_path), Poker()

    def application(environ, start_response):
        caches.append(environ[TOKEN_CACHE])
        return hello(environ, start_response)

    thread = threading.Thread(target=serve, args=(child, application))
    thread.start()
    assert child.is_ready.wait(PATIENCE_S)
    connection = http.client.HTTPConnection(*child.addresses[0], timeout=PATIENCE_S)
    get(connection)
    connection.close()
    caches[0].set("token", "ann")
    poker.poke(tmp_path / "run/forget.placement")
    deadline = time.monotonic() + PATIENCE_S
    while caches[0].get("token") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert caches[0].get("token") is None
    poker._socket.close()
    child.stop.set()
    thread.join(PATIENCE_S)


def test_serve_refuses_another_number_of_applications(tmp_path):
    child = FakeChild(1, tmp_path)
    with pytest.raises(ValueError, match="zip"):
        serve(child, hello, hello)
    assert not child.is_ready.is_set()
    child.sockets[0].close()


def test_token_cache_keeps_and_forgets():
    cache = TokenCache(size=2, ttl_s=300)
    assert cache.get("a") is None
    cache.set("a", 1)
    cache.set("b", 2, time=1)
    assert (cache.get("a"), cache.get("b")) == (1, 2)
    cache.set("c", 3)
    assert [cache.get(key) for key in "abc"].count(None) == 1


def test_token_cache_forgets_in_time(monkeypatch):
    cache = TokenCache(ttl_s=0)
    cache.set("a", 1)
    assert cache.get("a") is None


def test_token_cache_is_what_keystonemiddleware_expects():
    found = inside(
        """
        import logging
        from keystonemiddleware.auth_token._cache import TokenCache as Middleware
        from atoll.services.common import TOKEN_CACHE
        from atoll.services.wsgi import TokenCache
        middleware = Middleware(logging.getLogger(), env_cache_name=TOKEN_CACHE, cache_time=300)
        ours = TokenCache()
        middleware.initialize({TOKEN_CACHE: ours})
        before = middleware.get("token")
        middleware.set("token", {"user": "ann"})
        tell([before, middleware.get("token"), len(ours._values)])
        """
    )
    assert found == [None, {"user": "ann"}, 1]
