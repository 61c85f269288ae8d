"""Records the HTTP requests that a service sends.

Replaced: `requests.Session.send`, by which keystoneauth's sessions and all of OpenStack's clients send requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry.trace import SpanKind

from atoll.trace import names, propagation, sampling, spans
from atoll.trace.attributes import PEER_SERVICE
from atoll.trace.recorder import Recorder


def install() -> None:
    """Replace the function that the module's description names; a second call in one process has no effect."""
    original = requests.Session.send
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if sampling.installed() is None:
            return original(self, request, **options)
        current = sampling.sampled()
        if current is None:
            request.headers.update(propagation.outgoing())
            return original(self, request, **options)
        name, attributes = describe(current, request.method or "", request.url or "")
        with spans.span(current, name, SpanKind.CLIENT, attributes) as hop:
            request.headers.update(propagation.outgoing())
            hop.sizes(_sent(request), None)
            response = original(self, request, **options)
            hop.status(response.status_code)
            hop.sizes(None, _received(response, whole=not options.get("stream")))
            return response

    requests.Session.send = send  # type: ignore[method-assign]  # wraps it


def describe(current: Recorder, method: str, url: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of a request.

    Args:
        current: the recorder.
        method: the HTTP method of the request.
        url: the URL of the request.
    """
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    attributes: dict[str, Any] = {"http.request.method": method, "server.address": address, "url.path": names.safe_path(parts.path)}
    if parts.query:
        attributes["url.query"] = names.safe_query(parts.query)
    peers = current.identity.peers or {}
    if address in peers:
        attributes[PEER_SERVICE] = peers[address]
    return names.http(method, names.plain(parts.path)), attributes


def _sent(request: requests.PreparedRequest) -> int:
    head = len(request.method or "") + len(request.path_url) + 12
    body = request.body
    if isinstance(body, str):
        body = body.encode()
    size = len(body) if isinstance(body, bytes | bytearray) else int(request.headers.get("Content-Length") or 0)
    return head + head_size(request.headers) + size


def _received(response: requests.Response, *, whole: bool) -> int:
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else len(response.content) if whole else 0
    return head_size(response.headers) + size + 17


def head_size(headers: Mapping[str, str | bytes]) -> int:
    """Return the size of headers as lines of HTTP, in bytes."""
    return sum(len(name) + len(value) + 4 for name, value in headers.items())
