"""Bases, overlays and launch images, from files to files."""

import fcntl
import os
import random
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from small_machines import CPU, PAGE, TYPE, Machine, quiet, random_pages

from atoll.cloudlet import base, encode, image
from atoll.cloudlet.description import ImageDescription
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.workers import Workers
from atoll.errors import AtollError


def left(directory: Path) -> list[str]:
    """Return the names of hidden files that something half made."""
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


def test_the_result_is_the_guest(machine, tmp_path):
    applied = machine.apply(machine.overlay(), tmp_path / "launch")
    machine.check(tmp_path / "launch")
    assert (applied.resumed, applied.description) == (0, machine.made.result)
    assert (applied.description.cpu, applied.description.machine) == (CPU, TYPE)
    assert left(tmp_path) == []


def test_each_page_takes_the_cheapest_way(machine):
    machine.overlay()
    kinds = machine.made.pages
    # content: a new page of the disk, one of the memory, one of x, the device; the cut page of the memory
    assert kinds == {"zeros": 1, "content": 5, "changed": 1, "from_base": 2, "from_result": 3}


def test_several_processes_make_the_same_overlay(machine):
    alone = machine.overlay()
    assert machine.overlay("other", jobs=2)[:-1] == alone[:-1]


def test_a_launch_image_is_a_base(machine, tmp_path):
    machine.apply(machine.overlay(), tmp_path / "launch")
    machine.base = tmp_path / "launch"
    memory = bytearray(machine.content("memory"))
    memory[3 * PAGE : 3 * PAGE + 8] = b"residue."
    machine.guest(disk=machine.content("disk"), memory=bytes(memory))
    residue = machine.overlay("residue")
    assert machine.made.pages == {"zeros": 0, "content": 0, "changed": 1, "from_base": 0, "from_result": 0}
    assert len(residue) < PAGE
    machine.apply(residue, tmp_path / "next")
    machine.check(tmp_path / "next")


def test_an_equal_guest_needs_no_segment(machine, tmp_path):
    machine.guest(disk=(machine.base / "disk").read_bytes(), memory=(machine.base / "memory").read_bytes())
    machine.apply(machine.overlay(), tmp_path / "launch")
    assert machine.made.segments == 0
    machine.check(tmp_path / "launch")
    assert image.describe(tmp_path / "launch") == image.describe(machine.base)


def test_many_segments(machine, tmp_path):
    seeded = random.Random(2)
    machine.guest(disk=b"".join(random_pages(seeded, 700)) + bytes(PAGE * 9000) + b"end")
    machine.apply(machine.overlay(), tmp_path / "launch")
    assert machine.made.segments == 3
    machine.check(tmp_path / "launch")


def test_holes_stay_holes(machine, tmp_path):
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.write(b"start" * PAGE)
        file.truncate(1 << 30)
    machine.parts = {"disk": sparse}
    base.make_base(machine.parts, tmp_path / "sparse-base", "", "", quiet)
    machine.apply(machine.overlay(), tmp_path / "launch")
    for made in ("sparse-base", "launch"):
        assert (tmp_path / made / "disk").stat().st_size == 1 << 30
        assert (tmp_path / made / "disk").stat().st_blocks < 1000


PAGES = st.binary(min_size=1, max_size=3).map(lambda word: (word * PAGE)[:PAGE]) | st.just(bytes(PAGE))
PART = st.tuples(st.lists(PAGES, min_size=1, max_size=12), st.integers(0, PAGE - 1)).map(
    lambda found: b"".join(found[0])[: -found[1] or None]
)
MACHINE = st.dictionaries(st.sampled_from(["disk", "device", "memory"]), PART, min_size=1)


@settings(max_examples=30)
@given(old=MACHINE, new=MACHINE)
def test_any_guest_from_any_base(tmp_path_factory, old, new):
    directory = tmp_path_factory.mktemp("any")
    machine = Machine(directory, SigningKey(ec.generate_private_key(ec.SECP256R1())), old)
    machine.guest(**new)
    target = directory / "overlay"
    task = encode.Task(machine.base, machine.parts, target, cpu=CPU)
    with Workers(1) as workers:
        made = encode.make_overlay(task, machine.key, workers, quiet)
    applied = machine.apply(target.read_bytes(), directory / "launch")
    machine.check(directory / "launch")
    assert applied.description.digest == made.result.digest
    assert isinstance(applied.description, ImageDescription)
    shutil.rmtree(directory)


