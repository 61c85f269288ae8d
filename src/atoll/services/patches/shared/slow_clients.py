"""Requests that get a thread only when they have arrived, so that a slow client holds none.

cheroot gives a connection to one of its threads as soon as it is accepted, or its first byte arrives; the thread waits for the rest. So as
many slow clients as threads stop a service. Here the kernel collects a request: its head is read without being consumed (`MSG_PEEK`), and
the connection is readable again when head and body are complete (`SO_RCVLOWAT`). Then cheroot reads it as usual.

Uploads of images exceed the kernel's buffer, so a thread reads them as they arrive: only some of the threads do, and the client must keep
a minimum rate (`Raw`).

A subclass takes the place of `cheroot.connections.ConnectionManager`, in `cheroot.server.HTTPServer.prepare`.
"""

from __future__ import annotations

import io
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from cheroot import connections
from cheroot.makefile import MakeFile, StreamReader
from cheroot.server import HeaderReader, HTTPConnection

ARRIVAL_S = 20.0
"""Seconds within which a request must arrive, from the first look at its connection."""

LEAST_BYTES_S = 4096
"""Minimum rate of an upload in bytes a second, over `ARRIVAL_S` of waiting."""

HEAD = 64 << 10
"""Maximum size of a request's head in bytes."""

BODY = 32 << 10
"""Maximum size in bytes of a body that the kernel collects; a longer one is an upload.

The kernel first offers a window of 64 KiB, which grows only as somebody reads: a longer request would never be complete.
"""

MOST_ARRIVING = 512
"""Greatest number of connections whose request is incomplete; one more closes the connection that has waited longest."""

MOST_IDLE = 256
"""Greatest number of connections that are kept between two requests."""

_END = b"\r\n\r\n"
_read_headers = HeaderReader()


def missing(seen: bytes) -> int | None:
    """Return how many bytes of a request must have arrived before a thread reads it.

    Args:
        seen: the beginning of the request.

    Returns:
        A number of bytes no larger than `len(seen)` if the request is complete, or can only be refused. `len(seen) + 1` if its head is
        incomplete. `None` if the request is an upload, whose body arrives while it is read.
    """
    end = seen.find(_END)
    if end < 0:
        return len(seen) + 1 if len(seen) < HEAD else 0
    lines = io.BytesIO(seen[: end + len(_END)])
    if lines.readline() == b"\r\n":  # cheroot skips one empty line
        lines.readline()
    try:
        headers = _read_headers(lines)
    except (ValueError, UnboundLocalError):  # UnboundLocalError: the headers begin with a continuation line
        return 0
    if b"Transfer-Encoding" in headers or b"Expect" in headers:
        return None
    length = headers.get(b"Content-Length", b"0")
    if not length.isdigit() or len(length) > 18:
        return 0
    return end + len(_END) + int(length) if int(length) <= BODY else None


class Raw(socket.SocketIO):
    """The bytes of a connection, which must arrive at the minimum rate while a thread waits for them."""

    waited_s = 0.0
    got = 0

    def readinto(self, buffer: Any) -> int | None:
        """Read the bytes that have arrived, or wait for some; return their number.

        Raises:
            TimeoutError: the client is too slow.
        """
        begun = time.monotonic()
        count = super().readinto(buffer)
        self.waited_s += time.monotonic() - begun
        self.got += count or 0
        if self.waited_s >= ARRIVAL_S:
            if self.got < LEAST_BYTES_S * self.waited_s:
                raise TimeoutError("the client sends too slowly")
            self.waited_s, self.got = 0.0, 0
        return count


class Reader(StreamReader):
    """cheroot's reader, on top of `Raw`."""

    def __init__(self, connection: socket.socket, mode: Any, size: int) -> None:
        super(StreamReader, self).__init__(Raw(connection, mode), size)
        self.bytes_read = 0


def _file(connection: socket.socket, mode: str, size: int) -> Any:
    return Reader(connection, mode, size) if "r" in mode else MakeFile(connection, mode, size)


