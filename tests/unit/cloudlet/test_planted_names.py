"""Hidden names, and images of a cache, that another user has prepared in a directory that both can write to."""

import os
import shutil
from pathlib import Path

import pytest
from small_machines import Machine, quiet

from atoll.cloudlet import base, header, partial
from atoll.cloudlet.cache import LaunchCache
from atoll.cloudlet.header import Header
from atoll.cloudlet.source import FileSource
from atoll.errors import AtollError


def head_of(machine: Machine) -> Header:
    with (machine.directory / "overlay").open("rb") as file:
        return header.read_header(FileSource(file, "overlay").read, [machine.key.trusted], "overlay")


def plant(machine: Machine, directory: Path) -> None:
    """Write a partial image that counts as complete, has the right lists and another content."""
    overlay = machine.overlay()
    machine.apply(overlay, machine.directory / "true")
    directory.mkdir(0o700)
    for name in machine.parts:
        shutil.copy(machine.directory / "true" / f"{name}.pages", directory / f"{name}.pages")
        (directory / name).write_bytes(b"E" * len(machine.content(name)))
    found = head_of(machine)
    partial.write_state(directory, found, found.segments)


@pytest.mark.parametrize("how", ["another user", "group", "others"])
def test_partial_image_of_another_user_is_refused(machine, tmp_path, monkeypatch, how):
    plant(machine, tmp_path / ".launch.partial")
    if how == "another user":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        (tmp_path / ".launch.partial").chmod({"group": 0o770, "others": 0o707}[how])
    with pytest.raises(AtollError, match="belongs to another user, or others can write to it") as caught:
        machine.apply((tmp_path / "overlay").read_bytes(), tmp_path / "launch")
    assert caught.value.kind.code == "cloudlet.unusable"
    assert not (tmp_path / "launch").exists()


@pytest.mark.parametrize("name", ["disk", "disk.pages", "state"])
@pytest.mark.parametrize("how", ["link", "writable", "pipe"])
def test_partial_image_with_a_file_of_another_user_is_made_again(machine, tmp_path, name, how):
    plant(machine, tmp_path / ".launch.partial")
    file, elsewhere = tmp_path / ".launch.partial" / name, tmp_path / "elsewhere"
    if how == "link":
        content = file.read_bytes()
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
    elif how == "writable":
        file.chmod(0o666)
    else:
        file.unlink()
        os.mkfifo(file)
    assert machine.apply((tmp_path / "overlay").read_bytes(), tmp_path / "launch").resumed == 0
    machine.check(tmp_path / "launch")
    assert how != "link" or elsewhere.read_bytes() == content


@pytest.mark.parametrize("hidden", [".launch.partial", ".made.new"])
def test_hidden_directory_that_is_a_link(machine, tmp_path, hidden):
    overlay = machine.overlay()
    (tmp_path / "elsewhere").mkdir(0o700)
    (tmp_path / "elsewhere" / "precious").write_bytes(b"precious")
    (tmp_path / hidden).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AtollError) as caught:
        if hidden == ".made.new":
            base.make_base(machine.parts, tmp_path / "made", "x", "", quiet)
        else:
            machine.apply(overlay, tmp_path / "launch")
    assert caught.value.kind.code == "cloudlet.unusable"
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["precious"]


@pytest.mark.parametrize("how", ["link", "hard link", "another user", "pipe"])
def test_hidden_file_of_another_user(machine, tmp_path, monkeypatch, how):
    victim, hidden = tmp_path / "victim", tmp_path / ".overlay.new"
    victim.write_bytes(b"precious")
    if how == "link":
        hidden.symlink_to(victim)
    elif how == "hard link":
        hidden.hardlink_to(victim)
    elif how == "pipe":
        os.mkfifo(hidden)
    else:
        hidden.write_bytes(b"theirs")
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(AtollError) as caught:
        machine.overlay()
    assert caught.value.kind.code == "cloudlet.unusable"
    assert (victim.read_bytes(), hidden.is_symlink() or hidden.exists()) == (b"precious", True)
    assert not (tmp_path / "overlay").exists()


def test_hidden_file_of_a_killed_command_is_taken_over(machine, tmp_path):
    (tmp_path / ".overlay.new").write_bytes(b"old" * 100_000)
    machine.apply(machine.overlay(), tmp_path / "launch")
    machine.check(tmp_path / "launch")


def test_partial_image_goes_on_with_any_umask(machine, tmp_path):
    overlay, before = machine.overlay(), os.umask(0)
    try:
        with pytest.raises(AtollError, match="in the middle"):
            machine.apply(overlay[:-1], tmp_path / "launch")
        assert machine.apply(overlay, tmp_path / "launch").resumed == head_of(machine).segments - 1
    finally:
        os.umask(before)


@pytest.fixture
def cached(machine, tmp_path) -> tuple[LaunchCache, bytes]:
    """Return a cache that has a launch image, and the image's digest."""
    overlay, cache = machine.overlay(), LaunchCache(tmp_path / "cache", 1 << 30)
    digest = head_of(machine).result.digest
    machine.apply(overlay, cache.path(digest))
    return cache, digest


@pytest.mark.parametrize("damage", ["no disk", "short disk", "list", "another user", "writable", "link", "file"])
def test_damaged_or_planted_image_of_a_cache_is_not_a_success(cached, tmp_path, monkeypatch, damage):
    cache, digest = cached
    image = cache.path(digest)
    if damage == "no disk":
        (image / "disk").unlink()
    elif damage == "short disk":
        os.truncate(image / "disk", 4096)
    elif damage == "list":
        (image / "disk.pages").write_bytes(bytes((image / "disk.pages").stat().st_size))
    elif damage == "another user":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    elif damage == "writable":
        image.chmod(0o777)
    elif damage == "link":
        image.rename(tmp_path / "elsewhere")
        image.symlink_to(tmp_path / "elsewhere")
    else:
        shutil.rmtree(image)
        image.write_bytes(b"")
    with pytest.raises(AtollError) as caught, cache.held(digest):
        pass
    assert str(image) in caught.value.message
    assert f"rm -r {image}" in caught.value.hint


def test_whole_image_of_a_cache_is_given(cached):
    cache, digest = cached
    with cache.held(digest) as path:
        assert path == cache.path(digest)


def test_lock_of_a_cache_that_is_a_link(cached, tmp_path):
    cache, _ = cached
    (tmp_path / "cache" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AtollError):
        cache.make_room(0)
    assert not (tmp_path / "elsewhere").exists()
