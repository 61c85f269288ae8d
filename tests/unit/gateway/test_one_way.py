"""A request goes through each module of the gateway once; its path is matched once, its body parsed once."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from rights_world import World

import atoll.gateway
from atoll.gateway.copies import clashes, perform
from atoll.gateway.request import call as call_module
from atoll.gateway.resolve import recognise, routes

ROOT = Path(atoll.gateway.__file__).parent

LEAVES = frozenset(("call.py", "bodies.py", "context.py", "paths.py", "headers.py", "target.py", "union.py", "requester.py", "peer.py"))
"""Modules of values and pure functions, which any stage may use."""


def entered(way: list[str]) -> list[str]:
    """Return the modules that were entered again after another module had been entered."""
    seen: list[str] = []
    again = []
    for module in way:
        if module in seen and seen[-1] != module:
            again.append(module)
        if module not in seen:
            seen.append(module)
    return again


async def way_of(world: World, site: str, there: str, call: tuple[str, str, str], body: Any) -> list[str]:
    """Return the modules that a request enters, in order: one entry for each call from another module."""
    way: list[str] = []
    begun: list[FrameType] = []
    elsewhere = world.nodes[there].serve_peer

    async def unobserved(peer: str, call: Any) -> Any:
        sys.setprofile(None)
        try:
            return await elsewhere(peer, call)
        finally:
            sys.setprofile(note)

    world.nodes[there].serve_peer = unobserved

    def note(frame: FrameType, event: str, _argument: object) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(str(ROOT)) or Path(path).name in LEAVES or frame.f_code.co_name.startswith("<"):
            return
        if frame in begun:
            return  # a coroutine that goes on
        begun.append(frame)
        caller = frame.f_back
        if caller is not None and caller.f_code.co_filename == path:
            return
        module = str(Path(path).relative_to(ROOT))
        way.append(module)

    sys.setprofile(note)
    try:
        reply = await world.ask(site, "alice", call, body)
    finally:
        sys.setprofile(None)
    assert reply.ok, reply.body
    return way


@pytest.mark.parametrize("zone", ["metz", "brest"])
def test_the_body_of_a_request_is_parsed_once_and_its_path_matched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    parsed: list[bytes] = []
    matched: list[str] = []
    loads, match = call_module._loads, routes.match
    monkeypatch.setattr(call_module, "_loads", lambda body: parsed.append(body) or loads(body))
    for module in (recognise, clashes, perform):
        monkeypatch.setattr(
            module, "match", lambda method, service, path: matched.append(f"{method} {path}") or match(method, service, path)
        )

    async def main() -> None:
        world = World(tmp_path)
        try:
            world[zone].services.images["i"] = {"id": "i", "owner": "alice", "visibility": "private", "status": "active"}
            body = {"server": {"name": "web", "availability_zone": zone, "imageRef": "i", "networks": "none"}}
            reply = await world.ask("brest", "alice", ("POST", "compute", "/v2.1/servers"), body)
            assert reply.ok, reply.body
        finally:
            world.close()

    asyncio.run(main())
    assert len([body for body in parsed if b"imageRef" in body]) == 1
    assert matched == ["POST /v2.1/servers"]


def test_how_often_an_image_that_is_brought_is_looked_up(tmp_path: Path) -> None:
    """Bound the requests that read the image: more of them would be round trips to no purpose.

    Other sites are asked twice: with the user's rights, and for the site where the image was created. The lookups at the own site cost no
    round trip over the WAN: after the refusal, under the lock against concurrent transfers, for the original, before the creation, and
    afterwards with the user's rights.
    """

    async def main() -> Counter[str]:
        world = World(tmp_path)
        looked_up: Counter[str] = Counter()
        identifier = ""

        def noted(name: str, serve: Any) -> Any:
            async def answer(call: Any) -> Any:
                looked_up[name] += (call.method, call.path) == ("GET", f"/v2/images/{identifier}")
                return await serve(call)

            return answer

        try:
            made = await world.ask("metz", "alice", ("POST", "image", "/v2/images"), {"name": "i"})
            identifier = made.json()["id"]
            await world.ask("metz", "alice", ("PUT", "image", f"/v2/images/{identifier}/file"), b"data")
            for name, node in world.nodes.items():
                node.serve = noted(name, node.serve)
            body = {"server": {"name": "web", "imageRef": identifier, "networks": "none"}}
            reply = await world.ask("brest", "alice", ("POST", "compute", "/v2.1/servers"), body)
            assert reply.ok, reply.body
        finally:
            world.close()
        return looked_up

    looked_up = asyncio.run(main())
    assert looked_up["brest"] <= 5
    assert (looked_up["metz"], looked_up["pau"]) == (2, 2)


def test_a_server_that_is_made_elsewhere_goes_one_way(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        try:
            here, there = list(world.nodes)[:2]
            world[there].services.images["i"] = {"id": "i", "owner": "alice", "visibility": "private", "status": "active"}
            body = {"server": {"name": "web", "availability_zone": there, "imageRef": "i"}}
            way = await way_of(world, here, there, ("POST", "compute", "/v2.1/servers"), body)
            assert not entered(way)
        finally:
            world.close()

    asyncio.run(main())