class WatchedConnection(HTTPConnection):
    """A connection that tells its manager when its thread has finished with it.

    Attributes:
        since: the time at which the wait for its next request began, in monotonic seconds.
        upload: whether its request is one of the uploads in progress.
        waits: whether its next request has begun to arrive, or is its first.
    """

    since = 0.0
    upload = False
    waits = True

    def __init__(self, server: Any, connection: socket.socket, _makefile: Any = None) -> None:
        super().__init__(server, connection, _file)

    def communicate(self) -> bool:
        """Read a request and answer it; return whether the connection is kept."""
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]  # has no types
        finally:
            if self.upload:
                self.upload = False
                self.server.arrivals.upload_ended()

    def close(self) -> None:
        """Close the connection and its descriptor.

        cheroot leaves the writer open, and the writer keeps the descriptor until the garbage collector finds the connection, which is part
        of a cycle. An answer that could not be sent is then sent again, on a descriptor that is closed by then.
        """
        try:
            super().close()
        finally:
            with suppress(OSError):  # the answer could not be sent
                self.wfile.close()


class Manager(connections.ConnectionManager):
    """A manager of the connections that no thread works on.

    Args:
        server: cheroot's server.
        uploads: maximum number of concurrent uploads; it should be less than the server's threads.
    """

    def __init__(self, server: Any, uploads: int) -> None:
        super().__init__(server)
        self._selector: Any = self._selector
        self._lock = threading.Lock()
        self._free = uploads
        self._uploads: deque[WatchedConnection] = deque()

    def put(self, conn: WatchedConnection) -> None:
        """Keep a connection until its next request has arrived; close one that has sent more than its request."""
        if conn.rfile.has_data() and bytes(conn.rfile.peek(0)) != b"\r\n":  # cheroot leaves these two bytes of a chunked body
            conn.close()
            return
        conn.since, conn.waits = time.monotonic(), False
        conn.socket.settimeout(0)
        self._wait(conn, 1)

    def arrived(self, conn: WatchedConnection) -> None:
        """Handle a connection that is new or has become readable: give it to a thread, or wait for the rest of its request."""
        if not conn.since:
            conn.since = time.monotonic()
            conn.socket.settimeout(0)
        try:
            seen = conn.socket.recv(HEAD + BODY, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._wait(conn, 1)
            return
        except OSError:
            conn.close()
            return
        needed = missing(seen) if seen else 0
        if needed is None:
            self._upload(conn)
        elif needed <= len(seen) or _ended(conn.socket):
            self._process(conn)
        else:
            if not conn.waits:
                conn.since, conn.waits = time.monotonic(), True
            self._wait(conn, needed)

    def _process(self, conn: WatchedConnection) -> None:
        conn.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        conn.socket.settimeout(ARRIVAL_S if conn.upload else self.server.timeout)
        self.server.requests.put(conn)

    def _wait(self, conn: WatchedConnection, needed: int) -> None:
        try:
            conn.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
            self._selector.register(conn.socket.fileno(), selectors.EVENT_READ, data=conn)
        except (OSError, ValueError, KeyError):
            conn.close()

    def _upload(self, conn: WatchedConnection) -> None:
        conn.upload = True
        with self._lock:
            if self._free == 0:
                self._uploads.append(conn)
                return
            self._free -= 1
        self._process(conn)

    def upload_ended(self) -> None:
        """Start the next upload that waits."""
        with self._lock:
            self._free += 1
            if not self._uploads:
                return
            self._free -= 1
            conn = self._uploads.popleft()
        self._process(conn)

    def close(self) -> None:
        """Close all connections, including connections whose uploads wait for other uploads."""
        with self._lock:
            waiting = list(self._uploads)
            self._uploads.clear()
        for conn in waiting:
            conn.close()
        super().close()

    def _expire(self, threshold: float) -> None:
        """Close connections that were idle for too long, or whose requests take too long to arrive."""
        now = time.monotonic()
        waiting = [(fd, conn) for fd, conn in self._selector.connections if conn is not self.server]
        arriving = sorted((conn.since, fd) for fd, conn in waiting if conn.waits)
        spare = {fd for _since, fd in arriving[: max(0, len(arriving) - MOST_ARRIVING)]}
        for fd, conn in waiting:
            if fd in spare or now - conn.since > (ARRIVAL_S if conn.waits else self.server.timeout):
                self._selector.unregister(fd)
                conn.close()
        with self._lock:
            late = [conn for conn in self._uploads if now - conn.since > self.server.timeout]
            for conn in late:
                self._uploads.remove(conn)
        for conn in late:
            conn.close()

    @property
    def can_add_keepalive_connection(self) -> bool:
        """True if one more connection may be kept between two requests; those that wait for their first request are not included."""
        return sum(conn is not self.server and not conn.waits for _fd, conn in self._selector.connections) < MOST_IDLE


_TCP_CLOSE_WAIT = 8


def _ended(connection: socket.socket) -> bool:
    """Return whether the client has closed its side of a connection."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE_WAIT
