"""Malformed and hostile requests, sent as raw bytes, which must not reach a service."""

import asyncio
import io
import ssl
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from gateway_cloud import Cloud, raw
from yarl import URL

from atoll.gateway.door.server import MAX_BODY
from atoll.mesh.certificates import authority

TRICKS = (
    "/compute/../identity/v3/users",
    "/compute/v2.1/../../identity/v3",
    "/compute/v2.1/./servers",
    "/compute/%2e%2e/identity/v3",
    "/%63ompute/v2.1",
    "/network/v2.0/networks/%61b",
    "/network/v2.0/networks/a%2Db",
    "/network/v2.0/%6eetworks",
    "/compute/v2.1/servers/%30",
    "/compute/v2.1/os-keypairs/a%5Fb",
    "/compute/%2E%2E/identity/v3",
    "/compute/.%2e/identity",
    "/compute%2f..%2fidentity/v3",
    "/compute/v2.1/servers%2Fdetail",
    "/compute/v2.1/servers/%5c..%5cidentity",
    "/compute/v2.1\\..\\identity",
    "/compute/v2.1/servers/a%00b",
    "/compute/v2.1/servers/a%0d%0aX-Roles:%20admin",
    "/compute/v2.1/servers/%252e%252e/x",
    "/compute//v2.1/servers",
    "//compute/v2.1/servers",
    "/compute/v2.1/servers/%zz",
    "/compute/v2.1/servers#fragment",
    "/scope/%7Bcompute:%20paris%7D/compute/%2e%2e/identity",
    "/scope/../identity/v3",
    "http://127.0.0.1:1/compute/v2.1/servers",
    "http://identity/v3",
    "*",
    "identity/v3",
)

UNKNOWN = (
    "/atoll/join",
    "/atoll/ping",
    "/atoll/images/x/chunks",
    "/metadata",
    "/scope/x/atoll/ping",
    "/computer/v2.1",
    "/COMPUTE/v2.1",
)


