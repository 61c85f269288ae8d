"""The limits of a gateway's clients: connections, requests, bytes and time."""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gateway_cloud import Cloud, raw
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atoll.gateway.door import listener, server
from atoll.gateway.door.client_limiter import ClientLimiter, TooMany
from atoll.gateway.door.limits import Bucket, BusyError, Limits, Turns
from atoll.gateway.request import body
from atoll.gateway.request.target import Refused
from atoll.services.wsgi import THREADS
from atoll.services.wsgi import Server as Service
from atoll.trace import sampling
from atoll.trace.recorder import Identity, Recorder


def run(directory: Path, test, *names: str, limits: Limits | None = None, prepare=lambda _cloud: None) -> None:
    async def main() -> None:
        cloud = Cloud(directory, *(names or ("paris",)))
        prepare(cloud)
        for name in names or ("paris",):
            cloud[name].limits = limits or Limits()
        async with cloud:
            await test(cloud)

    asyncio.run(main())


def token(cloud: Cloud, user: str = "ann", site: str = "paris") -> str:
    """Return a token that a site has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = cloud[site].options.token_keys / f"{user}.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return jwt.encode({"sub": user, "exp": int(time.time()) + 600}, key, algorithm="ES256")


async def connect(cloud: Cloud, data: bytes = b"", site: str = "paris") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud[site].public_port)
    writer.write(data)
    return reader, writer


# --- Buckets, turns, limiter


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    bucket = Bucket(2, 5, 0.0)
    assert [bucket.take(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    bucket.charge(10)
    assert not bucket.take(4.0)
    assert bucket.take(7.0)
    bucket.give_back(100)
    assert bucket.left(7.0) == 5


def test_turns_of_one_user_leave_others_theirs() -> None:
    async def main() -> None:
        turns = Turns(Limits(turns_of_user=2, turns_of_strangers=1, turn_s=0.05))
        first, second = await turns.take("compute", "ann"), await turns.take("compute", "ann")
        with pytest.raises(BusyError):
            await turns.take("compute", "ann")
        (await turns.take("compute", "bob"))()
        (await turns.take("image", "ann"))()
        stranger = await turns.take("compute", "")
        with pytest.raises(BusyError):
            await turns.take("compute", "")
        waiting = asyncio.ensure_future(turns.take("compute", "ann"))
        gives_up = asyncio.ensure_future(turns.take("compute", "ann"))
        await asyncio.sleep(0)
        gives_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gives_up
        first()
        first()
        third = await waiting
        for end in (second, third, stranger):
            end()
        assert turns._taken == turns._waiting == {}

    asyncio.run(main())


class Line:
    """A double of a connection."""

    def __init__(self, *, busy: bool = False) -> None:
        self.busy = busy
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_the_oldest_stranger_makes_room() -> None:
    limiter = ClientLimiter(Limits(connections=5, connections_of_address=3, accepts_s=1000), now=lambda: 0.0)
    lines = [Line(busy=number == 0) for number in range(4)]
    address = limiter.admit("10.0.0.1")
    assert address is not None
    limiter.opened(address, lines[0])
    for line in lines[1:3]:
        assert limiter.admit("10.0.0.1") is address
        limiter.opened(address, line)
    limiter.recognised(address, lines[1])
    assert limiter.admit("10.0.0.1") is address
    assert [line.dropped for line in lines] == [False, False, True, False]
    limiter.closed(address, lines[2])
    assert limiter.admit("10.0.0.1") is None, "neither a busy nor a known connection may be closed"
    for number in range(2, 4):
        assert limiter.admit(f"10.0.0.{number}") is not None
    assert limiter.admit("10.0.0.9") is None, "the port has reached its limit of connections"


def test_of_many_that_arrive_together_each_takes_the_place_of_another() -> None:
    """Let a dropped connection, which closes a moment later, make room for one new connection only."""
    limiter = ClientLimiter(Limits(connections_of_address=4), now=lambda: 0.0)
    lines = [Line() for _ in range(10)]
    for line in lines:
        address = limiter.admit("10.0.0.1")
        assert address is not None
        limiter.opened(address, line)
    assert [line.dropped for line in lines] == [True] * 6 + [False] * 4
    for line in lines[:6]:
        limiter.closed(address, line)
    assert (address.count, len(address.strangers)) == (4, 4)


def test_addresses_of_one_ipv6_network_are_one() -> None:
    limiter = ClientLimiter(Limits(), now=lambda: 0.0)
    assert limiter.admit("2001:db8::1") is limiter.admit("2001:db8::ffff:2")
    assert limiter.admit("2001:db8::1") is not limiter.admit("2001:db8:0:1::1")
    assert limiter.admit("fe80::1%eth0") is limiter.admit("fe80::2")


def test_known_addresses_do_not_share_the_strangers_allowance() -> None:
    now = [0.0]
    limiter = ClientLimiter(Limits(requests=5, strangers_requests=7, requests_s=1, strangers_requests_s=1), now=lambda: now[0])
    one, two, known = (limiter.admit(f"10.0.0.{number}") for number in range(3))
    assert one is not None
    assert two is not None
    assert known is not None
    limiter.recognised(known, Line())
    for _ in range(5):
        limiter.ask(one, "")
    with pytest.raises(TooMany):
        limiter.ask(one, "")
    for _ in range(2):
        limiter.ask(two, "")
    with pytest.raises(TooMany):
        limiter.ask(two, "")
    for _ in range(5):
        limiter.ask(known, "")
    limiter.ask(one, "ann")
    now[0] = 2.0
    limiter.ask(one, "")


def test_a_user_has_an_allowance_wherever_the_requests_come_from() -> None:
    limiter = ClientLimiter(Limits(user_requests=3, user_requests_s=1, uploads_of_user=1), now=lambda: 0.0)
    for number in range(3):
        address = limiter.admit(f"10.0.0.{number}")
        assert address is not None
        limiter.ask(address, "ann")
    with pytest.raises(TooMany):
        limiter.ask(address, "ann")
    limiter.ask(address, "bob")
    with limiter.transfer("ann"):
        with pytest.raises(TooMany), limiter.transfer("ann"):
            pass
        with limiter.transfer("bob"):
            pass
    with limiter.transfer("ann"):
        pass


def test_the_requests_that_a_client_has_recorded_are_bounded_by_user_and_by_address() -> None:
    now = [0.0]
    limiter = ClientLimiter(Limits(traces=3, traces_s=1, strangers_traces=2, strangers_traces_s=1), now=lambda: now[0])
    near, far = limiter.admit("10.0.0.1"), limiter.admit("10.0.0.2")
    assert near is not None
    assert far is not None
    assert [limiter.may_trace(near, "ann") for _ in range(4)] == [True] * 3 + [False]
    assert not limiter.may_trace(far, "ann"), "wherever the user comes from"
    assert limiter.may_trace(near, "bob"), "nobody else's share"
    assert [limiter.may_trace(near, "") for _ in range(3)] == [True, True, False]
    assert limiter.may_trace(far, "")
    limiter.ask(near, "ann")  # the request itself is answered
    now[0] = 1.0
    assert [limiter.may_trace(near, user) for user in ("ann", "ann", "", "")] == [True, False, True, False]


def test_a_flood_of_requests_that_ask_to_be_recorded_is_answered(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        kept = InMemorySpanExporter()
        sampling.install(Recorder(Identity("gateway", "paris"), 0.0, SimpleSpanProcessor(kept)))
        try:
            parent = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
            url = f"http://127.0.0.1:{cloud['paris'].public_port}/"
            async with aiohttp.ClientSession(headers=parent) as session:
                for _ in range(12):
                    async with session.get(url) as response:
                        assert response.status == 200
        finally:
            sampling.install(None)
        assert len(kept.get_finished_spans()) == 4

    run(tmp_path, test, limits=Limits(strangers_traces=4, strangers_traces_s=0))


def test_records_of_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.gateway.door.client_limiter.REMEMBERED", 100)
    limiter = ClientLimiter(Limits(connections=10**6), now=lambda: 0.0)
    for number in range(1000):
        address = limiter.admit(f"10.0.{number // 256}.{number % 256}")
        assert address is not None
        limiter.closed(address)
    assert len(limiter._addresses) <= 101


def test_bytes_of_bodies_are_counted() -> None:
    limiter = ClientLimiter(Limits(bytes_of_address=10, bytes=15), now=lambda: 0.0)
    one, two = limiter.admit("10.0.0.1"), limiter.admit("10.0.0.2")
    assert one is not None
    assert two is not None
    with limiter.body(one, 8):
        with pytest.raises(TooMany), limiter.body(one, 8):
            pass
        with pytest.raises(TooMany), limiter.body(two, 8):
            pass
    with limiter.body(two, 8):
        pass


# --- At a port


SLOW = {
    "silence": b"",
    "half a line": b"GET /compute",
    "half a head": b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\n",
}


@pytest.mark.parametrize("name", sorted(SLOW))
def test_a_head_has_its_time(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SWEEP_S", 0.05)

    async def test(cloud: Cloud) -> None:
        reader, writer = await connect(cloud, SLOW[name])
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()

    run(tmp_path, test, limits=Limits(head_s=0.2, stranger_idle_s=0.2))


def test_a_head_that_drips_has_no_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SWEEP_S", 0.05)

    async def test(cloud: Cloud) -> None:
        _reader, writer = await connect(cloud, b"GET / HTTP/1.1\r\n")
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while not writer.transport.is_closing():
                    writer.write(b"X-A: b\r\n")
                    await asyncio.sleep(0.05)
        assert time.monotonic() - begun < 3
        writer.close()

    run(tmp_path, test, limits=Limits(head_s=0.3))


def test_a_body_has_its_time_and_takes_no_request_of_a_service(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        head = b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n1"
        for kind in (b"application/json", b"application/octet-stream"):
            reader, writer = await connect(cloud, head % kind)
            async with asyncio.timeout(5):
                assert (await reader.readline()).split()[1] == b"408"
            writer.close()
        assert not cloud["paris"].services.requests

    run(tmp_path, test, limits=Limits(body_s=0.2))


def test_a_client_that_goes_before_its_request_is_whole_costs_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(cloud: Cloud) -> None:
        _reader, writer = await connect(cloud, b"POST /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)

    run(tmp_path, test)
    assert "Traceback" not in caplog.text


def test_a_connection_with_a_token_is_kept_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SWEEP_S", 0.05)

    async def test(cloud: Cloud) -> None:
        request = f"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token(cloud)}\r\n\r\n".encode()
        reader, writer = await connect(cloud)
        for _ in range(3):
            writer.write(request)
            assert (await reader.readline()).split()[1] == b"200"
            await reader.readuntil(b'"servers": []}')
            await asyncio.sleep(0.4)
        writer.close()

    run(tmp_path, test, limits=Limits(stranger_idle_s=0.2, head_s=0.2))


def test_strangers_who_ask_too_much_are_told_so_and_users_are_not(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        ask = b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await raw(cloud["paris"].public_port, ask * 8)
        assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 429"), answer.count(b"Retry-After: 1")) == (5, 1, 1)
        with contextlib.suppress(ConnectionError):
            assert await raw(cloud["paris"].public_port, ask) == b"", "the address must be refused new connections"
        assert len(cloud["paris"].services.requests) == 5

    run(tmp_path, test, limits=Limits(requests=5, requests_s=0.01))


def test_users_at_an_address_of_strangers_are_served(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        headers = {"X-Auth-Token": token(cloud)}
        assert (await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers=headers))[0] == 200
        ask = b"GET /compute/v2.1/servers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answers = [await raw(cloud["paris"].public_port, ask) for _ in range(8)]
        assert b"429" in answers[7]
        for _ in range(8):
            assert (await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers=headers))[0] == 200

    run(tmp_path, test, limits=Limits(requests=5, requests_s=0.01))


def test_sign_ins_that_succeed_cost_nothing_and_refused_ones_much(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        for _ in range(12):
            status, _, _ = await cloud.ask("paris", "POST", "/identity/v3/auth/tokens", json={"auth": {}}, headers={"Connection": "close"})
            assert status == 200
        cloud["paris"].services.refuse = lambda _request: web.json_response({}, status=401)
        for _ in range(2):
            await cloud.ask("paris", "POST", "/identity/v3/auth/tokens", json={"auth": {}}, headers={"Connection": "close"})
        status, _, _ = await cloud.ask("paris", "POST", "/identity/v3/auth/tokens", json={"auth": {}}, headers={"Connection": "close"})
        assert status == 429

    run(tmp_path, test, limits=Limits(requests=10, requests_s=0.01, refusal=5))


NOISE = (
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"\x00" * 100,
    b"SSH-2.0-x\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\r\n" * 50,
    b"G\x80T / HTTP/1.1\r\n\r\n",
)


@pytest.mark.parametrize("noise", NOISE)
def test_malformed_http_causes_no_traceback(tmp_path: Path, noise: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test(cloud: Cloud) -> None:
        answer = await raw(cloud["paris"].public_port, noise)
        assert answer.startswith(b"HTTP/1.0 400 ") or answer == b""
        assert not cloud["paris"].services.requests

    caplog.set_level(logging.INFO)
    run(tmp_path, test)
    assert "Traceback" not in caplog.text


def test_hundreds_of_idle_connections_leave_room(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        held = [await connect(cloud, list(SLOW.values())[number % 3]) for number in range(150)]
        for _ in range(3):
            assert (await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers={"Connection": "close"}))[0] == 200
        for _reader, writer in held:
            writer.close()

    run(tmp_path, test, limits=Limits(connections_of_address=100, connections=120))


def peer_tls(directory: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if directory is not None:
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


def test_hundreds_of_silent_connections_at_the_peer_port_leave_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # More connections than an address may hold at once, and fewer than it may open at once.
    monkeypatch.setattr(server, "AT_PEER_PORT", replace(server.AT_PEER_PORT, connections_of_address=100))

    async def test(cloud: Cloud) -> None:
        held = [await asyncio.open_connection("127.0.0.1", cloud["paris"].peer_port) for _ in range(300)]
        tls = peer_tls(cloud["lyon"].options.tls)
        url = f"https://127.0.0.1:{cloud['paris'].peer_port}/compute/v2.1/servers"
        async with aiohttp.ClientSession() as session, session.get(url, ssl=tls) as answer:
            assert answer.status == 200
        for _reader, writer in held:
            writer.close()

    run(tmp_path, test, "paris", "lyon")


def test_connections_that_are_dropped_as_they_arrive_are_not_counted_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free the place of a connection whose task is cancelled before its handshake has begun."""
    monkeypatch.setattr(server, "AT_PEER_PORT", replace(server.AT_PEER_PORT, connections_of_address=3))

    async def test(cloud: Cloud) -> None:
        peers = cloud["paris"].server._peer_limiter
        held = [socket.create_connection(("127.0.0.1", cloud["paris"].peer_port)) for _ in range(40)]  # the loop sees them all at once
        await asyncio.sleep(0.2)
        assert sum(address.count for address in peers._addresses.values()) == 3
        for each in held:
            each.close()
        async with asyncio.timeout(10):
            while peers._count:
                await asyncio.sleep(0.05)

    run(tmp_path, test, "paris")


