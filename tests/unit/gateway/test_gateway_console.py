"""Consoles through whole gateways, to guests that are real TCP servers."""

import asyncio
import hashlib
import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import WSMsgType
from console_sites import ConsoleCloud, Guest, echo, listening, run

from atoll.gateway.console.sessions import MAX_PER_SERVER

SITES = {"here": ("paris", "paris"), "elsewhere": ("paris", "lyon")}


async def until(condition, within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture(params=SITES)
def way(request) -> tuple[str, str]:
    """The gateway that is asked, and the site of the server."""
    return SITES[request.param]


def test_bytes_go_both_ways(tmp_path: Path, way) -> None:
    gateway, site = way

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest(site, port)
            async with cloud.session.ws_connect(cloud.url(gateway, site, token), protocols=("binary",)) as socket:
                assert socket.protocol == "binary"
                for said in (b"login: ", bytes(range(256)), b"\x00"):
                    await socket.send_bytes(said)
                    assert (await socket.receive_bytes()) == said
                await socket.send_bytes(b"")
                await socket.send_str("é\n")
                assert (await socket.receive_bytes()) == "é\n".encode()
            # Connect again, without a subprotocol and with an unknown one: a token is valid until it expires.
            for protocols in ((), ("chat",)):
                async with cloud.session.ws_connect(cloud.url(gateway, site, token), protocols=protocols) as socket:
                    assert socket.protocol is None
                    await socket.send_bytes(b"again")
                    assert (await socket.receive_bytes()) == b"again"
        if gateway != site:
            assert not cloud.services(gateway).requests

    run(tmp_path, test, "paris", "lyon")


def test_a_screen_speaks_first(tmp_path: Path, way) -> None:
    gateway, site = way

    async def screen(reader, writer) -> None:
        writer.write(b"RFB 003.008\n")
        await echo(reader, writer)

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(screen) as port:
            _guest, token = cloud.guest(site, port, "vnc")
            async with cloud.session.ws_connect(cloud.url(gateway, site, token, "vnc")) as socket:
                assert (await socket.receive_bytes()) == b"RFB 003.008\n"
                await socket.send_bytes(b"RFB 003.008\n")
                assert (await socket.receive_bytes()) == b"RFB 003.008\n"

    run(tmp_path, test, "paris", "lyon")


@pytest.mark.parametrize(("answer", "status"), [(b"HTTP/1.1 200 OK\r\n\r\nhello", 101), (b"HTTP/1.1 404 No\r\n\r\n", 502), (b"", 502)])
def test_a_hypervisor_that_wants_to_be_asked_first(tmp_path: Path, answer: bytes, status: int) -> None:
    asked = []

    async def hypervisor(reader, writer) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(hypervisor) as port:
            _guest, token = cloud.guest("paris", port, path="0000-path")
            url = cloud.url("paris", "paris", token)
            if status == 101:
                async with cloud.session.ws_connect(url) as socket:
                    assert (await socket.receive_bytes()) == b"hello"
            else:
                assert (await cloud.refused(url))[0] == status
        assert asked == [b"CONNECT 0000-path HTTP/1.1\r\n\r\n"]

    run(tmp_path, test)


@pytest.mark.parametrize("ask", ["remote-consoles", "action"])
@pytest.mark.parametrize("kind", ["serial", "vnc"])
def test_urls_lead_through_the_gateway_that_is_asked(tmp_path: Path, way, ask: str, kind: str) -> None:
    gateway, site = way
    type_ = {"serial": "serial", "vnc": "novnc"}[kind]

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            guest, _token = cloud.guest(site, port, kind)
            body: dict = {"remote_console": {"protocol": kind, "type": type_}}
            if ask == "action":
                body = {{"serial": "os-getSerialConsole", "vnc": "os-getVNCConsole"}[kind]: {"type": type_}}
            status, answer, _ = await cloud.ask(gateway, "POST", f"/compute/v2.1/servers/{guest.id}/{ask}", json=body)
            assert status == 200
            parts = urlsplit(answer["remote_console" if ask == "remote-consoles" else "console"]["url"])
            assert parts.netloc == f"127.0.0.1:{cloud[gateway].public_port}"
            if kind == "vnc":
                assert (parts.scheme, parts.path) == ("http", "/console/vnc/vnc_lite.html")
                # The address that noVNC computes from the URL.
                (path,) = parse_qs(parts.query)["path"]
                url = f"http://{parts.netloc}/{path}"
            else:
                assert (parts.scheme, parts.path) == ("ws", f"/console/{site}/serial")
                url = parts.geturl()
            async with cloud.session.ws_connect(url) as socket:
                await socket.send_bytes(b"x")
                assert (await socket.receive_bytes()) == b"x"

    run(tmp_path, test, "paris", "lyon")


def test_urls_of_others_and_refusals_stay_as_they_are(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        services = cloud.services("paris")
        guest, _token = cloud.guest("paris", 1, "vnc")
        path = f"/compute/v2.1/servers/{guest.id}/remote-consoles"
        status, answer, _ = await cloud.ask("paris", "POST", path, json={"remote_console": {"protocol": "serial", "type": "serial"}})
        assert (status, answer["badRequest"]["message"]) == (400, "Unavailable console type serial.")
        services.url = lambda _protocol, token: f"https://proxy.example/vnc_lite.html?path=%3Ftoken%3D{token}"
        _, answer, _ = await cloud.ask("paris", "POST", path, json={"remote_console": {"protocol": "vnc", "type": "novnc"}})
        assert answer["remote_console"]["url"].startswith("https://proxy.example/vnc_lite.html?path=")

    run(tmp_path, test)


def test_the_guest_ends_it(tmp_path: Path, way) -> None:
    gateway, site = way

    async def short(_reader, writer) -> None:
        writer.write(b"x" * 300_000 + b"bye")
        await writer.drain()

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(short) as port:
            _guest, token = cloud.guest(site, port)
            async with cloud.session.ws_connect(cloud.url(gateway, site, token)) as socket:
                got = b"".join([message.data async for message in socket])
                assert (len(got), got[-3:], socket.close_code) == (300_003, b"bye", 1000)
        await until(lambda: not cloud[gateway].consoles.sessions._open and not cloud[site].consoles.sessions._open)

    run(tmp_path, test, "paris", "lyon")


def test_the_client_ends_it(tmp_path: Path, way) -> None:
    gateway, site = way
    heard: list[bytes] = []
    ended = asyncio.Event()

    async def listener(reader, _writer) -> None:
        while data := await reader.read(65536):
            heard.append(data)
        ended.set()

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(listener) as port:
            _guest, token = cloud.guest(site, port)
            socket = await cloud.session.ws_connect(cloud.url(gateway, site, token))
            await socket.send_bytes(b"x" * 300_000 + b"logout\n")
            await socket.close()
            assert socket.close_code == 1000
            await asyncio.wait_for(ended.wait(), 5)
            assert b"".join(heard) == b"x" * 300_000 + b"logout\n"
            # A client that closes the connection without a closing handshake.
            ended.clear()
            socket = await cloud.session.ws_connect(cloud.url(gateway, site, token))
            socket._response.connection.transport.abort()
            await asyncio.wait_for(ended.wait(), 5)
        await until(lambda: not cloud[gateway].consoles.sessions._open and not cloud[site].consoles.sessions._open)

    run(tmp_path, test, "paris", "lyon")


def test_much_arrives_whole(tmp_path: Path, way) -> None:
    gateway, site = way
    pieces = [hashlib.sha256(str(n).encode()).digest() * 2048 for n in range(256)]  # 16 MiB

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest(site, port)
            async with cloud.session.ws_connect(cloud.url(gateway, site, token)) as socket:

                async def send() -> None:
                    for piece in pieces:
                        await socket.send_bytes(piece)

                sending = asyncio.create_task(send())
                digest, size = hashlib.sha256(), 0
                while size < sum(map(len, pieces)):
                    data = await socket.receive_bytes()
                    digest.update(data)
                    size += len(data)
                await sending
        assert digest.digest() == hashlib.sha256(b"".join(pieces)).digest()

    run(tmp_path, test, "paris", "lyon")


HELD = 48 << 20
"""Bytes that may be on their way: mostly what the kernel keeps for the connections, two or four of them."""


def test_a_client_that_does_not_read_stops_the_guest(tmp_path: Path, way) -> None:
    gateway, site = way
    sent = 0

    async def flood(_reader, writer) -> None:
        nonlocal sent
        while True:
            writer.write(b"y\n" * 32768)
            await writer.drain()
            sent += 65536

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(flood) as port:
            _guest, token = cloud.guest(site, port)
            socket = await cloud.session.ws_connect(cloud.url(gateway, site, token))
            socket._response.connection.protocol.pause_reading()
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert 0 < sent < HELD
            # After the client reads again, the guest continues.
            socket._response.connection.protocol.resume_reading()
            got, wanted = 0, sent + (1 << 20)
            while got < wanted:
                got += len(await socket.receive_bytes())
            socket._response.connection.protocol.pause_reading()
            # A client that reads nothing can't keep the console open either.
            started = time.monotonic()
            await cloud[gateway].consoles.sessions.stop()
            assert time.monotonic() - started < 20
            socket._response.connection.transport.abort()

    run(tmp_path, test, "paris", "lyon")


def test_a_guest_that_does_not_read_stops_the_client(tmp_path: Path, way) -> None:
    gateway, site = way

    async def deaf(_reader, _writer) -> None:
        await asyncio.sleep(60)

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(deaf) as port:
            _guest, token = cloud.guest(site, port)
            socket = await cloud.session.ws_connect(cloud.url(gateway, site, token))
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 2 * HELD:
                    await asyncio.wait_for(socket.send_bytes(b"x" * 65536), 1)
                    sent += 65536
            assert sent < HELD
            socket._response.connection.transport.abort()

    run(tmp_path, test, "paris", "lyon")


def test_a_serial_console_has_one_at_a_time_and_the_last_one_gets_it(tmp_path: Path) -> None:
    free = asyncio.Semaphore(1)

    async def like_qemu(reader, writer) -> None:
        async with free:
            await echo(reader, writer)

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(like_qemu) as port:
            _guest, token = cloud.guest("lyon", port)
            sockets = [await cloud.session.ws_connect(cloud.url("paris", "lyon", token))]
            sockets.append(await cloud.session.ws_connect(cloud.url("lyon", "lyon", token)))
            message = await sockets[0].receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1008, "another client has connected to this console")
            sockets += await asyncio.gather(*(cloud.session.ws_connect(cloud.url("paris", "lyon", token)) for _ in range(3)))
            for socket in sockets[2:]:
                await socket.send_bytes(b"x")
            answers = [await asyncio.wait_for(socket.receive(), 5) for socket in sockets[2:]]
            last = [answer for answer in answers if answer.type is WSMsgType.BINARY]
            assert [answer.data for answer in last[-1:]] == [b"x"]
            assert len(cloud["lyon"].consoles.sessions._open) == 1

    run(tmp_path, test, "paris", "lyon")


def test_screens_are_shared_by_a_few(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            guest, token = cloud.guest("paris", port, "vnc")
            url = cloud.url("paris", "paris", token, "vnc")
            sockets = [await cloud.session.ws_connect(url) for _ in range(MAX_PER_SERVER)]
            assert await cloud.refused(url) == (
                429,
                f"the server already has {MAX_PER_SERVER} open consoles, which is the limit: close one of them",
            )
            await sockets[0].close()
            await until(lambda: len(cloud["paris"].consoles.sessions._open) < MAX_PER_SERVER)
            assert (await cloud.refused(url))[0] == 101
            other = Guest("paris", {"vnc": ("127.0.0.1", port, None)})
            cloud.services("paris").guests[other.id] = other
            assert other.id != guest.id
            assert (await cloud.refused(cloud.url("paris", "paris", cloud.services("paris").token(other, "vnc"), "vnc")))[0] == 101

    run(tmp_path, test)


def test_a_gateway_that_stops_ends_consoles_immediately(tmp_path: Path, way) -> None:
    gateway, site = way

    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest(site, port)
            socket = await cloud.session.ws_connect(cloud.url(gateway, site, token))
            stopping = asyncio.create_task(cloud[site].server.stop())
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1001, "the gateway is stopping")
            await asyncio.wait_for(stopping, 5)
            with pytest.raises(aiohttp.ClientConnectorError):
                await cloud.session.ws_connect(cloud.url(site, site, token))

    run(tmp_path, test, "paris", "lyon")


def test_unreachable_consoles(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        async with listening(echo) as port:
            _guest, token = cloud.guest("lyon", port)
        url = cloud.url("paris", "lyon", token)
        assert await cloud.refused(url) == (502, "the server's console does not answer at its address")
        cloud.services("lyon").broken = 500
        assert await cloud.refused(url) == (503, "site lyon: its own compute service answers HTTP 500")
        cloud.set_state("lyon", "unreachable")
        assert await cloud.refused(url) == (503, "site lyon can't be reached from paris")
        status, body, headers = await cloud.ask("paris", "GET", urlsplit(url).path + f"?token={token}", headers={"Upgrade": "websocket"})
        assert (status, body["text"], headers["X-Atoll-Missing"]) == (503, "site lyon can't be reached from paris\n", "lyon")
        cloud.set_state("lyon", "left")
        assert (await cloud.refused(url))[0] == 404
        assert (await cloud.refused(cloud.url("paris", "oslo", token)))[0] == 404
        cloud.services("paris").broken = 503
        assert await cloud.refused(cloud.url("paris", "paris", token)) == (503, "site paris: its own compute service answers HTTP 503")

    run(tmp_path, test, "paris", "lyon")


def test_a_site_of_an_older_version_carries_none(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        lyon = cloud["lyon"]
        lyon.consoles.of_peer = lambda request, _site: lyon.server._peer(request)
        _guest, token = cloud.guest("lyon", 1)
        assert await cloud.refused(cloud.url("paris", "lyon", token)) == (404, "the gateway of site lyon refuses the console (HTTP 404)")

    run(tmp_path, test, "paris", "lyon")


def test_pages(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        url = f"http://127.0.0.1:{cloud['paris'].public_port}/console/vnc/"
        novnc = tmp_path / "paris" / "novnc"
        async with cloud.session.get(url + "vnc_lite.html?path=x") as response:
            text = f"noVNC is not installed at this site: expected it in {novnc}; install it with `apt install novnc`\n"
            assert (response.status, response.content_type, await response.text()) == (501, "text/plain", text)
        (novnc / "core").mkdir(parents=True)
        (novnc / "core" / "rfb.js").write_text("export default class RFB {}")
        (novnc / "vnc.html").write_text("<p>screen")
        (novnc / "vnc_lite.html").symlink_to("vnc.html")
        async with cloud.session.get(url + "vnc_lite.html?path=console%2Fparis%2Fvnc%3Ftoken%3Dx") as response:
            assert (response.status, response.content_type, await response.text()) == (200, "text/html", "<p>screen")
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert f"connect-src 'self' ws://127.0.0.1:{cloud['paris'].public_port} " in response.headers["Content-Security-Policy"]
        async with cloud.session.get(url + "core/rfb.js") as response:
            assert (response.status, response.content_type) == (200, "text/javascript")
            tag = response.headers["ETag"]
        async with cloud.session.get(url + "core/rfb.js", headers={"If-None-Match": tag}) as response:
            assert response.status == 304
        async with cloud.session.head(url + "core/rfb.js") as response:
            assert (response.status, response.content_length, await response.read()) == (200, 27, b"")
        for missing in ("", "core", "core/", "none.html", "package.json"):
            async with cloud.session.get(url + missing) as response:
                assert response.status == 404

    run(tmp_path, test)


def test_the_index_is_what_it_was(tmp_path: Path) -> None:
    async def test(cloud: ConsoleCloud) -> None:
        status, body, _ = await cloud.ask("paris", "GET", "/")
        assert (status, sorted(body["services"])) == (200, ["compute", "identity", "image", "network", "placement"])
        status, body, _ = await cloud.ask("paris", "GET", "/console")
        assert (status, json.dumps(body).count("no service /console")) == (404, 1)
        status, body, _ = await cloud.ask("paris", "GET", "/load-balancer/v2")
        assert (status, json.dumps(body).count("paris has no service /load-balancer")) == (404, 1)

    run(tmp_path, test)