def run(directory: Path, test, *names: str) -> None:
    async def main() -> None:
        async with Cloud(directory, *(names or ("paris",))) as cloud:
            await test(cloud)

    asyncio.run(main())


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_targets_that_could_be_read_in_two_ways_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(cloud: Cloud) -> None:
        port = cloud["paris"].public_port
        for target in TRICKS:
            answer = await raw(port, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert status(answer) == 400, (target, answer)
        for target in UNKNOWN:
            answer = await raw(port, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert status(answer) == 404, (target, answer)
        assert not cloud["paris"].services.requests
        assert "refused from 127.0.0.1: GET '/compute/../identity/v3/users'" in caplog.text

    run(tmp_path, test)


SMUGGLED = b"GET /identity/v3/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

FRAMINGS = {
    "both": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 50\r\n\r\n",
    "two equal lengths": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 50\r\n\r\n",
    "a signed length": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
    "a negative length": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "an unknown coding": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunked is not last": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is no number": b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "a bare line feed": b"GET /compute/v2.1/servers HTTP/1.1\nHost: x\nX-A: b\n\n",
    "a bare carriage return": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nX-A: b\rX-Roles: admin\r\n\r\n",
    "a NUL": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nX-A: b\x00c\r\n\r\n",
    "two hosts": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a host that is none": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x/../y@z\r\n\r\n",
    "an upgrade": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an odd method": b"TRACE /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /compute/v2.1/servers\r\n\r\n",
    "a request of HTTP/2.0": b"GET /compute/v2.1/servers HTTP/2.0\r\nHost: x\r\n\r\n",
    "a page of HTTP/2.0": b"GET /console/vnc/vnc_lite.html HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a long header": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", sorted(FRAMINGS))
def test_messages_that_could_end_in_two_places_are_refused(tmp_path: Path, name: str) -> None:
    async def test(cloud: Cloud) -> None:
        answer = await raw(cloud["paris"].public_port, FRAMINGS[name] + SMUGGLED)
        assert status(answer) == 400, answer
        assert not [path for _method, path in cloud["paris"].services.requests if "smuggled" in path or path.startswith("/compute")]

    run(tmp_path, test)


def test_headers_of_gateways_are_dropped(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        said = {
            "X-Atoll-Hop": "1",
            "x-atoll-site": "lyon",
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-For": "1.2.3.4",
            "X_Forwarded_Prefix": "/evil",
            "Forwarded": "host=evil.example",
            "X_Auth_Token": "other",
            "Keep-Alive": "5",
            "X-Kept": "yes",
            "X-Listed": "no",
            "Connection": "keep-alive, X-Listed",
            "X-Openstack-Request-Id": "req-no\tid",
        }
        await cloud.ask("paris", "GET", "/identity/v3", headers=said)
        seen = {name.lower(): value for name, value in cloud["paris"].services.headers[0].items()}
        assert seen["x-forwarded-host"] == f"127.0.0.1:{cloud['paris'].public_port}"
        assert (seen["x-forwarded-prefix"], seen["x-forwarded-proto"], seen["x-kept"]) == ("/identity", "http", "yes")
        assert seen["x-openstack-request-id"].startswith("req-")
        assert "no" not in seen["x-openstack-request-id"][4:6]
        assert not {"x-atoll-hop", "x-atoll-site", "x-forwarded-for", "x_forwarded_prefix", "forwarded", "x_auth_token", "x-listed"} & set(
            seen
        )
        # The header of a hop is ignored: the answer is still the list of all sites.
        _, _, headers = await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers={"X-Atoll-Hop": "1"})
        assert headers["X-Atoll-Site"] == "paris,lyon"

    run(tmp_path, test, "paris", "lyon")


def test_bodies_have_an_end(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        path = "/compute/v2.1/servers"
        assert (await cloud.ask("paris", "POST", path, data=io.BytesIO(b"x" * (MAX_BODY + 1))))[0] == 413
        packed = await cloud.ask(
            "paris", "POST", "/identity/v3/auth/tokens", data=b"\x1f\x8b not gzip", headers={"Content-Encoding": "gzip"}
        )
        assert packed[0] == 200
        assert cloud["paris"].services.bodies == [b"\x1f\x8b not gzip"]  # the gateway decompresses nothing

    run(tmp_path, test)


def client_tls(directory: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if directory is not None:
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


async def ask_peer(cloud: Cloud, context: ssl.SSLContext, path: str, method: str = "GET") -> int:
    url = URL(f"https://127.0.0.1:{cloud['paris'].peer_port}{path}", encoded=True)
    async with aiohttp.ClientSession() as session, session.request(method, url, ssl=context) as response:
        return response.status


def test_peers_are_members(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        path = "/compute/v2.1/servers"
        assert await ask_peer(cloud, client_tls(cloud["lyon"].options.tls), path) == 200
        asked = len(cloud["paris"].services.requests)
        assert await ask_peer(cloud, client_tls(None), path) == 403
        assert await ask_peer(cloud, client_tls(None), "/atoll/ping") == 403
        assert await ask_peer(cloud, client_tls(None), "/atoll/join/") == 403
        assert await ask_peer(cloud, client_tls(None), "/atoll/join") == 403  # only a POST
        foreign = authority(tmp_path / "foreign", "other")
        foreign.certify(tmp_path / "mallory", "lyon", "127.0.0.1")
        with pytest.raises(aiohttp.ClientError):
            await ask_peer(cloud, client_tls(tmp_path / "mallory"), path)
        # A certificate of the right authority that belongs to no member.
        authority(tmp_path / "ca", "test").certify(tmp_path / "stranger", "lyon", "127.0.0.1")
        assert await ask_peer(cloud, client_tls(tmp_path / "stranger"), path) == 403
        for trick in ("/compute/%2e%2e/identity", "/scope/x/compute/v2.1", "/"):
            assert await ask_peer(cloud, client_tls(cloud["lyon"].options.tls), trick) in {400, 404}
        assert len(cloud["paris"].services.requests) == asked

    run(tmp_path, test, "paris", "lyon")


def test_a_revoked_site_is_refused_on_connections_it_has(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        url = f"https://127.0.0.1:{cloud['paris'].peer_port}/compute/v2.1/servers"
        async with aiohttp.ClientSession() as session:
            context = client_tls(cloud["lyon"].options.tls)
            async with session.get(url, ssl=context) as response:
                assert response.status == 200
                await response.read()
            cloud.set_state("lyon", "revoked")
            async with session.get(url, ssl=context) as response:
                assert response.status == 403
        server = cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}"))[0] == 404
        assert not cloud["lyon"].services.requests  # no site sends it a request either

    run(tmp_path, test, "paris", "lyon")


def test_a_peer_shows_the_certificate_that_it_is_known_by(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        server = cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        table = cloud["paris"].mesh.table
        # nice answers in place of lyon: it is a member, but another one.
        table["lyon"] = replace(table["lyon"], peer_port=cloud["nice"].peer_port)
        status_, _, headers = await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}")
        assert (status_, headers["X-Atoll-Missing"]) == (503, "lyon")

    run(tmp_path, test, "paris", "lyon", "nice")