@pytest.mark.parametrize("line", ["GET /atoll/ping", "GET /atoll/ping HTTP/2.0", "POST /atoll/join"])
def test_other_versions_of_http_are_refused_at_the_peer_port(tmp_path: Path, line: str) -> None:
    async def test(cloud: Cloud) -> None:
        tls = peer_tls(cloud["lyon"].options.tls)
        reader, writer = await asyncio.open_connection("127.0.0.1", cloud["paris"].peer_port, ssl=tls)
        writer.write(f"{line}\r\nHost: x\r\n\r\n".encode())
        assert b" 400 " in await reader.readline()
        writer.close()

    run(tmp_path, test, "paris", "lyon")


def test_a_stranger_at_the_peer_port_is_refused_a_few_times_only(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        url = f"https://127.0.0.1:{cloud['paris'].peer_port}/atoll/join"
        statuses = []
        async with aiohttp.ClientSession() as session:
            for _ in range(40):
                async with session.get(url, ssl=peer_tls(None)) as answer:
                    statuses.append(answer.status)
        assert statuses[0] == 403
        assert 429 in statuses

    run(tmp_path, test, "paris", "lyon")


@pytest.mark.parametrize(("announce", "status"), [("", 403), ("lan0", 200)])
def test_stranger_at_the_peer_port_learns_what_is_announced_alone(tmp_path: Path, announce: str, status: int) -> None:
    async def test(cloud: Cloud) -> None:
        base = f"https://127.0.0.1:{cloud['paris'].peer_port}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base}/atoll/announcement", ssl=peer_tls(None)) as answer:
                assert answer.status == status
                if status == 200:
                    url = f"http://127.0.0.1:{cloud['paris'].public_port}/identity/v3"
                    assert await answer.json() == {"cloud": "test", "site": "paris", "region": "r", "url": url}
            for method, path in (
                ("POST", "/atoll/announcement"),
                ("GET", "/atoll/announcement?x=1"),
                ("GET", "/atoll/announcement/"),
                ("GET", "/atoll/ping"),
                ("GET", "/atoll/edge-zone"),
                ("GET", "/compute/v2.1/servers"),
            ):
                async with session.request(method, base + path, ssl=peer_tls(None)) as answer:
                    assert answer.status == 403, (method, path)

    def announced(cloud: Cloud) -> None:
        cloud["paris"].options = replace(cloud["paris"].options, announce=announce)

    run(tmp_path, test, "paris", prepare=announced)


