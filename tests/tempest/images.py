"""A local web server with the two images that Tempest makes Glance download."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MIB = 2**20


def qcow2(clusters: int = 4) -> bytes:
    """Return an empty QCOW2 image of version 3 with a virtual size of 1 MiB.

    See https://www.qemu.org/docs/master/interop/qcow2.html: only the header is read, the tables are zero.
    """
    size = 1 << 16
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb", 3, 0, 0, 16, MIB, 0, 1, 3 * size, size, 1, 0, 0,
    )  # fmt: skip
    header += struct.pack(">QQQII", 0, 0, 0, 4, 104)
    return header.ljust(clusters * size, b"\0")


IMAGES = {"/raw": bytes(MIB), "/qcow2": qcow2()}


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        image = IMAGES.get(self.path.partition("#")[0])
        self.send_response(404 if image is None else 200)
        self.send_header("Content-Length", str(len(image or b"")))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if self.command == "GET" and image:
            self.wfile.write(image)

    def log_message(self, *_arguments: object) -> None:
        """Suppress the log of requests."""


@contextmanager
def serve_images() -> Iterator[str]:
    """Run the server during the context, and yield its URL, `http://127.0.0.1:PORT`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
