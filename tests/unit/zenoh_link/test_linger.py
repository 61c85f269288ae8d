"""Lingering is switched off for Zenoh's sockets."""

import contextlib
import socket
import struct
import threading
import time

import zenoh

from atoll.zenoh_link import linger
from atoll.zenoh_link.config import session_config


def lingering(port: int) -> list[bool]:
    """Return whether each connection of this process from or to a port of the loopback interface lingers."""
    found = []
    for each in linger.connections():
        with contextlib.suppress(OSError):  # a listening one has no peer
            if port in {each.getsockname()[1], each.getpeername()[1]}:
                found.append(struct.unpack("ii", each.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0] == 1)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_connections_of_both_sides_do_not_linger():
    port = free_port()
    listening = zenoh.open(session_config(mode="peer", listen=[f"tcp/127.0.0.1:{port}"], connect=[]))
    try:
        early = zenoh.open(session_config(mode="client", listen=[], connect=[f"tcp/127.0.0.1:{port}"]))
        assert lingering(port) == [True, True], "upstream's sockets must linger; if they no longer do, remove linger.py"
        kept = linger.watch(listening)
        assert lingering(port) == [False, False]
        late = zenoh.open(session_config(mode="client", listen=[], connect=[f"tcp/127.0.0.1:{port}"]))
        linger.off()
        deadline = time.monotonic() + 20
        while lingering(port) != [False] * 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lingering(port) == [False] * 4
        late.close()
        early.close()
        kept.stop()
    finally:
        listening.close()


def test_each_new_link_has_lingering_switched_off():
    port = free_port()
    listening = zenoh.open(session_config(mode="peer", listen=[f"tcp/127.0.0.1:{port}"], connect=[]))
    kept = linger.watch(listening)
    late = zenoh.open(session_config(mode="client", listen=[], connect=[f"tcp/127.0.0.1:{port}"]))
    deadline = time.monotonic() + 20
    while any(lingering(port)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lingering(port) == [False, False]
    late.close()
    kept.stop()
    listening.close()


def test_nobody_follows_any_more_once_it_is_stopped():
    def following() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "no-linger"]

    listening = zenoh.open(session_config(mode="router", listen=[f"tcp/127.0.0.1:{free_port()}"], connect=[]))
    before = following()
    kept = linger.watch(listening)
    (ours,) = set(following()) - set(before)
    kept.stop()
    assert not ours.is_alive()
    listening.close()
