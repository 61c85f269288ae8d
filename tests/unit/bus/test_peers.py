"""The directory by which the processes of one machine find each other."""

import fcntl
import os
import socket
from contextlib import contextmanager

import pytest

from atoll.bus import peers


@contextmanager
def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


def test_joining_process_connects_to_the_present_ones(short_dir):
    directory = short_dir / "s"
    with peers.joining(directory, "a") as (own, others):
        assert (own, others) == (f"unixsock-stream/{directory}/a.sock", [])
    with listening(directory / "a.sock"), listening(directory / "b.sock"), peers.joining(directory, "c") as (_, others):
        assert others == [f"unixsock-stream/{directory}/{name}.sock" for name in "ab"]


def test_directory_is_of_its_user_alone(short_dir):
    with peers.joining(short_dir / "s", "a"):
        pass
    assert (short_dir / "s").stat().st_mode & 0o777 == 0o700


def test_sockets_of_dead_processes_are_removed(short_dir):
    with listening(short_dir / "dead.sock"):
        pass
    (short_dir / "dead.sock.lock").touch()
    with peers.joining(short_dir, "a") as (_, others):
        assert others == []
    assert sorted(path.name for path in short_dir.iterdir()) == ["lock"]


def test_two_processes_that_join_at_the_same_time_take_turns(short_dir):
    with peers.joining(short_dir, "a"), (short_dir / "lock").open("w") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_process_that_left_is_not_found(short_dir):
    for name in ("a.sock", "a.sock.lock", "b.sock"):
        (short_dir / name).touch()
    peers.leave(short_dir, "a")
    peers.leave(short_dir, "a")
    assert [path.name for path in short_dir.iterdir()] == ["b.sock"]


def test_path_that_is_too_long_is_told(short_dir):
    long = short_dir / ("x" * 100)
    with pytest.raises(ValueError, match=r"socket_dir .* is too long: .* more than 107 bytes"), peers.joining(long, "a" * 16):
        pass
    assert not long.exists()


def test_directory_of_another_user_is_not_used(short_dir, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    os.chown(short_dir, 4321, -1) if os.geteuid() == 0 else None
    with pytest.raises(ValueError, match="belongs to user"), peers.joining(short_dir, "a"):
        pass
