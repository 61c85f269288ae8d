"""Access to consoles: tokens, origins, peers, and the addresses that a console may have."""

import asyncio
import logging
import uuid
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from console_sites import ConsoleCloud, echo, listening, run
from gateway_cloud import raw
from test_gateway_security import client_tls, status

from atoll.gateway.console import PEER_PATH
from atoll.gateway.console.ends import MAX_MESSAGE
from atoll.gateway.console.url import new_token, same_origin, shown, token_of
from atoll.gateway.faults import fault

HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"  # RFC 6455
)


def test_only_a_token_that_is_good_now_opens_one(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            guest, token = cloud.guest("lyon", port)
            services = cloud.services("lyon")
            for gateway in ("lyon", "paris"):
                url = cloud.url(gateway, "lyon", token)
                plain = url.partition("?")[0]
                assert (await cloud.refused(url))[0] == 101
                for wrong in (services.token(guest, "serial", lifetime_s=-1), str(uuid.uuid4())):
                    code, why = await cloud.refused(f"{plain}?token={wrong}")
                    assert code == 403
                    assert why.startswith("the console's URL has expired or is not valid")
                asked = len(services.requests)
                for query in ("", "?token=", f"?token={token}&token={token}", f"?token={token}x", f"?Token={token}", "?token=../servers"):
                    assert (await cloud.refused(plain + query))[0] == 403, query
                # A text that can't be a token causes no request to Nova.
                assert len(services.requests) == asked
                # A token of lyon is not valid at paris.
                assert (await cloud.refused(cloud.url(gateway, "paris", token)))[0] == 403

    run(tmp_path, test, "paris", "lyon")


ORIGINS = {
    "http://{host}": 101,
    "HTTP://{host}": 101,
    "https://{host}": 101,  # behind a proxy that terminates TLS
    "http://evil.example": 403,
    "http://{name}": 403,
    "http://{name}:1": 403,
    "http://{host}@evil.example": 403,
    "http://evil.example/{host}": 403,
    "http://{host}.evil.example": 403,
    "file://{host}": 403,
    "null": 403,
    "": 403,
    "http://[": 403,
}


def test_no_page_of_others_opens_one(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("lyon", port)
            for gateway in ("lyon", "paris"):
                url = cloud.url(gateway, "lyon", token)
                for origin, code in ORIGINS.items():
                    said = origin.format(host=f"127.0.0.1:{cloud[gateway].public_port}", name="127.0.0.1")
                    assert (await cloud.refused(url, headers={"Origin": said}))[0] == code, said
                twice = [("Origin", f"http://127.0.0.1:{cloud[gateway].public_port}")] * 2
                assert (await cloud.refused(url, headers=twice))[0] == 403

    run(tmp_path, test, "paris", "lyon")


def test_default_ports_may_be_left_out() -> None:
    assert same_origin(["http://cloud.example"], "cloud.example:80")
    assert same_origin(["https://cloud.example:443"], "Cloud.example")
    assert not same_origin(["https://cloud.example:4430"], "cloud.example")
    assert same_origin([], "cloud.example")


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("10.77.1.1", None),
        ("169.254.169.254", None),
        ("0.0.0.0", None),
        ("::", None),
        ("localhost", None),
        ("fakevncconsole.com", None),
        ("", None),
        ("127.0.0.1", 0),
        ("127.0.0.1", 70000),
        ("127.0.0.1", -1),
    ],
)
def test_only_this_site_is_connected_to(tmp_path: Path, host: str, port: int | None) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as listened:
            guest = cloud.services("lyon").add_guest(serial=(host, listened if port is None else port, None))
            token = cloud.services("lyon").token(guest, "serial")
            for gateway in ("lyon", "paris"):
                answer = await cloud.refused(cloud.url(gateway, "lyon", token))
                assert answer == (403, "the address of the server's console is not one of site lyon")

    run(tmp_path, test, "paris", "lyon")


