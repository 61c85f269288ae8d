"""Headers that a service might read differently from the gateway, and headers that name the user to a service."""

import asyncio
import base64
import json
import ssl
import time
from pathlib import Path

import aiohttp
import jwt
import pytest
from gateway_cloud import Cloud, Services, raw
from keystonemiddleware.auth_token._request import _AuthTokenRequest
from multidict import CIMultiDict
from token_issuer import Issuer

from atoll.gateway.copies.draft import of_user
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Call
from atoll.gateway.request.requester import Requester
from atoll.gateway.request.target import Refused
from atoll.gateway.request.token_verifier import TokenVerifier


def run(directory: Path, test, *names: str) -> None:
    async def main() -> None:
        async with Cloud(directory, *(names or ("paris",))) as cloud:
            await test(cloud)

    asyncio.run(main())


SINGLE = (
    *("X-Auth-Token", "X-Subject-Token", "X-Service-Token", "X-Storage-Token", "X-Openstack-Request-Id", "X-Scope", "Authorization"),
    *("Content-Type", "Content-Range", "Range", "If-Range", "User-Agent", "X-OpenStack-Nova-API-Version", "X-Anything-Else", "Origin"),
)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("second", [str, str.lower, str.upper])
def test_a_header_of_one_value_is_not_said_twice(tmp_path: Path, name: str, second) -> None:
    async def test(cloud: Cloud) -> None:
        head = f"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{name}: a\r\n{second(name)}: a\r\n\r\n"
        answer = await raw(cloud["paris"].public_port, head.encode())
        assert answer.split(b" ", 2)[1] == b"400", answer
        assert not cloud["paris"].services.requests

    run(tmp_path, test)


@pytest.mark.parametrize("name", ["Accept", "OpenStack-API-Version", "Via", "If-None-Match", "Cache-Control"])
def test_a_list_said_in_parts_is_one_list(tmp_path: Path, name: str) -> None:
    async def test(cloud: Cloud) -> None:
        head = f"GET /identity/v3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{name}: a\r\n{name.upper()}: b\r\n\r\n"
        assert (await raw(cloud["paris"].public_port, head.encode())).startswith(b"HTTP/1.1 200")
        assert CIMultiDict(cloud["paris"].services.headers[0])[name] == "a, b"

    run(tmp_path, test)


def told_by_keystone() -> set[str]:
    """Return the headers by which keystonemiddleware names the user to a service."""
    told = {name % prefix for name in _AuthTokenRequest._HEADER_TEMPLATE for prefix in ("", "-Service")}
    told |= {_AuthTokenRequest._ROLES_TEMPLATE % prefix for prefix in ("", "-Service")}
    told |= set(_AuthTokenRequest._DEPRECATED_HEADER_MAP)
    fixed = ("_USER_STATUS_HEADER", "_SERVICE_STATUS_HEADER", "_ADMIN_PROJECT_HEADER", "_SYSTEM_SCOPE_HEADER", "_SERVICE_CATALOG_HEADER")
    return told | {getattr(_AuthTokenRequest, name) for name in fixed}


def test_nobody_says_who_he_is_by_the_headers_of_the_middleware(tmp_path: Path) -> None:
    said = dict.fromkeys(told_by_keystone(), "admin") | {"Proxy": "http://evil.example"}
    assert len(said) > 25

    async def test(cloud: Cloud) -> None:
        kept = {"X-Auth-Token": "t", "X-Service-Token": "s", "X-Kept": "yes"}
        await cloud.ask("paris", "GET", "/identity/v3", headers=said | kept)
        seen = {name.lower(): value for name, value in cloud["paris"].services.headers[0].items()}
        assert not {name.lower() for name in said} & set(seen)
        assert (seen["x-auth-token"], seen["x-service-token"], seen["x-kept"]) == ("t", "s", "yes")

    run(tmp_path, test)