# --- Services behind it


def refuse(_environ, start_response):
    """Answer as keystonemiddleware does, without reading the body."""
    start_response("401 Unauthorized", [("Content-Length", "2")])
    return [b"no"]


@pytest.fixture
def service():
    """Start services of 16 threads, and return their URLs."""
    made = []

    def make() -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        made.append(Service(listener, refuse))
        made[-1].start_in_thread()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield make
    stops = [threading.Thread(target=each.stop) for each in made]
    for stop in stops:
        stop.start()
    for each, stop in zip(made, stops, strict=True):
        stop.join()
        each._listener.close()


def slow_bodies() -> list[bytes]:
    """Send requests that announce a body and send one byte of it."""
    return [
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nX-Scope: {{compute: {scope}, image: {scope}}}\r\nContent-Type: {kind}\r\n"
        "Content-Length: 100000\r\n\r\n1".encode()
        for scope in ("paris", "lyon")
        for kind in ("application/json", "application/octet-stream")
        for path in ("/compute/v2.1/servers", "/image/v2/images/x/file")
    ]


def test_bodies_without_a_token_hold_no_thread_of_any_site(tmp_path: Path, service) -> None:
    async def main() -> None:
        cloud = Cloud(tmp_path, "paris", "lyon")
        for name in ("paris", "lyon"):
            cloud[name].options = replace(cloud[name].options, services=dict.fromkeys(cloud[name].options.services, service()))
        async with cloud:
            held = [await connect(cloud, data) for data in slow_bodies() * THREADS]
            await asyncio.sleep(0.3)
            for site in ("paris", "lyon"):
                for path in ("/compute/v2.1/servers/x", "/image/v2/images/x"):
                    async with asyncio.timeout(3):
                        scope = {"X-Scope": f"{{compute: {site}, image: {site}}}"}
                        assert (await cloud.ask(site, "GET", path, headers=scope))[0] == 401
            for _reader, writer in held:
                writer.close()

    asyncio.run(main())