def test_loopback_and_the_own_address_are_this_site(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            for host in ("127.0.0.1", "127.0.0.2"):
                guest = cloud.services("paris").add_guest(serial=(host, port, None))
                answer = await cloud.refused(cloud.url("paris", "paris", cloud.services("paris").token(guest, "serial")))
                assert answer[0] == (101 if host == "127.0.0.1" else 502)  # nobody listens at the other
            cloud["paris"].consoles._finder._address = "192.0.2.7"
            guest = cloud.services("paris").add_guest(serial=("192.0.2.7", 0, None))
            answer = await cloud.refused(cloud.url("paris", "paris", cloud.services("paris").token(guest, "serial")))
            assert answer[0] == 403  # for the port alone

    run(tmp_path, test)


def test_a_token_does_not_outlive_what_it_was_given_for(tmp_path: Path) -> None:
    """Refuse a console whose port another project's server may have by now."""

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            services = cloud.services("paris")
            guest, token = cloud.guest("paris", port)
            url = cloud.url("paris", "paris", token)
            for change, answer in (
                ({"power_state": 4}, (409, "the server is not running: start it first")),
                ({"power_state": 0}, (409, "the server is not running: start it first")),
                ({"task_state": "powering-off"}, (409, "the server is busy (powering-off): try again in a moment")),
                ({"host": "quimper"}, (403, "the server runs at quimper, whose consoles can't be reached from paris")),
                (
                    {"consoles": {"serial": ("127.0.0.1", port + 1, None)}},
                    (403, "the address of the server's serial console has changed: request a new URL"),
                ),
                ({"consoles": {}}, (403, "the address of the server's serial console has changed: request a new URL")),
                # For a stopped server, libvirt still names a port, or -1.
                ({"consoles": {"serial": ("127.0.0.1", -1, None)}, "power_state": 4}, (409, "the server is not running: start it first")),
            ):
                services.guests[guest.id] = replace(guest, **change)
                assert await cloud.refused(url) == answer
            del services.guests[guest.id]
            assert (await cloud.refused(url))[0] == 403
            services.guests[guest.id] = replace(guest, power_state=3)  # paused
            assert (await cloud.refused(url))[0] == 101

    run(tmp_path, test)


def test_a_token_is_for_one_kind(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as serial, listening(echo) as screen:
            guest = cloud.services("paris").add_guest(serial=("127.0.0.1", serial, None), vnc=("127.0.0.1", screen, None))
            token = cloud.services("paris").token(guest, "serial")
            assert (await cloud.refused(cloud.url("paris", "paris", token, "vnc")))[0] == 403
            for kind in ("spice", "SERIAL", "serial/", "", "serial/x"):
                assert (await cloud.refused(cloud.url("paris", "paris", token, kind)))[0] == 404, kind
            assert (await cloud.refused(cloud.url("paris", "paris", token)))[0] == 101

    run(tmp_path, test)


def test_requests_that_open_no_websocket_are_refused(tmp_path: Path) -> None:
    smuggled = b"GET /identity/v3/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("paris", port)
            path = f"/console/paris/serial?token={token}"
            plain = f"GET {path} HTTP/1.1\r\nHost: x\r\n"
            for request, code in (
                (f"{plain}\r\n", 426),
                (f"{plain}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 426),
                (f"{plain}Upgrade: websocket\r\n\r\n", 400),
                (f"{plain}{HANDSHAKE.replace('13', '12')}\r\n", 400),
                (f"{plain}{HANDSHAKE.replace('dGhl', 'a')}\r\n", 400),
                (f"{plain}Host: y\r\n{HANDSHAKE}\r\n", 400),
                (f"GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n", 400),
                (f"GET {path} HTTP/1.1\r\nHost: a/b\r\n{HANDSHAKE}\r\n", 400),
                (f"POST {path} HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n", 400),
                (f"{plain}Content-Length: 4\r\n{HANDSHAKE}\r\nabcd", 400),
                (f"{plain}Transfer-Encoding: chunked\r\n{HANDSHAKE}\r\n0\r\n\r\n", 400),
                (f"GET /console/paris/../paris/serial?token={token} HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n", 400),
                (f"GET /console/%2e%2e/serial?token={token} HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n", 400),
                (f"GET /scope/compute:paris{path} HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n", 404),
                (f"GET /console HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n", 404),
                (f"GET /console/ HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n", 404),
                (f"GET /compute/v2.1/servers?token={token} HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n", 400),
            ):
                answer = await raw(cloud["paris"].public_port, request.encode() + smuggled)
                assert status(answer) == code, (request, answer)
                assert answer.count(b"HTTP/1.") == 1, "bytes after a refused request must not be read"
            assert not [path for _method, path in cloud.services("paris").requests if "smuggled" in path]
            answer = await raw(
                cloud["paris"].public_port, f"{plain}Sec-WebSocket-Extensions: permessage-deflate\r\n{HANDSHAKE}\r\n".encode()
            )
            assert status(answer) == 101
            assert b"deflate" not in answer  # small frames stay small

    run(tmp_path, test)


def test_messages_have_an_end(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("lyon", port)
            async with cloud.session.ws_connect(cloud.url("paris", "lyon", token)) as socket:
                await socket.send_bytes(b"x" * (MAX_MESSAGE + 1))
                message = await socket.receive()
                assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)

    run(tmp_path, test, "paris", "lyon")


def test_peers_are_members_here_too(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("paris", port)
            url = f"https://127.0.0.1:{cloud['paris'].peer_port}{PEER_PATH}/serial?token={token}"
            lyon = client_tls(cloud["lyon"].options.tls)
            assert (await cloud.refused(url, ssl=client_tls(None)))[0] == 403
            assert (await cloud.refused(url, ssl=lyon))[0] == 101
            for wrong, code in (
                (url.replace("serial", "spice"), 404),
                (url.partition("?")[0], 403),
                (url.replace("serial", "serial/x"), 404),
            ):
                assert (await cloud.refused(wrong, ssl=lyon))[0] == code
            # A peer gets consoles of this site only.
            _guest, other = cloud.guest("nice", port)
            assert (await cloud.refused(url.replace(token, other), ssl=lyon))[0] == 403
            cloud.set_state("lyon", "revoked")
            assert (await cloud.refused(url, ssl=lyon))[0] == 403

    run(tmp_path, test, "paris", "lyon", "nice")


@pytest.mark.parametrize("ending", ["paris", "lyon"])
def test_a_console_ends_with_the_membership_of_either_site(tmp_path: Path, ending: str) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("lyon", port)
            own = await cloud.session.ws_connect(cloud.url("lyon", "lyon", cloud.guest("lyon", port)[1]))
            socket = await cloud.session.ws_connect(cloud.url("paris", "lyon", token))
            await socket.send_bytes(b"x")
            assert (await socket.receive_bytes()) == b"x"
            {"paris": cloud["lyon"], "lyon": cloud["paris"]}[ending].consoles.sessions.cut(ending)
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (
                WSMsgType.CLOSE,
                1008,
                f"site {ending} is no longer a member of the cloud",
            )
            await own.send_bytes(b"x")
            assert (await own.receive_bytes()) == b"x"

    run(tmp_path, test, "paris", "lyon")


def test_a_peer_sends_nobody_elsewhere(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        asked = []

        async def elsewhere(request: web.BaseRequest) -> web.Response:
            asked.append(request.path)
            return web.Response()

        runner = web.ServerRunner(web.Server(elsewhere))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]

        async def astray(_request: web.Request, _site: str) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{port}/x"})

        cloud["lyon"].consoles.of_peer = astray
        _guest, token = cloud.guest("lyon", 1)
        assert await cloud.refused(cloud.url("paris", "lyon", token)) == (502, "the gateway of site lyon refuses the console (HTTP 307)")
        assert not asked
        # The site can still be reached.
        assert cloud["paris"].mesh.reports[-1] == ("lyon", True)
        await runner.cleanup()

    run(tmp_path, test, "paris", "lyon")


def test_no_token_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("lyon", port)
            expired = cloud.services("lyon").token(_guest, "serial", lifetime_s=-1)
            for gateway in ("paris", "lyon"):
                url = cloud.url(gateway, "lyon", token)
                assert (await cloud.refused(url))[0] == 101
                assert (await cloud.refused(url.replace(token, expired)))[0] == 403
                for path in ("/console//lyon/serial", "/console/../serial", "/consoles/lyon", "/compute/v2.1/%2e%2e"):
                    query = urlsplit(url).query
                    page = query.replace("token=", "path=x%3FToken%3D")
                    for each in (query, page):
                        answer = await raw(cloud[gateway].public_port, f"GET {path}?{each} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                        assert status(answer) in {400, 404}
            peer = f"https://127.0.0.1:{cloud['lyon'].peer_port}"
            for path in (f"{PEER_PATH}/serial", f"{PEER_PATH}/serial/x", "/"):
                for tls in (client_tls(None), client_tls(cloud["paris"].options.tls)):
                    async with cloud.session.get(f"{peer}{path}?token={token}", ssl=tls) as response:
                        assert response.status >= 400
            cloud.set_state("lyon", "unreachable")
            assert (await cloud.refused(cloud.url("paris", "lyon", token)))[0] == 503
            assert token not in caplog.text
            assert expired not in caplog.text
            assert "/console/../serial?…" in caplog.text
            assert "serial console of server" in caplog.text

    run(tmp_path, test, "paris", "lyon")


def test_pages_are_novnc_s_alone(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        novnc = tmp_path / "paris" / "novnc"
        (novnc / "core").mkdir(parents=True)
        (novnc / "core" / "rfb.js").write_text("x")
        (novnc / "novnc_proxy").write_text("#!/bin/sh")
        (tmp_path / "secret.html").write_text("secret")
        (novnc / "out.html").symlink_to("../../secret.html")
        (novnc / "away").symlink_to(tmp_path)
        port = cloud["paris"].public_port
        for name in (
            "novnc_proxy",
            "out.html",
            "away/secret.html",
            "../../secret.html",
            "%2e%2e/x.html",
            "a%00.html",
            "/etc/passwd",
            "core//rfb.js",
        ):
            answer = await raw(port, f"GET /console/vnc/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert status(answer) in {400, 404}, name
            assert b"secret\n" not in answer
        answer = await raw(port, b"GET /console/vnc/core/rfb.js HTTP/1.1\r\nHost: x;evil\r\nConnection: close\r\n\r\n")
        assert status(answer) == 400
        answer = await raw(port, b"POST /console/vnc/core/rfb.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status(answer) == 400

    run(tmp_path, test)


def test_the_gateway_asks_as_itself_and_nobody_else_may(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("paris", port)
            headers = {"X-Auth-Token": "somebody", "X-Openstack-Request-Id": "req-mine", "X-Atoll-Hop": "1"}
            assert (await cloud.refused(cloud.url("paris", "paris", token), headers=headers))[0] == 101
            asked = [each["X-Auth-Token"] for each in cloud.services("paris").headers]
            assert asked == ["admin-of-paris"] * 4
            code, _, _ = await cloud.ask("paris", "GET", f"/compute/v2.1/os-console-auth-tokens/{token}", headers=headers)
            assert code == 403

    run(tmp_path, test)


def test_small_parts() -> None:
    token = str(uuid.uuid4())
    assert token_of(f"a=b&token={token}") == token
    assert token_of("&".join(f"a{n}=b" for n in range(50)) + f"&token={token}") is None
    assert shown("/compute/v2.1/servers?name=x") == "/compute/v2.1/servers?name=x"
    assert shown(f"/console/vnc/vnc_lite.html?path=%3FToKeN%3D{token}") == "/console/vnc/vnc_lite.html?…"
    assert new_token(fault("compute", 400, "no", "paris")) is None


def test_a_handshake_that_goes_away_leaves_nothing_open(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def slow(reader, _writer) -> None:
        await reader.read()
        closed.set()

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(slow) as port:
            _guest, token = cloud.guest("paris", port)
            reader, writer = await asyncio.open_connection("127.0.0.1", cloud["paris"].public_port)
            writer.write(f"GET /console/paris/serial?token={token} HTTP/1.1\r\nHost: x\r\n{HANDSHAKE}\r\n".encode())
            await writer.drain()
            writer.transport.abort()
            del reader
            await asyncio.sleep(0.5)
            assert not cloud["paris"].consoles.sessions._open
            socket: aiohttp.ClientWebSocketResponse = await cloud.session.ws_connect(cloud.url("paris", "paris", token))
            closed.clear()
            await socket.close()
            await asyncio.wait_for(closed.wait(), 5)

    run(tmp_path, test)
