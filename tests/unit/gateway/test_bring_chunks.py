"""The chunks of images that a site serves to other gateways."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from bring_sites import Site, running

from atoll.gateway.bring import chunks
from atoll.gateway.bring.partial_file import CHUNK

DATA = bytes(range(256)) * 10


def ask(*targets: str, before: Callable[[Site], Awaitable[None]] | None = None, **more: str) -> list[tuple[int, bytes, str]]:
    """Return status, body and digest of the answers; IMAGE in a target stands for an image's id."""

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
def test_an_invalid_image_id_causes_no_request(identifier: str):
    assert [status for status, _, _ in ask(f"{identifier}/chunks?offset=0&length=1")] == [404]


def hold_the_only_slot(give_up: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Check that a chunk is served after a client has asked for another one, and then did as `give_up` says."""

    async def main() -> None:
        lyon = Site("lyon")
        image = lyon.add_image(bytes(CHUNK))
        async with running(lyon) as (view,):
            host, port = view.urls["lyon"].removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(f"GET /atoll/images/{image}/chunks?offset=0&length={CHUNK} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await give_up(reader, writer)
            async with asyncio.timeout(5), view.session.get(f"{view.urls['lyon']}/atoll/images/{image}/chunks?offset=0&length=9") as answer:
                assert await answer.read() == bytes(9), "the only slot must be free again"
            writer.close()

    asyncio.run(main())


def test_a_client_that_accepts_no_data_is_dropped(monkeypatch: pytest.MonkeyPatch):
    """A site that is cut off in the middle must not hold a chunk's memory until TCP gives up."""
    monkeypatch.setattr(chunks, "_SLOWEST_S", 0.1)
    monkeypatch.setattr(chunks, "SLOTS", 1)
    hold_the_only_slot(lambda _reader, _writer: asyncio.sleep(0.3))


def test_a_client_that_hangs_up_is_not_an_error_of_this_site(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Gateways close their connections when they give a site up, also in the middle of a chunk."""
    monkeypatch.setattr(chunks, "SLOTS", 1)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.abort()

    hold_the_only_slot(hang_up)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
