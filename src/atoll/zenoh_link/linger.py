"""Switches off lingering for Zenoh's sockets.

Zenoh makes its sockets linger for ten seconds: closing one waits until the other side has acknowledged everything (`TLS_LINGER_TIMEOUT` in
io/zenoh-links/zenoh-link-tls/src/lib.rs, a constant). On Linux that also holds for non-blocking sockets. So when an interrupted link is
given up, it blocks the thread that carries the messages of all other links; five such links block it for most of a minute. Without
lingering the kernel still sends the remaining data, and nothing waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import zenoh

from atoll.zenoh_link.events import Follower

_OFF = struct.pack("ii", 0, 0)  # struct linger: l_onoff, l_linger


def connections() -> Iterator[socket.socket]:
    """Yield the TCP sockets of this process, each as a duplicate that lives until the next one is taken."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            if not path.is_socket():
                continue
            descriptor = os.dup(int(path.name))
            try:
                same = socket.socket(fileno=descriptor)
            except OSError:
                os.close(descriptor)
                continue
            with same:
                if same.type == socket.SOCK_STREAM and same.family in {socket.AF_INET, socket.AF_INET6}:
                    yield same


def off() -> None:
    """Switch off lingering for all TCP sockets of this process."""
    for connection in connections():
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _OFF)


def watch(session: zenoh.Session) -> Follower:
    """Switch off lingering for the present and future sockets of a session.

    Returns:
        The thread that does so; stop it before the session is closed.
    """
    follower = Follower(session.info.declare_transport_events_listener, off, "no-linger")
    off()
    return follower
