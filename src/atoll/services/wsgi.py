"""Serves a WSGI application on a listening socket that the runtime has opened."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cachetools import TTLCache
from cheroot import wsgi

from atoll.runtime.child import Child
from atoll.services import access_rules, arrival, invalidation
from atoll.services.common import TOKEN_CACHE

THREADS = 16
"""Requests served at once. More wait in the queue; the clients of a site are few, and its cores fewer."""

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class TokenCache:
    """Validated tokens, shared by all threads, in the way keystonemiddleware expects a cache in the WSGI environment.

    Its own in-process cache is one dictionary for each thread that happens to run at the same time, and never forgets.
    """

    def __init__(self, size: int = 4096, ttl_s: int = 300) -> None:
        self._values: TTLCache[str, Any] = TTLCache(size, ttl_s)
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        """The value of `key`, or None."""
        with self._lock:
            return self._values.get(key)

    def set(self, key: str, value: Any, time: int = 0) -> None:
        """Keep `value`; all values live equally long."""
        with self._lock:
            self._values[key] = value

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._values.clear()


UPLOADS = 10
"""Uploads at once: the other threads are left for requests that are there as a whole."""


class Server(wsgi.Server):
    """A threaded HTTP/1.1 server on a socket it is given.

    Args:
        listener: the socket.
        application: answers.
        threads: requests served at once.
    """

    ConnectionClass = arrival.Connection
    max_request_header_size = arrival.HEAD

    def __init__(self, listener: socket.socket, application: WSGIApplication, threads: int = THREADS) -> None:
        cache = TokenCache()
        invalidation.register(cache.clear)

        def with_cache(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ[TOKEN_CACHE] = cache
            environ["wsgi.input"] = _Body(environ["wsgi.input"])
            answer = application(environ, start_response)
            return _without_body(answer) if environ["REQUEST_METHOD"] == "HEAD" else answer

        super().__init__(
            listener.getsockname()[:2], with_cache, numthreads=threads, max=threads, request_queue_size=256, timeout=60, shutdown_timeout=5
        )
        self._listener = listener
        self._uploads = max(1, threads * UPLOADS // THREADS)

    def prepare(self) -> None:
        """Do all but serve."""
        super().prepare()
        self._connections: Any = self._connections
        self._connections.close()
        self.arrivals = self._connections = arrival.Manager(self, self._uploads)

    def process_conn(self, conn: arrival.Connection) -> None:
        """Have a request answered by a thread, once it is there."""
        self.arrivals.arrived(conn)

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:  # noqa: A002 - cheroot's signature
        """Take the given socket instead of opening one."""
        # The headers and the body of an answer are two writes: with Nagle's algorithm the second one waits for the client's delayed
        # acknowledgement, 40 ms for each of the fifty requests of a boot. Accepted sockets inherit the option.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = self._listener
        return self._listener

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """To the service's own log."""
        import logging

        logging.getLogger("atoll.wsgi").log(level, msg, exc_info=traceback)

    def start_in_thread(self) -> None:
        """Accept requests from now on."""
        self.prepare()
        threading.Thread(target=self.serve, name="wsgi", daemon=True).start()


class _Body(io.IOBase):
    """The body of a request, which the application may close without closing the connection.

    Glance closes what it has read an image from, and cheroot would then close its reader of the connection: the client's next request
    on it was lost, and so now and then a snapshot failed after its upload. Lines are made by the parent, as cheroot's `readline` never
    returns from a chunked body that has a line feed; and a negative size is all, which means other things to cheroot.
    """

    def __init__(self, rfile: Any) -> None:
        self.rfile = rfile

    def read(self, size: int | None = None) -> bytes:
        """Read that many bytes, or all; fewer at the end of the body."""
        data: bytes = self.rfile.read(None if size is None or size < 0 else size)
        return data


def _without_body(answer: Iterable[bytes]) -> Iterable[bytes]:
    """Nothing. cheroot sends what a careless application answers to HEAD, and a client takes it for the next answer's beginning."""
    try:
        for _part in answer:  # the application may start its answer only now
            pass
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return ()


def serve(child: Child, *applications: WSGIApplication) -> None:
    """Serve an application on each of the process's sockets, in their order, until the process is asked to stop."""
    access_rules.install()
    servers = [Server(listener, application) for listener, application in zip(child.sockets, applications, strict=True)]
    invalidation.listen(Path(child.arguments["directory"]) / "run", child.name.partition("/")[2])
    for server in servers:
        server.start_in_thread()
    child.ready()
    child.wait()
    with ThreadPoolExecutor() as stopping:
        for server in servers:
            stopping.submit(server.stop)