def test_a_peer_may_not_say_them_either(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls = cloud["lyon"].options.tls
        context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
        url = f"https://127.0.0.1:{cloud['paris'].peer_port}/identity/v3"
        headers = {"X-Roles": "admin", "X_Auth_Token": "other", "X-Auth-Token": "t", "X-Atoll-Hop": "1", "X-Forwarded-Host": "paris:8080"}
        async with aiohttp.ClientSession() as session:
            async with session.get(url, headers=headers, ssl=context) as answer:
                assert answer.status == 200
            seen = {name.lower(): value for name, value in cloud["paris"].services.headers[0].items()}
            assert (seen["x-auth-token"], seen["x-forwarded-host"]) == ("t", "paris:8080")
            assert not {"x-roles", "x_auth_token", "x-atoll-hop"} & set(seen)
            twice = CIMultiDict((("X-Auth-Token", "a"), ("X-Auth-Token", "b")))
            async with session.get(url, headers=twice, ssl=context) as answer:
                assert answer.status == 400
        assert len(cloud["paris"].services.requests) == 1

    run(tmp_path, test, "paris", "lyon")


def test_the_token_that_swift_knows_is_the_token() -> None:
    """Pass on `X-Storage-Token` as keystonemiddleware reads it: only if there is no `X-Auth-Token`."""
    kept = heads.of_client(CIMultiDict({"X-Storage-Token": "t"}))
    assert dict(kept) == {"X-Auth-Token": "t"}
    kept = heads.of_client(CIMultiDict({"X-Storage-Token": "s", "X-Auth-Token": "t"}))
    assert dict(kept) == {"X-Auth-Token": "t"}
    with pytest.raises(Refused):
        heads.of_client(CIMultiDict((("X-Storage-Token", "s"), ("X-Storage-Token", "t"))))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"OpenStack-API-Version": "compute 2.53"}, (2, 53)),
        ({"OpenStack-API-Version": "volume 3.1, compute 2.53"}, (2, 53)),
        ({"OpenStack-API-Version": "compute 2.1, compute 2.53"}, (2, 53)),
        ({"OpenStack-API-Version": "Compute 2.53,volume 3.1"}, (2, 53)),
        ({"OpenStack-API-Version": "compute latest"}, (999, 0)),
        ({"OpenStack-API-Version": "volume 3.1", "X-OpenStack-Nova-API-Version": "2.60"}, (2, 60)),
        ({"OpenStack-API-Version": "compute 2.53", "X-OpenStack-Nova-API-Version": "2.60"}, (2, 53)),
        ({"X-OpenStack-Nova-API-Version": "2.1,2.60"}, (2, 60)),
        ({"OpenStack-API-Version": "2.53"}, (2, 1)),
        ({}, (2, 1)),
    ],
)
def test_a_microversion_is_what_nova_takes_it_for(said: dict[str, str], expected: tuple[int, int]) -> None:
    import microversion_parse

    headers = CIMultiDict(said)
    assert heads.microversion(headers) == expected
    nova = microversion_parse.get_version(headers, "compute", ["X-OpenStack-Nova-API-Version"])
    assert {"latest": (999, 0), None: (2, 1)}.get(nova) == expected or nova == f"{expected[0]}.{expected[1]}"


def forged(user: str, algorithm: str = "ES256") -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, {"sub": user, "exp": 2**40})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".eA"


def test_a_user_is_known_by_a_token_that_a_site_has_signed(tmp_path: Path) -> None:
    paris, lyon = Issuer(tmp_path, "public"), Issuer(tmp_path, "lyon")
    (tmp_path / "broken.pem").write_text("no key")
    callers = TokenVerifier(tmp_path)
    assert [callers.user(each.token("ann")) for each in (paris, lyon)] == ["ann", "ann"]
    assert callers.user(paris.token("ann", ahead_s=300)) == "ann"
    wrong = ("", "x", "a.b.c", forged("ann"), forged("ann", "none"), paris.token("ann", -5), paris.token("ann")[:-8] + "AAAAAAAA", "é" * 9)
    assert [callers.user(each) for each in wrong] == [""] * len(wrong)
    assert callers.user(jwt.encode({"sub": ["ann"], "exp": 2**40}, paris.key, algorithm="ES256")) == ""
    assert callers.user(jwt.encode({"sub": "ann"}, paris.key, algorithm="ES256")) == ""


def test_the_site_that_has_issued_a_token_is_known(tmp_path: Path) -> None:
    paris, lyon = Issuer(tmp_path, "public"), Issuer(tmp_path, "lyon")
    callers = TokenVerifier(tmp_path)
    tokens = [each.token("ann") for each in (paris, lyon)] + [forged("ann")]
    assert [callers.issuer(each) for each in tokens] == ["", "", ""], "a token whose signature was not checked has no issuer"
    assert [callers.user(each) for each in tokens] == ["ann", "ann", ""]
    assert [callers.issuer(each) for each in tokens] == ["", "lyon", ""]


