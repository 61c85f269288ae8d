"""The transfer of real disks between two gateways, without guests: pieces that are lost, repeated requests, and what a source may do."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from gateway_cloud import Cloud

from atoll.cloudlet.base import make_base
from atoll.gateway.handoffs import copying, peer_api
from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Arrival, Arriving, Departure
from atoll.gateway.request.call import Unreachable

if TYPE_CHECKING:
    from atoll.gateway.handoffs.files import HandoffFiles
    from atoll.gateway.handoffs.memory import ServerMemory
    from atoll.gateway.handoffs.peer_client import PeerClient

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")

MIB = 1 << 20
SERVER, IMAGE, HANDOFF = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
WISH = {"name": "web", "image": IMAGE, "disk_bytes": 8 * MIB, "occupied_bytes": 4 * MIB}


class Disk:
    """A server's disk at a site, which a test changes as its guest would."""

    def __init__(self, data: Path) -> None:
        self.images = data / "instances" / "_base"
        self.image = self.images / sha1(IMAGE.encode()).hexdigest()
        self.path = data / "instances" / SERVER / "disk"
        self.images.mkdir(parents=True)
        self.path.parent.mkdir()
        self.content = bytearray(os.urandom(3 * MIB) + bytes(5 * MIB))
        self.image.write_bytes(self.content)
        self.write(0, b"")

    def write(self, offset: int, data: bytes) -> None:
        self.content[offset : offset + len(data)] = data
        raw = self.path.with_name("raw")
        raw.write_bytes(self.content)
        words = ("convert", "-f", "raw", "-O", "qcow2", "-B", self.image, "-F", "raw", raw, self.path)
        subprocess.run(["qemu-img", *words], check=True, capture_output=True)


def run(directory: Path, test: Callable[[Cloud, Disk, Departure], Any], wish: dict = WISH) -> None:
    async def main() -> None:
        async with Cloud(directory, "paris", "nice") as cloud:
            departure = Departure(HANDOFF, SERVER, "p1", "nice", wish=wish)
            cloud["nice"].handoffs.journal.arrive(Arrival(HANDOFF, SERVER, "p1", "paris", wish))
            await test(cloud, Disk(cloud["paris"].options.data.parent), departure)

    asyncio.run(main())


def arrived(cloud: Cloud, state: str) -> bytes:
    return (cloud["nice"].options.launch_images.parent / "handoffs" / HANDOFF / "states" / state / "disk").read_bytes()


