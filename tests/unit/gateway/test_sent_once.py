"""Requests that write are sent once: a service that dies after it received one may have carried it out."""

import asyncio
from collections import Counter

import aiohttp
import pytest

from atoll.gateway.connections import session

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"


async def times_received(session_of, method):
    """Return how often a service receives a request if it closes the kept connection instead of answering."""
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
    async with session_of(aiohttp.TCPConnector()) as client:
        async with client.post(url) as answer:
            await answer.read()
        with pytest.raises(aiohttp.ClientError):
            async with client.request(method, url):
                pass
    server.close()
    return seen[method]


@pytest.fixture(autouse=True)
def _as_upstream(monkeypatch):
    monkeypatch.setattr("aiohttp.client.IDEMPOTENT_METHODS", aiohttp.client.IDEMPOTENT_METHODS | {"PUT", "DELETE"})


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_a_request_that_writes_is_sent_once(method):
    assert asyncio.run(times_received(session, method)) == 1


def test_a_request_that_reads_is_sent_again():
    assert asyncio.run(times_received(session, "GET")) == 2


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_upstream_sends_it_twice(method):
    """Fail when aiohttp no longer repeats such requests, so that `session` need not prevent it."""
    assert asyncio.run(times_received(lambda connector: aiohttp.ClientSession(connector=connector), method)) == 2
