"""Files of a site: whole or not at all, and on the disk when the function returns."""

import os
from pathlib import Path

import pytest

from atoll import files
from atoll.files import flush_tree, make_directory, read_regular, write_private


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """The flushed and renamed files in order; a flushed file with its content."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(f"flush {path.name}" + ("" if path.is_dir() else f": {path.read_text(encoding='utf-8')}"))
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        done.append(f"rename {self.name} {target.name}")
        return replace(self, target)

    monkeypatch.setattr(files.os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", replaced)
    return done


def test_file_is_flushed_before_it_gets_its_name_and_then_the_name(tmp_path, order):
    write_private(tmp_path / "cloud.yaml", "one")
    assert order == ["flush .cloud.yaml.new: one", "rename .cloud.yaml.new cloud.yaml", f"flush {tmp_path.name}"]


def test_file_that_each_start_writes_anew_need_not_be_flushed(tmp_path, order):
    assert write_private(tmp_path / "nova.conf", "one", durable=False)
    assert order == ["rename .nova.conf.new nova.conf"]


def test_new_directories_are_names_in_their_parents(tmp_path, order):
    make_directory(tmp_path / "sites" / "paris")
    assert sorted(order) == sorted(["flush sites", f"flush {tmp_path.name}"])
    order.clear()
    make_directory(tmp_path / "sites" / "paris")
    assert order == []


def test_tree_is_flushed_whole(tmp_path, order):
    (tmp_path / "keys" / "public").mkdir(parents=True)
    (tmp_path / "keys" / "public" / "key").write_text("secret", encoding="utf-8")
    flush_tree(tmp_path / "keys")
    assert sorted(order) == ["flush key: secret", "flush keys", "flush public"]


def test_a_file_that_cannot_be_flushed_is_an_error_and_keeps_its_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_private(path, "one")

    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        write_private(path, "two")
    assert path.read_text(encoding="utf-8") == "one"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_pipe_and_a_device_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="not a regular file") as raised:
            read_regular(tmp_path / name, 10)
        assert raised.value.filename == str(tmp_path / name)


def test_no_more_is_read_than_is_needed_to_tell_that_a_file_is_too_long(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 20)
    assert read_regular(path, 10) == b"x" * 11
    assert read_regular(path, 20) == b"x" * 20
