"""Unix sockets of the control protocol: paths of any length, and the users who may connect."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

_BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def at(path: Path, use: Callable[[str], None]) -> None:
    """Call `bind` or `connect` with an address that leads to a path of any length.

    The address of a Unix socket holds 108 bytes, so this one goes through an open descriptor of the directory.

    Raises:
        OSError: as for `use`, or the directory does not exist.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """Return a connection to the socket at a path.

    Args:
        path: the path of the socket.
        timeout_s: seconds to wait for each operation on the connection; `None` means for ever.

    Raises:
        OSError: nothing listens there, or this user may not connect.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        at(path, connection.connect)
    except OSError:
        connection.close()
        raise
    return connection


def listen(path: Path) -> socket.socket:
    """Return a non-blocking socket that listens at a path, with mode 0600, in place of an older socket there.

    Raises:
        OSError: the directory cannot be written to, or the path is a directory.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        at(path, listener.bind)
        path.chmod(0o600)  # nobody can connect before `listen`
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def peer_user(connection: socket.socket) -> int:
    """Return the user id of the process at the other end of a connection, as this process's user namespace shows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


def trusted_users() -> frozenset[int]:
    """Return the ids of the users who may use a control socket of this process: its own user, and root.

    In a user namespace that does not map root, root has the overflow id, and so has every other user; there the socket's mode alone
    keeps those out.
    """
    root = 0
    if not any(line.split()[0] == "0" for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()):
        root = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    return frozenset({os.geteuid(), root})
