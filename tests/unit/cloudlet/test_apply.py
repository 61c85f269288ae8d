"""Application of overlays that are cut, damaged, hostile, or of another base, and on disks that are full."""

import errno
import fcntl
import os
import random
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from small_machines import PAGE, Machine, quiet, random_pages

from atoll.cloudlet import applier, apply, base, header, image, segment, sparse
from atoll.cloudlet.header import Entry
from atoll.cloudlet.inspection import check_overlay
from atoll.cloudlet.pages import as_pages
from atoll.cloudlet.segment import CHANGED, CONTENT, FROM_BASE, FROM_RESULT, Segment
from atoll.cloudlet.source import FileSource
from atoll.errors import AtollError


@pytest.fixture
def large(tmp_path, key) -> Machine:
    """Return a guest whose overlay has five segments, with copies from earlier ones."""
    seeded = random.Random(4)
    machine = Machine(tmp_path, key, {"disk": b"".join(random_pages(seeded, 50)), "memory": b"".join(random_pages(seeded, 300))})
    new = random_pages(seeded, 900)
    machine.guest(disk=b"".join([*new[::2], *random_pages(seeded, 20)]), memory=b"".join(new))
    return machine


class CountedSource(FileSource):
    """An overlay in memory that counts the bytes that are read, and may end early."""

    def __init__(self, data: bytes) -> None:
        super().__init__(BytesIO(data), "overlay")
        self.count = 0

    def read(self, length: int) -> bytes:
        self.count += length
        return super().read(length)


def starts(overlay: bytes, machine: Machine) -> list[int]:
    """Return the offset of each segment, and the end."""
    source = FileSource(BytesIO(overlay), "overlay")
    found = header.read_header(source.read, [machine.key.trusted], "overlay")
    entries = header.read_table(source.read, found, "overlay")
    return list(np.cumsum([found.head_length, *(entry.length for entry in entries)]).tolist())


def hidden(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("segments", range(5))
@pytest.mark.parametrize("more", [0, 1000])
def test_a_cut_transfer_goes_on(large, tmp_path, segments, more):
    overlay = large.overlay()
    offsets = starts(overlay, large)
    assert len(offsets) == 6
    with pytest.raises(AtollError, match="ends after") as caught:
        large.apply(overlay[: offsets[segments] + more], tmp_path / "launch")
    assert caught.value.kind.code == "cloudlet.source"
    assert not (tmp_path / "launch").exists()
    source = CountedSource(overlay)
    assert large.apply_from(source, tmp_path / "launch").resumed == segments
    assert source.count == offsets[0] + offsets[-1] - offsets[segments]
    large.check(tmp_path / "launch")
    assert hidden(tmp_path) == []


def test_a_cut_transfer_of_a_stream_goes_on(large, tmp_path):
    """Standard input has no offsets: what was applied is read and dropped."""
    overlay = large.overlay()

    class Pipe(BytesIO):
        def seekable(self):
            return False

    with pytest.raises(AtollError):
        large.apply(overlay[: starts(overlay, large)[3]], tmp_path / "launch")
    assert large.apply_from(FileSource(Pipe(overlay), "standard input"), tmp_path / "launch").resumed == 3
    large.check(tmp_path / "launch")


def test_interrupted_by_a_person(large, tmp_path, monkeypatch):
    overlay, real, calls = large.overlay(), applier.Applier.apply, []

    def interrupt(self, found):
        calls.append(found)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, found)

    monkeypatch.setattr(applier.Applier, "apply", interrupt)
    with pytest.raises(KeyboardInterrupt):
        large.apply(overlay, tmp_path / "launch")
    assert large.apply(overlay, tmp_path / "launch").resumed == 2
    large.check(tmp_path / "launch")