def test_equal_content_has_equal_digests(machine, tmp_path):
    again = base.make_base({name: machine.base / name for name in ("disk", "memory")}, tmp_path / "again", CPU, TYPE, quiet)
    assert again == image.describe(machine.base)
    other = base.make_base({"disk": machine.base / "disk"}, tmp_path / "other", "", TYPE, quiet)
    assert other.digest != again.digest


@pytest.mark.parametrize("cpu", ["", "x" * 65, "new\nline"])
def test_unsuitable_cpu_model(machine, tmp_path, cpu):
    with pytest.raises(AtollError, match="CPU model") as caught:
        base.make_base({"memory": machine.base / "memory"}, tmp_path / "bad", cpu, "", quiet)
    assert caught.value.kind.code == "cloudlet.invalid"
    assert not (tmp_path / "bad").exists()


def test_another_cpu_model_than_the_base(machine):
    target = machine.directory / "overlay"
    with pytest.raises(AtollError, match="Haswell-v1") as caught, Workers(1) as workers:
        encode.make_overlay(encode.Task(machine.base, machine.parts, target, cpu="EPYC"), machine.key, workers, quiet)
    assert caught.value.kind.code == "cloudlet.cpu"
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "missing"])
def test_unsuitable_files(machine, tmp_path, content):
    machine.guest(disk=content or b"")
    if content is None:
        machine.parts["disk"].unlink()
    with pytest.raises(AtollError, match=r"guest\.disk"):
        machine.overlay()
    with pytest.raises(AtollError, match=r"guest\.disk"):
        base.make_base(machine.parts, tmp_path / "new", "", "", quiet)
    assert not (tmp_path / "overlay").exists()
    assert left(tmp_path) == []


def test_a_guest_that_runs(machine, tmp_path, monkeypatch):
    def write(*arguments):
        with machine.parts["disk"].open("r+b") as file:
            file.write(b"still running")
        return real(*arguments)

    real = encode.classify
    monkeypatch.setattr(encode, "classify", write)
    with pytest.raises(AtollError, match="written to") as caught:
        machine.overlay()
    assert caught.value.kind.code == "cloudlet.changed"
    assert not (tmp_path / "overlay").exists()
    assert left(tmp_path) == []


def test_existing_names_are_kept(machine, tmp_path):
    overlay = machine.overlay()
    (tmp_path / "launch").mkdir()
    with pytest.raises(AtollError, match="exists"):
        machine.apply(overlay, tmp_path / "launch")
    with pytest.raises(AtollError, match="exists"):
        base.make_base(machine.parts, machine.base, CPU, TYPE, quiet)
    with pytest.raises(AtollError, match="exists"), Workers(1) as workers:
        encode.make_overlay(encode.Task(machine.base, machine.parts, tmp_path / "overlay"), machine.key, workers, quiet)
    assert list((tmp_path / "launch").iterdir()) == []
    assert (tmp_path / "overlay").read_bytes() == overlay


def test_a_killed_command_leaves_nothing_for_long(machine, tmp_path):
    """Hidden files of a killed command are taken over by the next one."""
    (tmp_path / ".new.new").mkdir()
    (tmp_path / ".new.new" / "disk").write_bytes(b"left")
    (tmp_path / ".overlay.new").write_bytes(b"left" * 10_000)
    base.make_base({"disk": machine.base / "disk"}, tmp_path / "new", "", TYPE, quiet)
    overlay = machine.overlay()
    assert left(tmp_path) == []
    machine.apply(overlay, tmp_path / "launch")


def test_two_concurrent_commands(machine, tmp_path):
    (tmp_path / ".new.new").mkdir()
    holder = os.open(tmp_path / ".new.new", os.O_RDONLY)
    other = os.open(tmp_path / ".overlay.new", os.O_RDWR | os.O_CREAT)
    for descriptor in (holder, other):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(AtollError, match="another command") as caught:
        base.make_base({"disk": machine.base / "disk"}, tmp_path / "new", "", TYPE, quiet)
    assert caught.value.kind.code == "cloudlet.busy"
    with pytest.raises(AtollError, match="another command"):
        machine.overlay()
    for descriptor in (holder, other):
        os.close(descriptor)
    machine.overlay()
