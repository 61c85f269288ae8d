"""What a site serves of its images to other gateways."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from bring_sites import Site, running

from atoll.gateway.bring import chunks
from atoll.gateway.bring.partial import CHUNK

DATA = bytes(range(256)) * 10


def ask(*targets: str, before: Callable[[Site], Awaitable[None]] | None = None, **more: str) -> list[tuple[int, bytes, str]]:
    """Status, body and digest of the answers; IMAGE in a target stands for an image's id."""

    async def main() -> list[tuple[int, bytes, str]]:
        lyon = Site("lyon")
        image = lyon.add_image(DATA, **more)
        async with running(lyon) as (view,), aiohttp.ClientSession() as session:
            answers = []
            for target in targets:
                async with session.get(f"{view.urls['lyon']}/atoll/images/{target.replace('IMAGE', image)}") as answer:
                    answers.append((answer.status, await answer.read(), answer.headers.get("Content-Digest", "")))
            return answers

    return asyncio.run(main())


def test_chunk_has_its_digest():
    ((status, body, digest),) = ask("IMAGE/chunks?offset=100&length=1000")
    assert (status, body) == (200, DATA[100:1100])
    assert digest == f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("offset=0", 400),
        ("offset=-1&length=5", 400),
        ("offset=0&length=0", 400),
        ("offset=0&length=1e3", 400),
        ("offset=٣&length=5", 400),
        (f"offset=0&length={CHUNK + 1}", 400),
        ("offset=9999999999999999999&length=1", 400),
        (f"offset={len(DATA)}&length=1", 404),
        (f"offset={len(DATA) - 1}&length=2", 404),
    ],
)
def test_what_makes_no_sense_is_refused(query: str, status: int):
    assert ask(f"IMAGE/chunks?{query}")[0][0] == status


@pytest.mark.parametrize("identifier", ["x", "..%2f..%2fv2%2fimages", "00000000-0000-0000-0000-000000000000%3fa=b"])
def test_what_is_no_image_id_goes_no_further(identifier: str):
    assert [status for status, _, _ in ask(f"{identifier}/chunks?offset=0&length=1")] == [404]


def test_who_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch):
    """Otherwise a site that is cut off in the middle would hold a chunk's memory for as long as TCP hopes."""
    monkeypatch.setattr(chunks, "_SLOWEST_S", 0.1)
    monkeypatch.setattr(chunks, "SLOTS", 1)

    async def main() -> None:
        lyon = Site("lyon")
        image = lyon.add_image(bytes(CHUNK))
        async with running(lyon) as (view,):
            host, port = view.urls["lyon"].removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(f"GET /atoll/images/{image}/chunks?offset=0&length={CHUNK} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await asyncio.sleep(0.3)
            async with asyncio.timeout(5), view.session.get(f"{view.urls['lyon']}/atoll/images/{image}/chunks?offset=0&length=9") as answer:
                assert await answer.read() == bytes(9)
            writer.close()

    asyncio.run(main())
