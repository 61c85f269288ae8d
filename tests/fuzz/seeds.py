"""Where fuzzing begins: an input of each kind that means something."""

from __future__ import annotations

_ID = "5b5b5b5b-0000-4000-8000-000000000000"

_UPLOAD = (
    f"PUT /image/v2/images/{_ID}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\nTransfer-Encoding: chunked\r\n"
    "Content-Type: application/octet-stream\r\n\r\n4\r\ndata\r\n0\r\n\r\n"
)

_CONSOLE = (
    f"GET /console/paris/serial?token={_ID} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

_REQUESTS = (
    "GET /compute/v2.1/servers/detail?limit=2&marker=x HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\n\r\n",
    'POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"server": {}}',
    _UPLOAD,
    "POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "GET /scope/compute:lyon,image:paris/compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nX-Scope: {compute: paris & lyon}\r\n\r\n",
    _CONSOLE,
    "GET /console/vnc/vnc_lite.html HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: X-A\r\nX-A: 1\r\n\r\nGET /network/v2.0/ports HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /atoll/join HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "GET /atoll/ping HTTP/1.1\r\nHost: x\r\nX-Atoll-Hop: 1\r\nX-Roles: admin\r\nX_Auth_Token: a\r\n\r\n",
)

_LINES = (
    f"\x00/compute/v2.1/servers/{_ID}/action?x=y\nX-Auth-Token: t\nOpenStack-API-Version: compute 2.53\n\n{{}}",
    f'\x01/network/v2.0/subnets\nA: b\n\n{{"subnet": {{"network_id": "{_ID}", "availability_zone_hints": ["paris"]}}}}',
    "\x00/scope/%7Bcompute:%20paris%7D/image/v2/images?limit=3&sort=name:asc\nConnection: close\n\n",
    "\x03/compute/v2.1/os-keypairs/laptop?user_id=x\nX-OpenStack-Nova-API-Version: 2.10\n\n",
)

_JSON = (
    '{"server": {"imageRef": "http://x/i", "flavorRef": "1", "key_name": "k", "networks": [{"uuid": "n"}], "metadata": {"a": "b"}}}',
    '{"subnet": {"network_id": "../x?y#z%2f", "cidr": "10.0.0.0/24", "ip_version": 4}}',
    '{"subnets": [{"network_id": "n", "availability_zone_hints": ["paris", 1]}]}',
    '{"id": "auto", "name": "i"}',
)

_SCOPES = ("{image: paris & lyon}", "compute:lyon;image:near(paris, 10ms)", "{*: paris | lyon, network: !nice}", "paris%lyon")

_URLS = (
    f"paris/serial?token={_ID}",
    "token=a&token=b",
    "vnc/core/rfb.js",
    '{"remote_console": {"url": "http://x/console/paris/vnc?token=a"}}',
)


def of(name: str) -> list[bytes]:
    """The inputs from which the fuzzing of a target begins."""
    if name in {"public", "peer"}:
        return [bytes([size]) + each.encode() for each in _REQUESTS for size in (0, 255)]
    texts = {"request": _LINES, "scope": _SCOPES, "consoles": _URLS, "json": _JSON, "arrivals": _REQUESTS}.get(name, ("../x", "a"))
    return [each.encode("utf-16" if name == "segments" else "latin-1") for each in texts]
