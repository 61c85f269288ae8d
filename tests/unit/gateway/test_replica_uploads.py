"""Data of a replicated image go to the image that the request is about, also if another owner's image has its id elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rights_world import World


async def two_owners(world: World) -> str:
    """Have an image of eve at brest and metz, and one of ann under its id at pau; neither has data yet."""
    replicated = {"name": "i", "visibility": "private"}
    made = await world.ask("brest", "eve", ("POST", "image", "/v2/images"), replicated, scope="{image: brest & metz}")
    image = str(made.json()["id"])
    other = {"name": "i", "id": image, "owner": "ann", "visibility": "private", "atoll_keep": "pau"}
    assert (await world.ask("pau", "admin", ("POST", "image", "/v2/images"), other, scope="{image: pau}")).status == 201
    return image


@pytest.mark.parametrize(
    ("user", "site", "scope"),
    [("admin", "pau", "{image: pau}"), ("admin", "brest", "{image: pau}"), ("admin", "pau", ""), ("ann", "pau", "")],
)
@pytest.mark.parametrize("cut", ["", "brest"])
def test_data_for_the_other_image(tmp_path: Path, user: str, site: str, scope: str, cut: str) -> None:
    """An administrator may write to both images; the gateway used to fill the replicated one."""

    async def main() -> None:
        world = World(tmp_path)
        image = await two_owners(world)
        world.cut = {cut} - {site}
        reply = await world.ask(site, user, ("PUT", "image", f"/v2/images/{image}/file"), b"data of ann", scope=scope)
        assert reply.status == 204
        world.cut = set()
        await world.settle(3)
        assert {name: node.services.data for name, node in world.nodes.items()} == {"brest": {}, "metz": {}, "pau": {image: b"data of ann"}}
        world.close()

    asyncio.run(main())


@pytest.mark.parametrize("scope", ["", "{image: metz}", "{image: brest & metz}"])
def test_data_for_the_replicated_image(tmp_path: Path, scope: str) -> None:
    async def main() -> None:
        world = World(tmp_path)
        image = await two_owners(world)
        reply = await world.ask("brest", "eve", ("PUT", "image", f"/v2/images/{image}/file"), b"data of eve", scope=scope)
        assert reply.status == 204
        await world.settle(3)
        assert world["pau"].services.data == {}
        assert world["brest"].services.data or world["metz"].services.data
        world.close()

    asyncio.run(main())
