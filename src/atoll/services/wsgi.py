"""A WSGI server for listening sockets that the runtime has opened."""

from __future__ import annotations

import io
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cachetools import TTLCache
from cheroot import wsgi

from atoll.runtime.child import Child
from atoll.services import invalidation
from atoll.services.common import TOKEN_CACHE
from atoll.services.patches.shared import access_rules, slow_clients
from atoll.trace.hooks.wsgi import traced

THREADS = 16
"""Number of requests that are served at the same time; further ones wait in a queue. A site has few clients and few cores."""

_FAILURE = "The service failed to answer this request. Its log has the cause."
_FAILED = json.dumps({"error": {"code": 500, "title": "Internal Server Error", "message": _FAILURE}}).encode()
"""The body of an answer after an exception, in the form of Keystone's errors, which the gateway has too."""

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class TokenCache:
    """A cache of validated tokens, shared by all threads, with the interface that keystonemiddleware expects in the WSGI environment.

    keystonemiddleware's own cache in memory is one dictionary for each concurrent thread, and never drops an entry.
    """

    def __init__(self, size: int = 4096, ttl_s: int = 300) -> None:
        self._values: TTLCache[str, Any] = TTLCache(size, ttl_s)
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        """Return the value of `key`, or `None`."""
        with self._lock:
            return self._values.get(key)

    def set(self, key: str, value: Any, time: int = 0) -> None:
        """Store a value; all values live equally long, whatever `time` says."""
        with self._lock:
            self._values[key] = value

    def clear(self) -> None:
        """Drop all entries of the cache."""
        with self._lock:
            self._values.clear()


UPLOADS = 10
"""Number of concurrent uploads; the other threads are left to requests that have arrived whole."""


class Server(wsgi.Server):
    """A threaded HTTP/1.1 server on a socket that is given to it.

    Args:
        listener: the listening socket.
        application: the WSGI application.
        threads: number of requests that are served at the same time.
    """

    ConnectionClass = slow_clients.WatchedConnection
    max_request_header_size = slow_clients.HEAD

    def __init__(self, listener: socket.socket, application: WSGIApplication, threads: int = THREADS) -> None:
        cache = TokenCache()
        invalidation.register(cache.clear)

        def with_cache(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ[TOKEN_CACHE] = cache
            environ["wsgi.input"] = _Body(environ["wsgi.input"])
            answer = self._answer(application, environ, start_response)
            return _without_body(answer) if environ["REQUEST_METHOD"] == "HEAD" else answer

        super().__init__(
            listener.getsockname()[:2], with_cache, numthreads=threads, max=threads, request_queue_size=256, timeout=60, shutdown_timeout=5
        )
        self._listener = listener
        self._uploads = max(1, threads * UPLOADS // THREADS)

    def prepare(self) -> None:
        """Set up everything but the loop that serves."""
        super().prepare()
        self._connections: Any = self._connections
        self._connections.close()
        self.arrivals = self._connections = slow_clients.Manager(self, self._uploads)

    def process_conn(self, conn: slow_clients.WatchedConnection) -> None:
        """Have a thread answer a request, once the request has arrived."""
        self.arrivals.arrived(conn)

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:  # noqa: A002 - cheroot's signature
        """Use the given socket instead of opening one."""
        # The headers and the body of an answer are two writes. With Nagle's algorithm, the second one waits for the client's delayed
        # acknowledgement: 40 ms for each of the fifty requests of a boot. Accepted sockets inherit the option.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = self._listener
        return self._listener

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Write to the service's own log."""
        logging.getLogger("atoll.wsgi").log(level, msg, exc_info=traceback)

    def _answer(self, application: WSGIApplication, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Return an application's answer, or after an exception a 500 with a sentence, where cheroot sends no body."""
        try:
            return application(environ, start_response)
        except Exception as error:
            self.error_log(repr(error), logging.ERROR, traceback=True)
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(_FAILED)))]
            start_response("500 Internal Server Error", headers, sys.exc_info())
            return [_FAILED]

    def start_in_thread(self) -> None:
        """Start accepting requests, in a thread."""
        self.prepare()
        threading.Thread(target=self.serve, name="wsgi", daemon=True).start()


class _Body(io.IOBase):
    """A request's body that the application may close without closing the connection.

    Glance closes the body of an upload when it has read it. cheroot would then close its reader of the connection: the client's next
    request on the connection is lost, and now and then a snapshot fails after its upload. The parent class splits lines, because cheroot's
    `readline` never returns from a chunked body with a line feed; and a negative size reads everything, which cheroot treats differently.
    """

    def __init__(self, rfile: Any) -> None:
        self.rfile = rfile

    def read(self, size: int | None = None) -> bytes:
        """Read up to `size` bytes, or everything; return fewer bytes at the end of the body."""
        data: bytes = self.rfile.read(None if size is None or size < 0 else size)
        return data


def _without_body(answer: Iterable[bytes]) -> Iterable[bytes]:
    """Consume an answer and return no body.

    cheroot sends the body with which a careless application answers HEAD, and a client takes it for the beginning of the next answer.
    """
    try:
        for _part in answer:  # some applications start their answer only now
            pass
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return ()


def serve(child: Child, *applications: WSGIApplication) -> None:
    """Serve one application on each of the process's sockets, in their order, until the process is asked to stop."""
    access_rules.install()
    servers = [Server(listener, traced(application)) for listener, application in zip(child.sockets, applications, strict=True)]
    invalidation.listen(Path(child.arguments["directory"]) / "run", child.name.partition("/")[2])
    for server in servers:
        server.start_in_thread()
    child.ready()
    child.wait()
    with ThreadPoolExecutor() as stopping:
        for server in servers:
            stopping.submit(server.stop)
