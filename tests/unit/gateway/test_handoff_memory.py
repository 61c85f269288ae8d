"""The memory of servers that are handed off, at the gateways: which memory is accepted, and how nova-compute is asked for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_cloud import Cloud

from atoll.gateway.handoffs import memory as module
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Departure
from atoll.gateway.handoffs.memory import ServerMemory
from atoll.identifiers import KEEP_MEMORY, KEPT_MEMORY, RESUMES

DEPARTURE = Departure("h", "s", "p", "nice", wish={"memory": "d", "ram": 512})


@pytest.fixture
def memory(tmp_path) -> ServerMemory:
    (tmp_path / "instances" / "s").mkdir(parents=True)
    (tmp_path / "cloudlet").mkdir()
    return ServerMemory(tmp_path / "instances", tmp_path / "cloudlet", tmp_path / "socket", frozenset({"lyon"}))


def test_memory_of_an_equal_and_trusted_site_alone_is_accepted(memory, tmp_path):
    assert (memory.ability(), memory.accepts("", "paris")) == ("", False), "a site without QEMU 9"
    (tmp_path / "cloudlet" / RESUMES).write_text("d" * 64)
    accepted = [memory.accepts(*given) for given in (("d" * 64, "paris"), ("e" * 64, "paris"), (None, "paris"), ("d" * 64, "lyon"))]
    assert accepted == [True, False, False, False], "lyon is a site with trust: local-admin"


def test_nova_is_asked_to_keep_the_memory_of_a_server_that_runs(memory, tmp_path):
    mark = tmp_path / "instances" / "s" / KEEP_MEMORY
    for departure in (Departure("h", "s", "p", "nice", active=False, wish={"memory": "d"}), Departure("h", "s", "p", "nice", wish={})):
        memory.ask(departure)
        assert not mark.exists()
    memory.ask(DEPARTURE)
    assert mark.exists()
    memory.ask_no_more(DEPARTURE)
    memory.ask_no_more(DEPARTURE)
    assert not mark.exists()


def test_kept_memory_is_sent_if_there_is_any(memory, tmp_path):
    def files() -> Any:
        return asyncio.run(memory.files(DEPARTURE, tmp_path, live=False))

    assert files() is None, "the guest did not release its interfaces, and was shut down"
    kept = tuple(tmp_path / "instances" / "s" / name for name in KEPT_MEMORY)
    kept[0].write_bytes(b"memory")
    assert files() == kept


@pytest.mark.parametrize("answer", [{"length": 9}, {"reason": "no such guest"}, HandoffRefused("killed")])
def test_memory_that_can_not_be_guessed_is_sent_at_the_end(memory, tmp_path, monkeypatch, answer):
    asked = []

    async def work(task: dict[str, str], *, program: str) -> dict[str, Any]:
        asked.append((task["server"], program))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "work", work)
    found = asyncio.run(memory.files(DEPARTURE, tmp_path, live=True))
    assert found == ((tmp_path / "live-memory", tmp_path / "live-hardware") if answer == {"length": 9} else None)
    assert asked == [("s", "atoll.services.nova.live_memory")]


def test_size_of_memory_is_bounded(memory):
    assert memory.most_bytes({"memory": "d", "ram": 512}) == 768 << 20
    assert memory.most_bytes({"ram": 512}) == 0


def test_sites_agree_on_memory_before_it_is_sent(tmp_path):
    """A destination that can't resume the memory is sent none, and a source that lies about it is not believed."""

    async def main() -> None:
        async with Cloud(tmp_path, "paris", "nice") as cloud:
            there = cloud["nice"].handoffs._memory
            (cloud["nice"].options.launch_images.parent).mkdir(parents=True, exist_ok=True)
            (cloud["nice"].options.launch_images.parent / RESUMES).write_text("n" * 64)
            assert [there.accepts(said * 64, "paris") for said in ("p", "n")] == [False, True]

    asyncio.run(main())


def test_program_reads_all_memory_but_the_hole_of_devices(tmp_path):
    pytest.importorskip("lxml")
    from atoll.services.nova import live_memory

    gib = 1 << 30
    for machine, size, areas in (
        ("pc-i440fx-10.0", 512 << 20, [(0, 0xA0000), (0x100000, 512 << 20)]),
        ("pc-i440fx-10.0", 4 * gib, [(0, 0xA0000), (0x100000, 3 * gib), (4 * gib, 5 * gib)]),
        ("pc-q35-10.0", 3 * gib, [(0, 0xA0000), (0x100000, 2 * gib), (4 * gib, 5 * gib)]),
    ):
        found = list(live_memory.pieces(machine, size))
        merged: list[list[int]] = []
        for _place, address, length in found:
            if merged and merged[-1][1] == address:
                merged[-1][1] += length
            else:
                merged.append([address, address + length])
        assert [tuple(each) for each in merged] == areas
        assert all(length <= live_memory.CHUNK for _, _, length in found)
        assert [place for place, _, _ in found] == sorted(place for place, _, _ in found)
        assert found[-1][0] + found[-1][2] == size
