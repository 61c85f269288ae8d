"""A request takes one way through the gateway: it enters each module once."""

import asyncio
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from rights_world import World

import atoll.gateway
from atoll.gateway.request import call as call_module

ROOT = Path(atoll.gateway.__file__).parent

LEAVES = frozenset(("call.py", "bodies.py", "context.py", "paths.py", "headers.py", "target.py", "union.py", "requester.py", "peer.py"))
"""Modules of plain values and pure functions, which any stage may use."""


def entered(way: list[str]) -> list[str]:
    """The modules of a way that were entered again after they had been left for one further on."""
    seen: list[str] = []
    again = []
    for module in way:
        if module in seen and seen[-1] != module:
            again.append(module)
        if module not in seen:
            seen.append(module)
    return again


async def way_of(world: World, site: str, there: str, call: tuple[str, str, str], body: Any) -> list[str]:
    """The modules that a request calls, in order, each as often as one of its functions was called from another module."""
    way: list[str] = []
    begun: list[FrameType] = []
    elsewhere = world.nodes[there].serve_peer

    async def unobserved(peer: str, call: Any) -> Any:
        sys.setprofile(None)
        try:
            return await elsewhere(peer, call)
        finally:
            sys.setprofile(note)

    world.nodes[there].serve_peer = unobserved  # type: ignore[method-assign]

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
def test_the_body_of_a_request_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    parsed: list[bytes] = []
    loads = call_module._loads
    monkeypatch.setattr(call_module, "_loads", lambda body: parsed.append(body) or loads(body))

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
