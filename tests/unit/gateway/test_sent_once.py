"""What writes is sent once: a service that dies with a request in its hands may have done it."""

import asyncio
from collections import Counter

import aiohttp
import pytest

from atoll.gateway.sites import _session

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"


async def asked(session_of, method):
    """How often a service is asked that answers a first request and closes the connection at the next, and what becomes of that one."""
    seen: Counter[str] = Counter()

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            verb = head.split(b" ")[0].decode()
            seen[verb] += 1
            if verb != "POST":
                break
            writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with session_of(aiohttp.TCPConnector()) as session:
        async with session.post(url) as answer:
            await answer.read()
        with pytest.raises(aiohttp.ClientError):
            async with session.request(method, url):
                pass
    server.close()
    return seen[method]


@pytest.fixture(autouse=True)
def _as_upstream(monkeypatch):
    monkeypatch.setattr("aiohttp.client.IDEMPOTENT_METHODS", aiohttp.client.IDEMPOTENT_METHODS | {"PUT", "DELETE"})


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_what_writes_is_sent_once(method):
    assert asyncio.run(asked(_session, method)) == 1


def test_what_reads_is_sent_again():
    assert asyncio.run(asked(_session, "GET")) == 2


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_upstream_sends_it_twice(method):
    """If this fails, aiohttp has changed, and `_session` need not care."""
    assert asyncio.run(asked(lambda connector: aiohttp.ClientSession(connector=connector), method)) == 2