def test_an_upload_begins_when_the_token_is_known_to_be_good(tmp_path: Path) -> None:
    async def test(cloud: Cloud) -> None:
        good = ["good"]

        def refuse(request: web.Request) -> web.Response | None:
            asked = request.headers.get("X-Subject-Token")
            return web.json_response({}, status=404) if asked is not None and asked not in good else None

        cloud["paris"].services.refuse = refuse
        path = "/image/v2/images/i/file"
        for held, expected in (("", 401), ("bad", 401), ("good", 204)):
            headers = {"Content-Type": "application/octet-stream", "Expect": "100-continue"} | ({"X-Auth-Token": held} if held else {})
            status, _, _ = await cloud.ask("paris", "PUT", path, data=b"data", headers=headers)
            assert status == expected, held
        assert [asked for asked in cloud["paris"].services.requests if asked[0] == "PUT"] == [("PUT", "/image/v2/images/i/file")]

    run(tmp_path, test)


def test_an_upload_keeps_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body.Upload.__init__, "__defaults__", (0.3, 4096))

    async def test(cloud: Cloud) -> None:
        head = b"PUT /image/v2/images/i/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: t\r\nContent-Type: application/octet-stream\r\n"
        reader, writer = await connect(cloud, head + b"Content-Length: 100000\r\n\r\n")
        answer = asyncio.ensure_future(reader.readline())
        async with asyncio.timeout(5):
            while not answer.done():
                writer.write(b"x")
                await asyncio.sleep(0.02)
        assert answer.result().split()[1] == b"400"
        writer.close()
        assert (await cloud.ask("paris", "GET", "/compute/v2.1/servers"))[0] == 200

    run(tmp_path, test)


def test_a_client_that_does_not_read_holds_no_answer_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SWEEP_S", 0.05)
    monkeypatch.setattr(listener, "WRITE_S", 0.3)

    async def test(cloud: Cloud) -> None:
        held = token(cloud)
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", cloud["paris"].public_port))
            request = f"GET /image/v2/images/i/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {held}\r\n\r\n"
            await loop.sock_sendall(connection, request.encode())
            await asyncio.sleep(1.5)
            assert not cloud["paris"].server._limiter._transfers, "the transfer must be broken off"
        assert (await cloud.ask("paris", "GET", "/compute/v2.1/servers", headers={"X-Auth-Token": held}))[0] == 200

    run(tmp_path, test)


def test_too_many_requests_is_an_answer_of_the_gateway() -> None:
    error = TooMany("too many requests")
    assert isinstance(error, Refused)
    assert (error.status, error.message) == (429, "too many requests: try again in a moment")