def test_entries_of_another_site_are_fetched_before_a_request_is_handled(tmp_path: Path) -> None:
    class Noted:
        def __init__(self, services: Services) -> None:
            self.followed: list[tuple[str, str]] = []
            self._services = services

        async def follow(self, site: str, digest: str) -> None:
            self.followed.append((site, digest))
            assert not self._services.requests, "the fetch must come before any request to a service"

        follow_token = follow

    async def test(cloud: Cloud) -> None:
        lyon = Issuer(cloud["paris"].options.token_keys, "lyon")
        noted = {name: Noted(cloud[name].services) for name in ("paris", "lyon")}
        for name, each in noted.items():
            cloud[name].server._freshness = each
        cloud["paris"].digest = "0123456789abcdef"
        token, server = lyon.token("ann"), cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        headers = {"X-Auth-Token": token, "X-Atoll-Seen": "said by a client"}
        assert (await cloud.ask("paris", "GET", f"/compute/v2.1/servers/{server}", headers=headers))[0] == 200
        assert noted["paris"].followed == [("lyon", token)], "expected a fetch from the issuer of the token"
        assert noted["lyon"].followed == [("paris", "0123456789abcdef")], "expected a fetch from the site that sent the request"
        assert not any("Seen" in name for each in cloud["lyon"].services.headers for name in each)

    run(tmp_path, test, "paris", "lyon")


def test_the_tokens_of_a_site_that_was_revoked_are_nobodys(tmp_path: Path) -> None:
    now = [0.0]
    lyon = Issuer(tmp_path, "lyon")
    callers = TokenVerifier(tmp_path, monotonic=lambda: now[0])
    token = lyon.token("ann")
    assert callers.user(token) == "ann"
    lyon.path.unlink()
    now[0] = 2.0
    assert callers.user(token) == ""


def test_a_token_is_not_accepted_after_its_expiry(tmp_path: Path) -> None:
    clock = [time.time()]
    paris = Issuer(tmp_path, "public")
    callers = TokenVerifier(tmp_path, now=lambda: clock[0])
    token = paris.token("ann", 600)
    assert callers.user(token) == "ann"
    clock[0] += 601
    assert callers.user(token) == ""


def of(user: str | None, query: str = "", version: str = "") -> str:
    """Return the query by which a pending deletion names the owner of a key pair, for the user of a validated token."""
    headers = {"X-Auth-Token": forged("victim")} | ({"OpenStack-API-Version": version} if version else {})
    call = Call("DELETE", "compute", "/v2.1/os-keypairs/laptop", query, CIMultiDict(headers), None, "req-x")
    return of_user(call, None if user is None else Requester(user, "project", ("member",))).query


def test_a_key_pair_is_deleted_later_for_the_user_of_the_validated_token_alone() -> None:
    assert of("ann") == "user_id=ann"
    assert of(None) == "user_id="
    assert of("") == "user_id="
    # Nova ignores `user_id` before 2.10, and parameters that only resemble it: the deleted key pair was the user's own.
    assert of("ann", "user_id=victim") == "user_id=ann"
    assert of("ann", "xuser_id=victim", "compute 2.10") == "xuser_id=victim&user_id=ann"
    # An administrator may name another user.
    assert of("admin", "user_id=ann", "compute 2.10") == "user_id=ann"
    assert of("a&user_id=b") == "user_id=a%26user_id%3Db"


def test_of_what_only_gateways_say_a_peer_may_say_what_its_services_act_by() -> None:
    said = CIMultiDict({"X-Atoll-Given-Id": "1", "X-Atoll-Accepts": "1", "X-Atoll-Hop": "1", "X-Atoll-Site": "x"})
    assert sorted(heads.of_peer(said, "network")) == ["X-Atoll-Accepts", "X-Atoll-Given-Id"]
    assert sorted(heads.of_peer(said, "compute")) == ["X-Atoll-Accepts"]
    assert not heads.of_client(said)


def test_a_length_is_spelled_in_one_way(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        head = b"POST /identity/v3/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0002\r\n\r\n{}"
        assert (await raw(cloud["paris"].public_port, head)).startswith(b"HTTP/1.1 200")
        assert CIMultiDict(cloud["paris"].services.headers[0])["Content-Length"] == "2"

    run(tmp_path, test)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(cloud: Cloud) -> None:
        for name in (b"X-A", b"Expect", b"X-Auth-Token", b"Content-Type"):
            head = (
                b"POST /identity/v3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s: 100-contin\xe3ue\r\nContent-Length: 2\r\n\r\n{}" % name
            )
            answer = await raw(cloud["paris"].public_port, head)
            assert answer.split(b" ", 2)[1] == b"400", (name, answer)
        assert not cloud["paris"].services.requests

    run(tmp_path, test)
    assert "Traceback" not in caplog.text


def test_an_expectation_at_the_peer_port_is_answered_by_nobody_before_the_certificate_is_looked_at(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for path in (b"/identity/v3", b"/atoll/ping"):
            reader, writer = await asyncio.open_connection("127.0.0.1", cloud["paris"].peer_port, ssl=context)
            writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-contin\xe3ue\r\nContent-Length: 2\r\n\r\n" % path)
            assert (await reader.readline()).split()[1] == b"403"
            writer.close()

    run(tmp_path, test, "paris", "lyon")
