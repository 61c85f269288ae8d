"""Sockets of Zenoh that do not linger.

Zenoh has its sockets linger for ten seconds: to close one waits until the other side has acknowledged all (`TLS_LINGER_TIMEOUT` in
io/zenoh-links/zenoh-link-tls/src/lib.rs, which can be changed only when it is compiled). On Linux that holds for sockets too whose calls
never wait otherwise. So a link that is cut, once it is given up, stops the thread that carries the messages of all other links; five
such links stop it for most of a minute. Without it the kernel sends what is left all the same, and nobody waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zenoh

_OFF = struct.pack("ii", 0, 0)  # struct linger: l_onoff, l_linger


def connections() -> Iterator[socket.socket]:
    """The TCP sockets that this process has now, each as a duplicate that lives until the next one is asked for."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed meanwhile
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
    """Have none of them linger."""
    for connection in connections():
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _OFF)


def watch(session: zenoh.Session) -> Any:
    """Have none of a session's sockets linger, nor those of links to come.

    Returns:
        What is to be undeclared before the session is closed.
    """
    listener: Any = session.info.declare_transport_events_listener(zenoh.handlers.RingChannel(1))
    threading.Thread(target=_follow, args=(listener.handler,), name="no-linger", daemon=True).start()
    off()
    return listener


def _follow(events: Any) -> None:
    """Look at all sockets whenever a link has come or gone, as long as that is told.

    Not as a callback: a thread of Zenoh's would wait for the interpreter, and the interpreter, when nobody refers to the session of a
    router in this process any more, for all of Zenoh's threads.
    """
    with contextlib.suppress(zenoh.ZError):  # it is undeclared
        while events.recv():
            off()
