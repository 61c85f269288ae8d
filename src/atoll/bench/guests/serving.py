"""An HTTP server for a file that guests fetch from outside their site."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from atoll.wan.isolation import within


@contextmanager
def served(file: Path, network: int, address: str) -> Iterator[str]:
    """Serve a file over HTTP.

    Args:
        file: the file, which is served at every path.
        network: a descriptor of the namespace to serve in.
        address: the address to listen on.

    Yields:
        The URL of the file.
    """
    content = file.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with within(network, lambda: ThreadingHTTPServer((address, 0), Handler)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{address}:{server.server_port}/{file.name}"
        finally:
            server.shutdown()
