"""Peers on one machine, which find each other by a directory that holds a Unix socket of each process.

A process that joins connects to all others, and is found there by all that join later. The directory is locked meanwhile, so that of two
processes that join at the same time, the second one to lock the directory finds the first. No process has a special role, and none needs to
run all the time.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_SOCKET_PATH = 107
"""The greatest length of a Unix socket's path on Linux, in bytes (unix(7): sun_path holds 108 with the final zero)."""


@contextmanager
def joining(directory: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the endpoint to listen at and the endpoints to connect to; open the Zenoh session inside this context.

    Args:
        directory: the directory of the sockets, created for this user only if it does not exist.
        name: the name of this process's socket; no other process may ever have the same.

    Raises:
        ValueError: the path is too long for a Unix socket, or the directory belongs to another user.
        OSError: the directory can't be created or used.
    """
    own = directory / f"{name}.sock"
    if len(os.fsencode(own)) > MAX_SOCKET_PATH:
        raise ValueError(f"socket_dir {directory} is too long: {own} has more than {MAX_SOCKET_PATH} bytes")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = directory.stat().st_uid
    if owner not in {os.getuid(), 0}:
        raise ValueError(f"socket_dir {directory} belongs to user {owner}; whoever owns it could read every message")
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _endpoint(own), [_endpoint(path) for path in sorted(directory.glob("*.sock")) if _is_alive(path)]


def leave(directory: Path, name: str) -> None:
    """Remove the socket of a process whose session was closed."""
    _remove(directory / f"{name}.sock")


def _endpoint(path: Path) -> str:
    return f"unixsock-stream/{path}"


def _is_alive(path: Path) -> bool:
    """Return whether a process listens at a socket; remove the socket of a killed process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            _remove(path)
            return False
    return True


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    # Zenoh's own lock file beside its socket (zenoh-link-unixsock_stream/src/unicast.rs).
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