@pytest.mark.parametrize("when", range(0, 36, 3))
def test_killed_at_any_point(large, tmp_path, when):
    """The state is saved after each segment; the process ends at one of its flushes, writes or renames."""
    overlay = large.overlay()
    words = [sys.executable, str(Path(__file__).with_name("dying_apply.py")), str(tmp_path), str(when)]
    assert subprocess.run(words, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False).returncode == 9
    assert not (tmp_path / "launch").exists()
    large.apply(overlay, tmp_path / "launch")
    large.check(tmp_path / "launch")
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("damage", ["state", "disk.pages", "memory", "garbage"])
def test_damaged_partial_image_is_made_again(large, tmp_path, damage):
    overlay = large.overlay()
    with pytest.raises(AtollError):
        large.apply(overlay[: starts(overlay, large)[3]], tmp_path / "launch")
    file = tmp_path / ".launch.partial" / damage
    if damage == "memory":
        file.unlink()
    else:
        file.write_bytes(b"damaged")
    assert large.apply(overlay, tmp_path / "launch").resumed == (3 if damage == "garbage" else 0)
    large.check(tmp_path / "launch")
    assert "garbage" not in [path.name for path in (tmp_path / "launch").iterdir()]


def test_another_overlay_begins_anew(large, tmp_path):
    overlay = large.overlay()
    with pytest.raises(AtollError):
        large.apply(overlay[: starts(overlay, large)[2]], tmp_path / "launch")
    large.guest(disk=large.content("disk")[::-1])
    assert large.apply(large.overlay("other"), tmp_path / "launch").resumed == 0
    large.check(tmp_path / "launch")


def test_two_commands_at_the_same_time(large, tmp_path):
    (tmp_path / ".launch.partial").mkdir(0o700)
    other = os.open(tmp_path / ".launch.partial", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(AtollError, match="another command") as caught:
        large.apply(large.overlay(), tmp_path / "launch")
    assert caught.value.kind.code == "cloudlet.busy"
    os.close(other)


def test_damaged_segment(large, tmp_path):
    overlay = bytearray(large.overlay())
    overlay[starts(bytes(overlay), large)[2] + 5000] ^= 1
    with pytest.raises(AtollError, match="segment 2 of the overlay is damaged") as caught:
        large.apply(bytes(overlay), tmp_path / "launch")
    assert caught.value.kind.code == "cloudlet.invalid"
    overlay[starts(bytes(overlay), large)[2] + 5000] ^= 1
    assert large.apply(bytes(overlay), tmp_path / "launch").resumed == 2
    large.check(tmp_path / "launch")


def test_another_base(machine, tmp_path):
    overlay = machine.overlay()
    base.make_base({"disk": machine.base / "disk"}, tmp_path / "other", "", "", quiet)
    with pytest.raises(AtollError, match="was made for the base") as caught:
        machine.apply(overlay, tmp_path / "launch", tmp_path / "other")
    assert caught.value.kind.code == "cloudlet.base"
    assert not (tmp_path / "launch").exists()
    assert hidden(tmp_path) == []


def test_cpu_model(machine):
    found = header.read_header(BytesIO(machine.overlay()).read, [machine.key.trusted], "overlay")
    apply.check_cpu(found, "Haswell-v1", "overlay")
    with pytest.raises(AtollError, match=r"of the CPU model Haswell-v1, but this machine offers EPYC") as caught:
        apply.check_cpu(found, "EPYC", "overlay")
    assert caught.value.kind.code == "cloudlet.cpu"
    machine.guest(disk=machine.content("disk"))
    found = header.read_header(BytesIO(machine.overlay()).read, [machine.key.trusted], "overlay")
    apply.check_cpu(found, "EPYC", "overlay")


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_damaged_base_page_that_the_overlay_refers_to(machine, tmp_path, kind):
    overlay = machine.overlay()
    with (machine.base / kind).open("r+b") as file:
        file.seek({"disk": 30, "memory": 1}[kind] * PAGE)  # a copy's source, and a page that the overlay changes
        file.write(b"damaged")
    with pytest.raises(AtollError, match=f"base/{kind}: the content is damaged at byte"):
        machine.apply(overlay, tmp_path / "launch")
    assert not (tmp_path / "launch").exists()


@pytest.mark.parametrize(("name", "expected"), [("disk", "damaged at byte 53248"), ("disk.pages", "list of digests"), ("image", "damaged")])
def test_damaged_image(machine, name, expected):
    with (machine.base / name).open("r+b") as file:
        file.seek({"disk": 13 * PAGE + 7, "disk.pages": 500, "image": 200}[name])
        file.write(b"x")
    with pytest.raises(AtollError, match=expected), image.opened(machine.base) as opened:
        base.check_content(opened, quiet)


def test_data_in_a_hole_is_found(machine):
    with (machine.base / "disk").open("r+b") as file:
        file.seek(6 * PAGE)
        file.write(b"x")
    with pytest.raises(AtollError, match=f"damaged at byte {6 * PAGE}"), image.opened(machine.base) as opened:
        base.check_content(opened, quiet)


def test_no_space(large, tmp_path, monkeypatch):
    overlay, real = large.overlay(), sparse.write

    def full(descriptor, numbers, *more):
        if len(numbers) and numbers[0] > 600:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, numbers, *more)

    monkeypatch.setattr(sparse, "write", full)
    with pytest.raises(AtollError, match="no space left") as caught:
        large.apply(overlay, tmp_path / "launch")
    assert caught.value.kind.code == "state.space"
    assert not (tmp_path / "launch").exists()
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", ["ftruncate", "pwrite"])
def test_no_space_for_the_first_file(large, tmp_path, monkeypatch, name):
    overlay = large.overlay()

    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, name, full)
    with pytest.raises(AtollError, match="no space left"):
        large.apply(overlay, tmp_path / "launch")
    assert hidden(tmp_path) == []


