"""cheroot's own server, for tests of how upstream behaves without patches."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cheroot.server
import cheroot.wsgi

PATIENCE_S = 20


@contextmanager
def plain_server(application: Any, threads: int) -> Iterator[tuple[str, int]]:
    """Serve an application with upstream's server, and yield the server's address.

    cheroot leaves a connection's writer open. From Python 3.13, the garbage collector reports a writer whose answer can no longer be sent
    as an exception, in whichever test runs then. So the writers are closed here.
    """
    made: list[cheroot.server.HTTPConnection] = []

    class Recorded(cheroot.server.HTTPConnection):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    server = cheroot.wsgi.Server(("127.0.0.1", 0), application, numthreads=threads, max=threads)
    server.ConnectionClass = Recorded
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server.bind_addr
    finally:
        server.stop()
        thread.join(PATIENCE_S)
        for connection in made:
            with suppress(OSError):  # the client of an answer has gone
                connection.wfile.close()
