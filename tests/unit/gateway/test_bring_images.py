"""Transfers of images from one site to another, between real servers that fail in the middle."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from bring_sites import Site, Sites, running

from atoll.gateway.bring import pull as pulling
from atoll.gateway.bring.images import ImageTransfers
from atoll.gateway.bring.partial_file import CHUNK
from atoll.gateway.bring.pull import STREAMS, PullFailed, SourceImage

DATA = random.Random(5).randbytes(4 * CHUNK + 12345)
COUNT = 5

Trial = Callable[[list[Site], list[Sites]], Awaitable[None]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "RETRY_S", 0.01)
    monkeypatch.setattr(pulling, "STALL_S", 0.5)


def cloud(trial: Trial, *names: str) -> None:
    """Run a trial in a cloud whose first site is the one that pulls."""

    async def main() -> None:
        sites = [Site(name) for name in ("here", *(names or ("lyon",)))]
        async with running(*sites) as views:
            await trial(sites, views)

    asyncio.run(main())


def copy(holder: Site, other: Site, image: str) -> None:
    other.images[image], other.data[image] = holder.images[image], holder.data[image]


def said(sites: list[Site], image: str, *names: str) -> dict[str, dict[str, Any]]:
    """Return the descriptions of an image by some sites."""
    bodies = [site.images[image] for site in sites if image in site.images and site.name != "here"]
    return {name: dict(bodies[0]) for name in names}


def described(site: Site, image: str) -> SourceImage:
    """Return an image as a transfer gets it."""
    return SourceImage.described(site.images[image], "private")


def chunks_asked(view: Sites, site: str) -> list[str]:
    return [target for asked, _, target in view.asked if asked == site and "/chunks?" in target]


def test_image_arrives_under_its_own_id(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        here, lyon = sites
        image = lyon.add_image(DATA, os_distro="debian", tags=["x"])
        await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon"))
        assert here.data[image] == DATA
        expected = {"id": image, "name": "i", "visibility": "private", "owner": "ours", "os_distro": "debian", "tags": ["x"]}
        assert here.images[image] == {**expected, "disk_format": "raw", "status": "active"}
        assert list(tmp_path.iterdir()) == []

    cloud(trial)


def test_empty_image_arrives(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        image = sites[1].add_image(b"")
        await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon"))
        assert sites[0].data[image] == b""

    cloud(trial)


def breaking(site: Site, times: int, how: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
    """Have the first chunks that a site serves fail."""
    left = times

    async def fault(request: web.Request) -> web.StreamResponse | None:
        nonlocal left
        if not request.path.endswith("/chunks") or not left:
            return None
        left -= 1
        return await how(request)

    site.fault = fault


async def cut(request: web.Request) -> web.StreamResponse:
    """Send half of a chunk, then close the connection."""
    response = web.StreamResponse()
    response.content_length = int(request.query["length"])
    await response.prepare(request)
    await response.write(bytes(response.content_length // 2))
    assert request.transport is not None
    request.transport.abort()
    return response


async def stall(request: web.Request) -> web.StreamResponse:
    """Send half of a chunk, then nothing, on a connection that stays open."""
    response = web.StreamResponse()
    response.content_length = int(request.query["length"])
    await response.prepare(request)
    await response.write(bytes(response.content_length // 2))
    await asyncio.sleep(60)
    return response


async def corrupt(request: web.Request) -> web.StreamResponse:
    """Send all bytes of another chunk, with their own checksum."""
    offset, length = int(request.query["offset"]), int(request.query["length"])
    body = bytearray(DATA[offset : offset + length])
    body[length // 2] ^= 1
    return web.Response(body=bytes(body), headers={"Content-Digest": "sha-256=:AAAA:"})


@pytest.mark.parametrize("how", [cut, stall, corrupt])
def test_chunk_that_fails_is_fetched_again(tmp_path: Path, how: Callable[[web.Request], Awaitable[web.StreamResponse]]):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        image = sites[1].add_image(DATA)
        breaking(sites[1], 3, how)
        await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon"))
        assert sites[0].data[image] == DATA
        assert len(chunks_asked(views[0], "lyon")) == COUNT + 3

    cloud(trial)


def test_another_holder_goes_on_when_one_dies(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        here, lyon, nice = sites
        image = lyon.add_image(DATA)
        copy(lyon, nice, image)
        served = 0

        async def fault(request: web.Request) -> web.StreamResponse | None:
            nonlocal served
            if request.path.endswith("/chunks"):
                served += 1
                if served > 2:
                    return await cut(request)
            return None

        lyon.fault = fault
        await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon", "nice"))
        assert here.data[image] == DATA
        assert len(chunks_asked(views[0], "nice")) == COUNT - 2

    cloud(trial, "lyon", "nice")


def test_holder_that_has_it_no_more_is_left(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        here, _lyon, nice = sites
        image = nice.add_image(DATA)
        holders = said(sites, image, "lyon", "nice")
        await ImageTransfers(views[0], tmp_path).pull(image, holders)
        assert here.data[image] == DATA
        del nice.images[image], nice.data[image], here.images[image]
        with pytest.raises(PullFailed, match="no site has it"):
            await ImageTransfers(views[0], tmp_path).pull(image, holders)

    cloud(trial, "lyon", "nice")


def test_restart_fetches_only_what_is_missing(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        here, lyon = sites
        image = lyon.add_image(DATA)

        async def fault(request: web.Request) -> web.StreamResponse | None:
            last = request.path.endswith("/chunks") and int(request.query["offset"]) >= 3 * CHUNK
            return await cut(request) if last else None

        lyon.fault = fault
        images = ImageTransfers(views[0], tmp_path)
        wish = asyncio.create_task(images.pull(image, said(sites, image, "lyon")))
        while not (images.status() and images.status()[0]["have"] == 3 * CHUNK):
            await asyncio.sleep(0.01)
        await images.stop()
        assert (await asyncio.gather(wish, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        lyon.fault = None
        views[0].asked.clear()
        await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon"))
        assert here.data[image] == DATA
        assert len(chunks_asked(views[0], "lyon")) == 2

    cloud(trial)


def test_chunks_that_the_disk_has_lost_are_fetched_again(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        here, lyon = sites
        image = lyon.add_image(DATA)
        pull = pulling.ImagePull(views[0], described(sites[1], image), ["lyon"], tmp_path, 5)
        partial = pull.begin()
        await pull.fill()
        partial.write(CHUNK + 7, b"lost")  # and the journal still lists the chunk
        partial.close()
        views[0].asked.clear()
        await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon"))
        assert here.data[image] == DATA
        assert len(chunks_asked(views[0], "lyon")) == 1

    cloud(trial)


def test_image_with_another_hash_is_refused(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        image = sites[1].add_image(DATA, os_hash_value="0" * 128)
        with pytest.raises(PullFailed, match="do not have the image"):
            await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon"))
        assert "status" not in sites[0].images.get(image, {}) or sites[0].images[image]["status"] == "queued"
        assert list(tmp_path.iterdir()) == []

    cloud(trial)


def test_patience_ends(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        image = sites[1].add_image(DATA)
        breaking(sites[1], 10**6, cut)
        with pytest.raises(PullFailed, match="broke off"):
            await ImageTransfers(views[0], tmp_path, patience_s=0.2).pull(image, said(sites, image, "lyon"))

    cloud(trial)


def test_two_wishes_share_one_pull_and_survive_each_other(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        image = sites[1].add_image(DATA)
        images = ImageTransfers(views[0], tmp_path)
        first, second = (asyncio.create_task(images.pull(image, said(sites, image, "lyon"))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert first.cancelled()
        assert sites[0].data[image] == DATA
        assert len(chunks_asked(views[0], "lyon")) == COUNT
        assert images.status() == []

    cloud(trial)


def test_an_upload_left_by_an_earlier_attempt_is_completed(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        here, lyon = sites
        image = lyon.add_image(DATA)
        here.images[image] = {"id": image, "status": "queued"}
        await ImageTransfers(views[0], tmp_path).pull(image, said(sites, image, "lyon"))
        assert here.images[image]["status"] == "active"

    cloud(trial)


def test_memory_does_not_grow_with_the_image(tmp_path: Path):
    """Both ends are in this process: a chunk for each stream at the holder, and a few pieces at the other end."""
    big = bytes(48 * CHUNK)

    async def trial(sites: list[Site], views: list[Sites]) -> None:
        image = sites[1].add_image(big)
        pull = pulling.ImagePull(views[0], described(sites[1], image), ["lyon"], tmp_path, 5)
        tracemalloc.start()
        try:
            partial = pull.begin()
            await pull.fill()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        partial.close()
        # The Glance of this test holds what it sends as well, and so does its server.
        assert peak < (4 * STREAMS + 2) * CHUNK < len(big)

    cloud(trial)


def test_old_partial_files_are_forgotten(tmp_path: Path):
    async def trial(sites: list[Site], views: list[Sites]) -> None:
        left = tmp_path / "left"
        left.touch()
        images = ImageTransfers(views[0], tmp_path)
        images.forget_old(left.stat().st_mtime + 86400)
        assert left.exists()
        images.forget_old(left.stat().st_mtime + 8 * 86400)
        assert not left.exists()

    cloud(trial)
