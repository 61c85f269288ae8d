"""Attacks on the public and the peer ports: endless bodies, repeated headers, revealing answers, ids with slashes."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from deployment import Deployment, until
from three_sites import SITES, Tenant

from atoll.namespaces import Namespace
from atoll.wan.isolation import within

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""

SLOW = 200
"""Number of connections that an attacker holds."""


def connect(cloud: Deployment, site: str, port: str, source: str = "127.0.0.9") -> socket.socket:
    """Connect inside a site's network, from an address of the attacker's own."""
    settings = cloud.settings(site)
    namespace: Namespace = cloud.wan().namespace(site)

    def dial() -> socket.socket:
        made = socket.socket()
        made.settimeout(10)
        made.bind((source, 0))
        made.connect((settings.host, settings.ports[port]))
        return made

    network = os.open(namespace.network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return within(network, dial)
    finally:
        os.close(network)


def ask(cloud: Deployment, site: str, request: bytes, port: str = "gateway", source: str = "127.0.0.9") -> bytes:
    """Return a port's answer to a request of raw bytes."""
    with connect(cloud, site, port, source) as made:
        made.sendall(request)
        answer = b""
        while piece := made.recv(65536):
            answer += piece
        return answer


@contextmanager
def held(cloud: Deployment, site: str, port: str, data: bytes, count: int = SLOW) -> Iterator[list[socket.socket]]:
    """Hold connections, each of which has sent `data`, and which the port has accepted or refused."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            try:
                made.append(stack.enter_context(connect(cloud, site, port)))
                made[-1].sendall(data)
            except OSError:
                continue  # a refusal is correct too
        until(lambda: not waiting(cloud, site, port), f"{site} has accepted or refused the connections", 60)
        yield made


def waiting(cloud: Deployment, site: str, port: str) -> int:
    """Return the number of connections that a port has not accepted yet: of a listening socket, the length of the receive queue."""
    number = cloud.settings(site).ports[port]
    network = os.open(cloud.wan().namespace(site).network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lines = within(network, lambda: Path("/proc/thread-self/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    finally:
        os.close(network)
    rows = [line.split() for line in lines]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[3] == LISTEN and int(row[1].partition(":")[2], 16) == number)


def slowest_s(tenant: Tenant, sites: tuple[str, ...] = SITES) -> float:
    """Return the longest duration of a few honest requests at all sites, in seconds."""
    slowest = 0.0
    for site in sites:
        api = tenant.api(site)
        for service, path in (("compute", "/flavors"), ("network", "/v2.0/networks"), ("image", "/v2/images"), ("identity", "/")):
            begun = time.monotonic()
            assert api.call(service, "GET", path).ok
            slowest = max(slowest, time.monotonic() - begun)
    return slowest


def body(path: str, scope: str = "", length: int = 1_000_000, kind: str = "application/octet-stream") -> bytes:
    said = f"X-Scope: {{compute: {scope}, image: {scope}, network: {scope}}}\r\n" if scope else ""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{said}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n1"
    return head.encode()


BODIES = {
    "nothing": b"",
    "half a head": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\n",
    "a body of compute": body("/compute/v2.1/servers"),
    "a small body of compute": body("/compute/v2.1/servers", length=1000, kind="application/json"),
    "a body of network at metz": body("/network/v2.0/networks", "metz", 1000),
    "a sign-in": body("/identity/v3/auth/tokens", length=1000, kind="application/json"),
    "an image's data": body("/image/v2/images/5b5b5b5b-0000-4000-8000-000000000000/file", "metz").replace(b"POST", b"PUT", 1),
}


@pytest.mark.parametrize("name", sorted(BODIES))
def test_two_hundred_slow_connections_stop_no_site(cloud, victim, name):
    with held(cloud, "brest", "gateway", BODIES[name]):
        assert slowest_s(victim) < 5


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_two_hundred_connections_at_the_peer_port_stop_no_site(cloud, victim, data):
    with held(cloud, "brest", "peer", data):
        made = victim.api("metz").call("network", "GET", "/v2.0/networks")
        assert made.ok
        assert "x-atoll-missing" not in {name.lower() for name in made.headers}
        assert slowest_s(victim) < 5


def test_a_users_own_slow_uploads_stop_nobody_else(cloud, victim, attacker):
    api = attacker.api("brest")
    image = api.expect("image", "POST", "/v2/images", {"name": "x", "disk_format": "raw", "container_format": "bare"})["id"]
    data = (
        body(f"/image/v2/images/{image}/file")
        .replace(b"POST", b"PUT", 1)
        .replace(b"Host", f"X-Auth-Token: {api.token}\r\nHost".encode(), 1)
    )
    with held(cloud, "brest", "gateway", data, 60):
        assert slowest_s(victim, ("brest",)) < 5


def test_two_tokens_in_one_request_are_refused(cloud, victim, attacker):
    mine, theirs = attacker.api("brest").token, victim.api("brest").token
    for first, second in ((mine, theirs), (theirs, mine), (mine, mine)):
        for name in ("X-Auth-Token", "x-auth-token"):
            head = f"DELETE /compute/v2.1/os-keypairs/laptop HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {first}\r\n{name}: {second}\r\n"
            assert ask(cloud, "brest", f"{head}Connection: close\r\n\r\n".encode()).split()[1] == b"400"


def test_a_forged_token_names_no_user_whose_key_pair_is_deleted_later(cloud, victim, attacker):
    """The site that was cut off keeps the victim's key pair: the pending operation concerns the attacker alone."""
    name = f"laptop-{uuid4().hex[:6]}"
    for tenant in (victim, attacker):
        tenant.api("metz").expect("compute", "POST", "/os-keypairs", {"keypair": {"name": name}})
    for tenant in (victim, attacker):
        until(lambda tenant=tenant: tenant.api("metz").call("compute", "GET", f"/os-keypairs/{name}").ok, "the key pair", 30)
    cloud.wan().cut("metz")
    try:
        api = attacker.api("brest")
        api.call("compute", "DELETE", f"/os-keypairs/{name}?user_id={victim.user}")
        api.call("compute", "DELETE", f"/os-keypairs/{name}?x_user_id={victim.user}")
    finally:
        cloud.wan().heal()
    until(lambda: not json.loads(cloud.atoll("pending", "--site", "brest", "--json"))["pending"], "what waits is done", 90)
    assert victim.api("metz").call("compute", "GET", f"/os-keypairs/{name}", headers={"X-Scope": "{compute: metz}"}).ok


