"""Digests of servers' disks, and disks that outlive their servers."""

import shutil
import subprocess
from pathlib import Path

import pytest

from atoll.bench.cloudlet import disks
from atoll.errors import AtollError

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
PAGE = 4096


def raw(path: Path, *pages: bytes, size: int = 0) -> Path:
    with path.open("wb") as file:
        for page in pages:
            file.write(page.ljust(PAGE, b"\0"))
        file.truncate(max(size, len(pages) * PAGE))
    return path


def test_holes_and_zeros_at_the_end_do_not_count(tmp_path):
    full = raw(tmp_path / "full", b"a", b"", b"b", b"")
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.write(b"a")
        file.seek(2 * PAGE)
        file.write(b"b")
        file.truncate(1 << 20)
    assert disks.digest(full) == disks.digest(sparse)


@pytest.mark.parametrize("pages", [(b"a", b"", b"c"), (b"a", b"b"), (b"", b"a", b"b"), (b"a",), (b"b", b"", b"a")])
def test_other_content_or_place_has_another_digest(tmp_path, pages):
    assert disks.digest(raw(tmp_path / "one", b"a", b"", b"b")) != disks.digest(raw(tmp_path / "other", *pages))


def test_single_bit_changes_the_digest(tmp_path):
    path = raw(tmp_path / "disk", b"a" * PAGE, b"b" * PAGE)
    before = disks.digest(path)
    with path.open("r+b") as file:
        file.seek(PAGE + 77)
        file.write(bytes([ord("b") ^ 1]))
    assert disks.digest(path) != before


def server(instances: Path, backing: Path) -> Path:
    """Make a server's disk over a backing file, and write a page to it."""
    disk = disks.disk_of(instances, "server")
    disk.parent.mkdir(parents=True)
    for words in (["create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, disk, "1M"],):
        subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)
    return disk


@needs_qemu_img
def test_received_disk_is_the_backing_file(tmp_path):
    image = raw(tmp_path / "image", b"a")
    server(tmp_path / "instances", image)
    assert disks.received(tmp_path / "instances", "server") == image


@needs_qemu_img
def test_held_disk_survives_its_server(tmp_path):
    image = raw(tmp_path / "image", b"a", b"", b"b")
    wanted = disks.digest(image)
    disk = server(tmp_path / "instances", image)
    held = disks.hold(tmp_path / "instances", "server", tmp_path / "held")
    shutil.rmtree(disk.parent)
    image.unlink()
    assert held.digest() == wanted
    held.release()
    assert list((tmp_path / "held").iterdir()) == []


@needs_qemu_img
def test_held_disk_shows_later_writes(tmp_path):
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed")
    image = raw(tmp_path / "image", b"a")
    disk = server(tmp_path / "instances", image)
    held = disks.hold(tmp_path / "instances", "server", tmp_path / "held")
    before = held.digest()
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 65536 4096", str(disk)], check=True, capture_output=True)
    assert held.digest() != before


@needs_qemu_img
def test_disk_that_can_not_be_read(tmp_path):
    with pytest.raises(AtollError, match="qemu-img info: "):
        disks.received(tmp_path, "server")