def test_disk_arrives_although_pieces_and_answers_are_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "PIECE", 100_000)
    monkeypatch.setattr(copying, "patient", _impatient)

    async def test(cloud: Cloud, disk: Disk, departure: Departure) -> None:
        paris, send, count = cloud["paris"], cloud["paris"].sites.send, 0

        async def lossy(site: str, call: Any, timeout_s: float = 30.0, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count % 5 == 0:
                raise Unreachable(site, "lost on its way", sent=False)
            reply = await send(site, call, timeout_s, **more)
            if count % 7 == 0:
                raise Unreachable(site, "its answer is lost")
            return reply

        paris.sites.send = lossy
        first = await paris.handoffs._copying.send(departure, live=True)
        assert arrived(cloud, first.disk) == disk.content
        assert first.length > 3 * MIB, "nice has no image, so the whole disk was sent"
        disk.write(4 * MIB, os.urandom(300_000))
        second = await paris.handoffs._copying.send(departure, live=False)
        assert arrived(cloud, second.disk) == disk.content
        assert second.length < 350_000
        assert count > 40

    run(tmp_path, test)


def test_server_that_was_stopped_and_returned_is_copied_from_the_state_before(tmp_path):
    async def test(cloud: Cloud, disk: Disk, departure: Departure) -> None:
        send = cloud["paris"].handoffs._copying.send
        await send(departure, live=True)
        disk.write(4 * MIB, os.urandom(200_000))
        await send(departure, live=False)
        disk.write(5 * MIB, os.urandom(100_000))
        again = await send(departure, live=True)
        assert again.length < 350_000, "the whole disk is not sent again"
        assert arrived(cloud, again.disk) == disk.content

    run(tmp_path, test)


def test_launch_image_that_both_sites_have_is_not_sent(tmp_path):
    """The server's disk is that of an overlay, whose name in Nova's cache does not follow from the image's id."""

    async def test(cloud: Cloud, disk: Disk, departure: Departure) -> None:
        name, other = "a" * 64, "b" * 64
        for site in ("paris", "nice"):
            cache = cloud[site].options.launch_images
            cache.mkdir(parents=True, exist_ok=True)
            make_base({"disk": disk.image}, cache / name, "", "", lambda *_: None)
        files = cloud["nice"].handoffs._peer_api._files
        files.note_launches(HANDOFF, [other])
        disk.write(0, b"changed")
        whole = await cloud["paris"].handoffs._copying.send(departure, live=True)
        assert whole.length > 3 * MIB, "a user who may not have the launch image at nice is sent the whole disk"
        for site in ("paris", "nice"):
            cloud[site].handoffs._copying._files.remove(HANDOFF)
        files.note_launches(HANDOFF, [other, name])
        sent = await cloud["paris"].handoffs._copying.send(departure, live=True)
        assert arrived(cloud, sent.disk) == disk.content
        assert sent.length < 10_000

    run(tmp_path, test)


def test_image_that_both_sites_have_is_not_sent(tmp_path):
    async def test(cloud: Cloud, disk: Disk, departure: Departure) -> None:
        images = cloud["nice"].options.data.parent / "instances" / "_base"
        images.mkdir(parents=True)
        shutil.copy(disk.image, images)
        disk.write(0, b"changed")
        sent = await cloud["paris"].handoffs._copying.send(departure, live=True)
        assert arrived(cloud, sent.disk) == disk.content
        assert sent.length < 10_000

    run(tmp_path, test)


def test_disk_that_is_too_large_for_what_was_announced_is_refused(tmp_path):
    async def test(cloud: Cloud, _disk: Disk, departure: Departure) -> None:
        with pytest.raises(HandoffRefused, match="expected the disk of a server, of at most 1 MiB"):
            await cloud["paris"].handoffs._copying.send(departure, live=True)

    run(tmp_path, test, WISH | {"disk_bytes": MIB})


def test_residue_that_is_larger_than_the_announced_disk_is_refused(tmp_path):
    async def test(cloud: Cloud, _disk: Disk, departure: Departure) -> None:
        destination: Any = cloud["paris"].handoffs._outgoing._parts.destination
        bound = 9 * MIB + peer_api.RESIDUE_EXTRA
        assert await destination.piece(departure, bound - 3, b"abc") == 0, "a gap"
        with pytest.raises(HandoffRefused, match="the residue is larger than the announced disk"):
            await destination.piece(departure, bound - 3, b"abcd")

    run(tmp_path, test)


def test_hand_off_that_was_committed_takes_no_more_data(tmp_path):
    async def test(cloud: Cloud, _disk: Disk, departure: Departure) -> None:
        journal = cloud["nice"].handoffs.journal
        journal.settle(journal.arrival(HANDOFF), Arriving.COMMITTED)
        with pytest.raises(HandoffRefused, match="the hand-off is committed"):
            await cloud["paris"].handoffs._copying.send(departure, live=True)

    run(tmp_path, test)


def test_overlay_of_another_site_is_refused(tmp_path):
    """The hand-off is that of another site: nothing of it can be read or changed."""

    async def test(cloud: Cloud, _disk: Disk, departure: Departure) -> None:
        journal = cloud["nice"].handoffs.journal
        journal.arrive(Arrival(HANDOFF, SERVER, "p1", "lyon", WISH))
        with pytest.raises(HandoffRefused, match="nice has no record of the hand-off"):
            await cloud["paris"].handoffs._copying.send(departure, live=True)
        answer = await cloud["paris"].handoffs._outgoing._parts.destination.revoke(departure)
        assert (answer.state, journal.arrival(HANDOFF).state) == (Arriving.REFUSED, Arriving.PREPARED)

    run(tmp_path, test)


@pytest.mark.parametrize("said", [0, 3, -1, 11])
def test_destination_that_takes_no_data_ends_the_transfer(tmp_path, said):
    class Liar:
        async def piece(self, *_given: Any) -> int:
            return said

    residue = tmp_path / "residue"
    residue.write_bytes(bytes(10))
    sender = copying.Copying(
        cast("HandoffFiles", None), cast("PeerClient", Liar()), tmp_path, tmp_path / "key.pem", cast("ServerMemory", None)
    )
    with pytest.raises(HandoffRefused):
        asyncio.run(asyncio.wait_for(sender._send_file(Departure(HANDOFF, SERVER, "p1", "nice"), residue, 0.05), 10))


async def _impatient(attempt: Callable[[], Any], *_more: Any) -> Any:
    while True:
        try:
            return await attempt()
        except Unreachable:
            await asyncio.sleep(0)
