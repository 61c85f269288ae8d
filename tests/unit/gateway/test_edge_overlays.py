"""Discovery prefers, of sites about as near, one that holds what a server from an overlay needs: for users with a right to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gateway_cloud import Cloud

from atoll.gateway.edge.discovery import OVERLAY, PATH
from atoll.gateway.overlays.bases import data_hash
from atoll.identifiers import cached_base, cached_launch

ID, BASE = "0a0a0a0a-0000-4000-8000-000000000001", "0a0a0a0a-0000-4000-8000-000000000002"
KEY = "ed25519:" + "1" * 64
COMMON = {"status": "active", "owner": "p1", "size": 9, "visibility": "private", "created_at": "2026-01-01", "os_hash_algo": "sha512"}
IMAGES: dict[str, dict[str, Any]] = {
    ID: {**COMMON, "id": ID, "os_hash_value": "a" * 128, "atoll_cloudlet_base": "d" * 64, "atoll_cloudlet_key": KEY},
    BASE: {**COMMON, "id": BASE, "os_hash_value": "b" * 128, "atoll_cloudlet_digest": "d" * 64},
}
SITES = ("brest", "metz", "pau", "nice")
RTTS_MS = {("brest", "metz"): 3.0, ("brest", "pau"): 4.0, ("brest", "nice"): 30.0}


class World:
    """Sites of which brest is the device's; metz and pau are near, and nice is far."""

    def __init__(self, cloud: Cloud, directory: Path) -> None:
        self.cloud = cloud
        self.directory = directory

    def keep(self, site: str, *, launch: bool = False) -> None:
        """Give a site the overlay and the base, and its cache the launch image."""
        self.cloud[site].services.images |= IMAGES
        if launch:
            name = cached_launch(cached_base(data_hash(IMAGES[BASE]), "d" * 64, ""), data_hash(IMAGES[ID]), KEY)
            made = self.directory / site / "cloudlet" / "cache" / name
            made.mkdir(parents=True)
            (made / "disk").write_bytes(b"disk")

    async def ask(self, token: str = "member", overlay: str | None = ID) -> Any:
        headers = {"X-Auth-Token": token} | ({OVERLAY: overlay} if overlay is not None else {})
        status, body, _headers = await self.cloud.ask("brest", "POST", PATH, json={}, headers=headers)
        return body["edgeCloudZoneName"] if status == 200 else (status, body["code"])


def run(directory: Path, trial: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        cloud = Cloud(directory, *SITES)
        for name in SITES:
            site = cloud[name]
            site.options = replace(site.options, data=directory / name / "gateway")
            site.services.people |= {"member": ("p1", ("member",)), "stranger": ("p2", ("member",))}
            site.services.refuse = hidden
            site.mesh.rtts_ms = {frozenset(pair): rtt_ms for pair, rtt_ms in RTTS_MS.items()}
        async with cloud:
            await trial(World(cloud, directory))

    asyncio.run(main())


def hidden(request: web.Request) -> web.Response | None:
    """Hide all images from the stranger, as Glance does."""
    if request.headers.get("X-Auth-Token") != "stranger" or not request.path.startswith("/image/v2/images"):
        return None
    return web.json_response({"images": []}) if request.path.endswith("/images") else web.Response(status=404)


def test_launch_image_comes_before_the_base_and_that_before_the_distance(tmp_path: Path) -> None:
    async def trial(world: World) -> None:
        assert await world.ask() == "brest"
        world.keep("pau")
        assert await world.ask() == "pau"
        world.keep("metz", launch=True)
        assert await world.ask() == "metz"
        world.cloud["metz"].services.free_ram_mb = 0
        for site in SITES:
            world.cloud[site].now_s += 6
        assert await world.ask() == "pau", "a site without room is not preferred"
        assert await world.ask(overlay=None) == "brest"

    run(tmp_path, trial)


def test_far_site_is_not_preferred(tmp_path: Path) -> None:
    async def trial(world: World) -> None:
        world.keep("nice", launch=True)
        assert await world.ask() == "brest"
        assert not any("/image/" in path for _method, path in world.cloud["nice"].services.requests)

    run(tmp_path, trial)


def test_user_without_a_right_sees_the_nearest_site_as_without_an_overlay(tmp_path: Path) -> None:
    async def trial(world: World) -> None:
        world.keep("metz", launch=True)
        world.keep("pau")
        assert (await world.ask(), await world.ask("stranger"), await world.ask("stranger", None)) == ("metz", "brest", "brest")
        # Another user's image with the id of the overlay at the holder gives no right either.
        world.cloud["metz"].services.images[ID] = {**IMAGES[ID], "os_hash_value": "c" * 128}
        world.cloud["metz"].services.images.pop(BASE)
        assert await world.ask() == "pau"

    run(tmp_path, trial)


@pytest.mark.parametrize("overlay", ["x", "../images", ID + "/x", "%2e"])
def test_overlay_that_is_not_an_id(tmp_path: Path, overlay: str) -> None:
    async def trial(world: World) -> None:
        assert await world.ask(overlay=overlay) == (400, "INVALID_ARGUMENT")

    run(tmp_path, trial)


def test_site_that_does_not_answer_or_lies_holds_nothing(tmp_path: Path) -> None:
    async def trial(world: World) -> None:
        world.keep("metz", launch=True)
        world.cloud["metz"].services.refuse = lambda request: web.Response(status=500) if request.path.startswith("/image") else None
        assert await world.ask() == "brest"
        world.cloud["metz"].services.refuse = lambda request: web.Response(text="{") if request.path.startswith("/image") else None
        assert await world.ask() == "brest"
        world.cloud.set_state("metz", "unreachable")
        assert await world.ask() == "brest"

    run(tmp_path, trial)
