"""How the processes of one machine find each other: a directory with the Unix socket of each.

Who joins connects to all who are there, and is found there by all who come later. The directory is locked meanwhile, so that of two who
join at once the later one sees the earlier. Nobody is special, and nothing needs to run for it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path on Linux (unix(7): sun_path holds 108 with the final zero)."""


@contextmanager
def joining(directory: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """The endpoint to listen at and those to connect to; open the Zenoh session while in this context.

    Args:
        directory: made, for this user only, if it is not there.
        name: of this process's socket; no other process may ever have the same.

    Raises:
        ValueError: the path is too long for a Unix socket.
        OSError: the directory can't be made or used.
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
    """Whether somebody listens there; what a killed process left behind is removed."""
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
