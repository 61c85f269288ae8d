import errno
import json
import os
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.files import write_private
from atoll.site import state as state_module
from atoll.site.state import State, check_space, default_cache, default_state, locked, translated


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_state_and_cache_follow_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert default_state() == tmp_path / "s/atoll"
    assert default_cache() == tmp_path / "c/atoll"


def test_stamp_makes_a_private_directory_that_check_accepts(state):
    state.check()
    state.stamp()
    state.check()
    assert (mode(state.root), mode(state.version_file), mode(state.root / "sites")) == (0o700, 0o600, 0o700)


@pytest.mark.parametrize("text", ['{"atoll": "9.1.0"}', "9.1.0", "", "[]", "7", "\xff"])
def test_directory_of_another_version_is_refused(state, text):
    state.stamp()
    state.version_file.write_text(text)
    with pytest.raises(AtollError, match=f"{state.root} was written by atoll .*, and this is atoll ") as caught:
        state.check()
    assert caught.value.kind.code == "state.version"
    assert "destroy" in (caught.value.hint or "")


def test_directory_of_another_openstack_is_refused(state):
    state.stamp()
    versions = json.loads(state.version_file.read_text()) | {"nova": "33.0.0"}
    state.version_file.write_text(json.dumps(versions))
    with pytest.raises(AtollError, match=r"was written by nova 33\.0\.0"):
        state.check()


def test_patch_release_is_not_another_version(state):
    state.stamp()
    versions = json.loads(state.version_file.read_text()) | {"nova": "34.9.9"}
    state.version_file.write_text(json.dumps(versions))
    state.check()


def test_directory_with_something_else_is_refused(state):
    state.root.mkdir()
    (state.root / "thesis.tex").touch()
    with pytest.raises(AtollError, match="holds something else"):
        state.check()


def test_file_instead_of_directory_is_refused(state):
    state.root.touch()
    with pytest.raises(AtollError, match="is not a directory"):
        state.check()
    with pytest.raises(AtollError, match=f"{state.root} is not a directory"):
        State(state.root / "below").check()


def test_second_command_is_told_of_the_first(state):
    with locked(state, "up"), pytest.raises(AtollError) as caught, locked(state, "down"):
        pass
    assert caught.value.kind.code == "state.busy"
    assert f"(atoll up, pid {os.getpid()})" in caught.value.message


def test_lock_leaves_nothing_behind_if_nothing_was_kept(state):
    with pytest.raises(ZeroDivisionError), locked(state, "up"):
        raise ZeroDivisionError
    assert not state.root.exists()


def test_lock_leaves_a_directory_that_was_there(state):
    state.root.mkdir()
    with locked(state, "up"):
        pass
    assert list(state.root.iterdir()) == []


def test_lock_can_be_taken_again_where_state_was_kept(state):
    for _ in range(2):
        with locked(state, "up"):
            state.stamp()


def test_lock_file_taken_away_meanwhile_is_not_trusted(state, monkeypatch):
    state.root.mkdir()
    path, real, stolen = state.root / "lock", state_module.fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        if not stolen:
            stolen.append(path.unlink())

    monkeypatch.setattr(state_module.fcntl, "flock", flock)
    with locked(state, "up"):
        assert path.exists()


def test_place_that_cannot_be_written_to():
    with pytest.raises(AtollError) as caught, locked(State(Path("/proc/nowhere/atoll")), "up"):
        pass
    assert caught.value.kind.code == "state.unusable"


def test_too_little_space_names_place_and_amounts(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module.shutil, "disk_usage", lambda _path: (10**9, 10**9, 123_456_789))
    with pytest.raises(AtollError, match="123 MB free: expected at least 500 MB") as caught:
        check_space(tmp_path / "not/there/yet")
    assert caught.value.kind.code == "state.space"


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "state.space"), (errno.EDQUOT, "state.space"), (errno.EROFS, "state.unusable")]
)
def test_refusals_of_the_system_are_explained(tmp_path, number, code):
    with pytest.raises(AtollError, match="/a/file: ") as caught, translated(tmp_path):
        raise OSError(number, os.strerror(number), "/a/file")
    assert caught.value.kind.code == code


@pytest.mark.parametrize(
    ("refused", "way"),
    [
        ("/data/me", "--state DIR"),
        ("/data/me/state/lock", "--state DIR"),
        ("/data/me/state", "--state DIR"),
        ("/data/me/cache", "XDG_CACHE_HOME"),
    ],
)
def test_way_around_a_refusal_depends_on_the_directory(refused, way):
    with pytest.raises(AtollError) as caught, translated(Path("/data/me/state")):
        raise PermissionError(errno.EACCES, "Permission denied", refused)
    assert way in caught.value.hint


def test_write_private_is_private_and_tells_whether_it_wrote(tmp_path):
    path = tmp_path / "file"
    assert write_private(path, "one")
    assert not write_private(path, "one")
    assert write_private(path, "two")
    assert (path.read_text(), mode(path), [each.name for each in tmp_path.iterdir()]) == ("two", 0o600, ["file"])
