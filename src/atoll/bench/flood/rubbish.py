"""The junk requests of a flood, one for each kind of work that a request can cause in a gateway."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable


def _request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    length = (f"Content-Length: {len(body)}",) if body else ()
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: flood", *headers, *length, "", "")).encode() + body


def _forged() -> str:
    parts = ({"alg": "ES256", "typ": "JWT"}, {"sub": uuid.uuid4().hex, "exp": 2**40})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "." + "A" * 86


def _sign_in() -> bytes:
    user = {"name": "admin", "domain": {"id": "default"}, "password": uuid.uuid4().hex}
    body = json.dumps({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}).encode()
    return _request("POST", "/identity/v3/auth/tokens", "Content-Type: application/json", body=body)


KINDS: tuple[Callable[[], bytes], ...] = (
    lambda: _request("GET", "/compute/v2.1/servers/detail"),
    lambda: _request("GET", f"/compute/v2.1/servers/{uuid.uuid4()}", f"X-Auth-Token: {_forged()}"),
    lambda: _request("GET", f"/network/v2.0/{uuid.uuid4().hex}/{uuid.uuid4()}", f"X-Auth-Token: {uuid.uuid4().hex}"),
    lambda: _request("GET", "/image/v2/images", "X-Scope: {image: site-1}"),
    _sign_in,
    lambda: _request("GET", "/identity/v3"),
    lambda: _request("GET", "/compute/../../etc/passwd"),
    lambda: _request("GET", f"/{uuid.uuid4().hex}"),
    lambda: _request("GET", "/network/v2.0/networks", "X-Auth-Token: a", "X-Auth-Token: b"),
    lambda: _request("GET", f"/console/site-1/serial?token={uuid.uuid4()}", "Connection: Upgrade", "Upgrade: websocket"),
    lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + uuid.uuid4().bytes * 8,
    lambda: b"\0" * 512,
)
"""Functions that each return the bytes of a junk request; every call returns a different one."""

SLOW: tuple[bytes, ...] = (
    b"",
    b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: flood\r\n",
    b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: flood\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n1",
    b"POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: flood\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    b"PUT /image/v2/images/x/file HTTP/1.1\r\nHost: flood\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n1",
)
"""The bytes that a slow connection sends before it is held open."""
