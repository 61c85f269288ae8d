"""Disks of sites: a cut loses what was not flushed and nothing else, a full disk takes no byte, and nothing stays mounted."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from atoll.bench.cell_faults import disks
from atoll.bench.cell_faults.disks import Disk, SiteDisks, lacking
from atoll.errors import AtollError
from atoll.site.state import State

SIZE_MB = 32
PIECE = bytes(1 << 16)


@pytest.fixture
def disk(tmp_path):
    if why := lacking(tmp_path):
        pytest.skip(why)
    made = Disk(tmp_path / "disk.img", tmp_path / "disk", SIZE_MB)
    yield made
    made.remove()
    assert list(tmp_path.iterdir()) == []


def mounted(path):
    return str(path) in Path("/proc/mounts").read_text(encoding="utf-8")


def write(path, content, *, flush):
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if flush:
            os.fsync(file.fileno())
            directory = os.open(path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)


def test_a_cut_loses_what_was_not_flushed(disk):
    write(disk.at / "kept", b"flushed", flush=True)
    write(disk.at / "lost", b"not flushed", flush=False)
    disk.cut()
    with pytest.raises(OSError, match="Input/output error"):
        write(disk.at / "late", b"after the cut", flush=True)
    disk.restore()
    assert (disk.at / "kept").read_bytes() == b"flushed"
    assert not (disk.at / "late").exists()
    assert not (disk.at / "lost").exists() or (disk.at / "lost").read_bytes() == b""


def test_the_power_is_not_restored_while_another_mount_name_space_keeps_the_file_system(disk, monkeypatch):
    other = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdin.write(b"ready\n")
    other.stdin.flush()
    assert other.stdout.readline() == b"ready\n"
    write(disk.at / "kept", b"flushed", flush=True)
    disk.cut()
    with monkeypatch.context() as impatient, pytest.raises(AtollError, match="mount name space"):
        impatient.setattr(disks, "PATIENCE_S", 0.3)
        disk.restore()
    other.communicate()
    disk.restore()
    assert (disk.at / "kept").read_bytes() == b"flushed"


def test_a_full_disk_takes_nothing_until_it_is_freed(disk):
    disk.fill()
    with pytest.raises(OSError, match="No space left") as raised:
        write(disk.at / "more", PIECE, flush=True)
    assert raised.value.errno == errno.ENOSPC
    disk.free()
    write(disk.at / "more", PIECE, flush=True)
    assert (disk.at / "more").read_bytes() == PIECE


def test_a_disk_is_the_directory_of_its_site_and_is_removed_before_the_site(tmp_path):
    if why := lacking(tmp_path):
        pytest.skip(why)
    state, told = State(tmp_path / "s"), []
    made = SiteDisks(tmp_path, ["paris", "paris"])
    made.before_start(state)
    state.check()
    assert state.existing_sites() == [], "the site is still to be made"
    assert made["paris"].at == state.site("paris")
    assert list(state.site("paris").iterdir()) == []
    assert state.site("paris").stat().st_mode & 0o777 == 0o700
    made.before_destroy(lambda: told.append(mounted(state.site("paris"))))
    assert told == [True]
    assert not mounted(state.site("paris"))
    assert not (tmp_path / "paris.img").exists()


def test_no_disk_needs_no_stop(tmp_path):
    made = SiteDisks(tmp_path, [])
    made.before_start(State(tmp_path / "s"))
    made.before_destroy(lambda: pytest.fail("nothing is mounted"))
    assert list(tmp_path.iterdir()) == []


def test_an_ordinary_user_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lacking(tmp_path) == "only root can mount file systems"
