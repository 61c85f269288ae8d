"""The seeds of the fuzzer: one valid input of each kind."""

from __future__ import annotations

import dns.message
from metadata import GUEST, SIGNATURE

from atoll.bus.frames import Answer, Heartbeat, Instance, MessageId, Question, Reply, Request, Status, encode
from atoll.mesh.envelope import Channel
from atoll.mesh.probes import ProbeMessage
from atoll.mesh.swim import News, PeerState, Ping
from atoll.mesh.vivaldi import Coordinate

ENTRIES = 7
"""The kind of an input for the mesh that has entries of a member; see `members.MeshPort`."""

_ID = "5b5b5b5b-0000-4000-8000-000000000000"

_UPLOAD = (
    f"PUT /image/v2/images/{_ID}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\nTransfer-Encoding: chunked\r\n"
    "Content-Type: application/octet-stream\r\n\r\n4\r\ndata\r\n0\r\n\r\n"
)

_CONSOLE = (
    f"GET /console/paris/serial?token={_ID} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

_NEAREST = (
    "POST /simple-edge-discovery/v2/retrieve-closest-edge-cloud-zone HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nx-correlator: a\r\n"
    'Content-Type: application/json\r\nContent-Length: 43\r\n\r\n{"device":{"ipv6Address":"2001:db8:0:1::"}}'
)

_OPTIMAL = (
    "POST /optimal-edge-discovery/v0.1/retrieve-optimal-edge-cloud-zones HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\n"
    'Content-Type: application/json\r\nContent-Length: 63\r\n\r\n{"applicationProfileId":"0a0a0a0a-0000-4000-8000-000000000001"}'
)

_ENDPOINTS = (
    "POST /application-endpoint-discovery/v0.1/retrieve-optimal-app-endpoints HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\n"
    'Content-Type: application/json\r\nContent-Length: 48\r\n\r\n{"appId":"0a0a0a0a-0000-4000-8000-000000000001"}'
)

_APPS = (
    "GET /edge-application-management/v0.1alpha1/appinstances?appId=0a0a0a0a-0000-4000-8000-000000000001&region=r HTTP/1.1\r\n"
    "Host: x\r\nX-Auth-Token: t\r\n\r\n"
)

_ZONES = "GET /edge-application-management/v0.1alpha1/edge-cloud-zones?status=active HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\n\r\n"

_MANIFEST = (
    '{"name":"map","appProvider":"Provider1","version":"1","packageType":"QCOW2","appRepo":{"type":"PUBLICREPO","imagePath":"urn:uuid:'
    '0a0a0a0a-0000-4000-8000-000000000001"},"requiredResources":{"infraKind":"virtualMachine","numCPU":1,"memory":9},"componentSpec":[]}'
)
_SUBMISSION = (
    "POST /edge-application-management/v0.1alpha1/apps HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(_MANIFEST)}\r\n\r\n{_MANIFEST}"
)

_CONTEXT = (
    "PUT /dev_app/v1/app_contexts/0a0a0a0a000040008000000000000001 HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\n"
    "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
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
    _NEAREST,
    _OPTIMAL,
    _ENDPOINTS,
    _APPS,
    _CONTEXT,
    _ZONES,
    _SUBMISSION,
    "POST /atoll/join HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "GET /atoll/ping HTTP/1.1\r\nHost: x\r\nX-Atoll-Hop: 1\r\nX-Roles: admin\r\nX_Auth_Token: a\r\n\r\n",
)

_SIGNED = f"X-Instance-ID: {GUEST}\r\nX-Tenant-ID: p\r\nX-Instance-ID-Signature: {SIGNATURE}\r\nX-Forwarded-For: 10.0.0.5\r\n"

_METADATA = (
    f"GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: x\r\n{_SIGNED}\r\n",
    f"GET /latest/user-data HTTP/1.0\r\nX-Instance-ID: {GUEST}\r\nX-Tenant-ID: p\r\nX-Instance-ID-Signature: 00\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /latest HTTP/1.1\r\nHost: x\r\nX-Metadata-Provider: n\r\n\r\n",
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

_BODIES = (
    '{"id": "00", "request": "-----BEGIN CERTIFICATE REQUEST-----", "proof": "AAAA", "card": {"host": "127.0.0.2", "public_port": 1}}',
    '{"id": "x", "request": "", "proof": "", "card": null}',
    '{"id": "x", "request": "", "proof": "", "card": ' + "[" * 1020 + "]" * 1020 + "}",
)


def _of_mesh() -> list[bytes]:
    probe = ProbeMessage(Ping(1, (News("paris", PeerState.SUSPECT, 3),)), Coordinate(), b"digest--", 1_700_000_000_000).encode()
    entries = (
        b'identity.user/u\0{"present":[117964800000000,true],"name":[117964800000000,"ann"]}\0member/lyon\0{"left":[117964800000000,true]}'
    )
    said = (b"\x92\x01\x80", b"\x93\x01\x81\xa5paris\x93\x01\x01\xc4\x00\xc3", b"\x91\x04", b"\x95\x03\x01\x00\x05\xc4\x01a")
    vouchers = (
        b'{"former": {"name": "nice"}}',
        b'[{"card": {"name": "nice"}, "by": "lyon", "stamp": 1, "signature": "AAAA"}]',
        b"[" * 2000,
    )
    kinds = {Channel.PROBE: (probe,), Channel.SYNC: said, Channel.WHO: (b"paris",), Channel.VOUCH: vouchers}
    made = [bytes([kind]) + each for kind, inputs in kinds.items() for each in inputs]
    return [*made, b"\0" + bytes(60), bytes([ENTRIES]) + entries]


def _of_bus() -> list[bytes]:
    message = MessageId(77, 1)
    kinds = (
        Request(message, 1, True, 1, 5, b'[{"user": "ann"}, {"method": "m", "args": {}}]'),
        Request(message, 0, False, 1, 0, b" [{}, {}]"),
        Question(message, 1, Instance(1, 1)),
        Answer(message, Status.TAKEN, Instance(1, 1)),
        Reply(message, True, b'" "'),
        Heartbeat(message),
    )
    return [*map(encode, kinds), b"v/rpc/e/t/l/name/000000000000004d/1", b"000000000000004d/rpc/e/t"]


def _of_names() -> list[bytes]:
    kinds = (("web.cloud.", "A"), ("5.0.0.10.in-addr.arpa.", "PTR"), ("web", "AAAA"), ("x.example.", "ANY"))
    return [dns.message.make_query(*each).to_wire() for each in kinds]


_MADE = {"mesh": _of_mesh, "bus": _of_bus, "names": _of_names}


def of(name: str) -> list[bytes]:
    """Return the inputs from which the fuzzing of a target begins."""
    if name in {"public", "peer"}:
        return [bytes([size]) + each.encode() for each in _REQUESTS for size in (0, 255)]
    if name in _MADE:
        return _MADE[name]()
    texts = {
        "join": _BODIES,
        "request": _LINES,
        "scope": _SCOPES,
        "consoles": _URLS,
        "json": _JSON,
        "arrivals": _REQUESTS,
        "metadata": _METADATA,
    }.get(name, ("../x", "a"))
    return [each.encode("utf-16" if name == "segments" else "latin-1") for each in texts]