def test_nobody_hides_a_network_from_its_owner_by_asking_without_a_token(cloud, victim):
    made = victim.api("metz").expect("network", "POST", "/v2.0/routers", {"router": {"name": "r"}})["router"]
    path = f"/network/v2.0/routers/{made['id']}"
    for head in ("", "X-Auth-Token: x\r\n"):
        for method in ("GET", "PUT", "DELETE"):
            answer = ask(cloud, "brest", f"{method} {path} HTTP/1.1\r\nHost: x\r\n{head}Connection: close\r\n\r\n".encode())
            assert answer.split()[1] == b"401", answer
    assert victim.api("brest").call("network", "GET", f"/v2.0/routers/{made['id']}").status == 200


def test_an_image_of_a_servers_id_hides_no_server(cloud, victim, attacker):
    made = victim.api("metz").expect("network", "POST", "/v2.0/routers", {"router": {"name": "r"}})["router"]
    wanted = {"name": "x", "id": made["id"], "disk_format": "raw", "container_format": "bare"}
    attacker.api("brest").call("image", "POST", "/v2/images", wanted)
    attacker.api("brest").call("image", "GET", f"/v2/images/{made['id']}")
    assert victim.api("brest").call("network", "GET", f"/v2.0/routers/{made['id']}").status == 200


@pytest.mark.parametrize("hostile", ["../../../compute/v2.1/servers?a=", "x?y#z%2f", "..", "a b", "x HTTP/1.1\r\nX: y", "é", "\ud800"])
def test_an_id_of_a_body_leaves_its_place_in_no_path(cloud, attacker, hostile):
    api = attacker.api("brest")
    since = cloud.logs()
    answer = api.call("network", "POST", "/v2.0/subnets", {"subnet": {"network_id": hostile, "cidr": "10.0.0.0/24", "ip_version": 4}})
    assert 400 <= answer.status < 500
    assert not cloud.trouble(since)


def test_nobody_says_who_he_is_by_headers(cloud, victim):
    said = "X-Identity-Status: Confirmed\r\nX-Roles: admin\r\nX-User-Id: x\r\nX-Project-Id: y\r\nX-Is-Admin-Project: True\r\n"
    for site in SITES:
        for path in ("/compute/v2.1/servers", "/network/v2.0/networks", "/image/v2/images", "/placement/resource_providers"):
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\n{said}X_Auth_Token: {victim.api(site).token}\r\nConnection: close\r\n\r\n"
            assert ask(cloud, site, head.encode(), source=f"127.0.0.{SITES.index(site) + 10}").split()[1] == b"401"


def test_rubbish_is_refused_and_leaves_no_traceback(cloud, victim):
    since = cloud.logs()
    for data in (b"\x16\x03\x01\x02\x00", b"\0" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000 + b"\r\n\r\n"):
        for _ in range(30):
            try:
                ask(cloud, "brest", data + b"\r\n\r\n")
            except OSError:
                continue
    assert slowest_s(victim, ("brest",)) < 5
    assert not cloud.trouble(since, "brest")