def forged(machine: Machine, *segments: Segment) -> bytes:
    """Return a signed overlay with given segments."""
    packed = [segment.pack(each, 3) for each in segments]
    entries = [Entry(len(each), blake3(each).digest()) for each in packed]
    described = image.describe(machine.base)
    return header.write_head(described.digest, described, entries, machine.key) + b"".join(packed)


def one(part: int, kind: int, page: int, source: int = 0) -> Segment:
    content = as_pages(b"c" * PAGE if kind in {CONTENT, CHANGED} else b"")
    sources = np.array([source] if kind >= FROM_BASE else [], np.uint32)
    return Segment(part, np.array([kind], np.uint8), np.array([page], np.uint32), sources, content)


@pytest.mark.parametrize(
    "made",
    [
        one(2, CONTENT, 0),
        one(0, CONTENT, 40),
        one(0, FROM_BASE, 0, 40),
        one(0, FROM_BASE + 2, 0, 1),
        one(0, FROM_RESULT, 0, 0),
        one(0, FROM_RESULT, 0, 40),
        one(0, FROM_RESULT + 2, 0, 1),
    ],
    ids=["part", "page", "page of the base", "part of the base", "itself", "page of the result", "part of the result"],
)
def test_references_to_nothing(machine, tmp_path, made):
    with pytest.raises(AtollError, match="does not exist"):
        machine.apply(forged(machine, made), tmp_path / "launch")
    assert not (tmp_path / "launch").exists()
    source = FileSource(BytesIO(forged(machine, made)), "overlay")
    found = header.read_header(source.read, [machine.key.trusted], "overlay")
    with pytest.raises(AtollError, match="does not exist"):
        check_overlay(source, found, quiet, image.describe(machine.base))


def test_segments_that_write_more_pages_than_the_result_has(machine, tmp_path):
    """A few bytes may order thousands of pages to be written: without a bound, a small overlay would write for hours."""
    every = np.arange(40, dtype=np.uint32)
    empty = Segment(0, np.zeros(40, np.uint8), every, np.empty(0, np.uint32), as_pages(b""))
    with pytest.raises(AtollError, match="the segments write more pages than the result has"):
        machine.apply(forged(machine, *[empty] * 3), tmp_path / "launch")
    assert not (tmp_path / "launch").exists()


def test_all_pages_of_a_true_overlay_exist(machine):
    source = FileSource(BytesIO(machine.overlay()), "overlay")
    check_overlay(source, header.read_header(source.read, [machine.key.trusted], "overlay"), quiet, image.describe(machine.base))


def test_a_result_that_is_not_what_was_signed(machine, tmp_path):
    with pytest.raises(AtollError, match="the digest of the part disk differs from the signed one"):
        machine.apply(forged(machine, one(0, CONTENT, 3)), tmp_path / "launch")
    assert not (tmp_path / "launch").exists()
    assert hidden(tmp_path) == []
