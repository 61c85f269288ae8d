"""The program that runs a WAN: holds the sites' networks, moves their packets, and answers on the control socket.

    python -m atoll.wan.daemon DIRECTORY

reads one JSON object from standard input: the fields of `client.WanOptions`, and `network`. As soon as every link works, it writes one
line to standard output: `{"ok": pid}`; if the WAN can't be built, `{"error": …}`. The program ends at the request `end`, at SIGTERM, or
with the process `tied_to`. Only descriptors of this process keep the networks and devices alive, so that nothing outlives a `kill -9`.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import setproctitle

from atoll.cloud.network import Network
from atoll.control.messages import encode, failure
from atoll.errors import AtollError
from atoll.wan.client import LOCK, SOCKET
from atoll.wan.emulator import REFUSALS
from atoll.wan.fabric import Fabric
from atoll.wan.isolation import gain_networks
from atoll.wan.server import WanServer

_NICE = -10  # a packet that is due must not wait for the programs that send packets
_LOOK_S = 0.5


def main() -> None:
    """Run the WAN of the directory in `argv[1]`, as the module describes; exit with code 1 if it can't be built."""
    directory, request, told = Path(sys.argv[1]), json.load(sys.stdin), os.dup(1)
    os.dup2(2, 1)  # from now on, write standard output to the log too, which is standard error
    try:
        lock = _lock(directory)
        rootless = gain_networks()
        with suppress(OSError):  # only root may raise the priority
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # of this thread, and of those that it starts
        fabric = _build(request)
    except (AtollError, *REFUSALS) as error:
        os.write(told, failure(_told(error)))
        sys.exit(1)
    setproctitle.setproctitle(f"atoll: wan ({fabric.emulator})")
    server = WanServer(fabric, directory / SOCKET, rootless=rootless, tied_to=request.get("tied_to"))
    signal.signal(signal.SIGTERM, lambda _number, _frame: server.ended.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.start()
    os.write(told, encode({"ok": os.getpid()}))
    os.close(told)
    try:
        _await_end(server, fabric)
    finally:  # the WAN also ends here if its emulator has failed
        server.close()
        fabric.close()
        os.close(lock)


def _told(error: Exception) -> AtollError:
    return error if isinstance(error, AtollError) else AtollError("wan.unavailable", f"the kernel refuses to create a WAN: {error}")


def _lock(directory: Path) -> int:
    """Lock the directory, so that it has at most one WAN, and return the descriptor of the lock.

    Raises:
        AtollError: `state.busy`: the directory has a WAN already.
    """
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AtollError("state.busy", f"{directory} has a WAN already") from None
    return descriptor


def _build(request: Mapping[str, Any]) -> Fabric:
    network = Network.from_json(request["network"])
    return Fabric(network, request["emulator"], rerouting=request["rerouting"], seed=request["seed"])


def _await_end(server: WanServer, fabric: Fabric) -> None:
    with ExitStack() as watched:
        keeper: int | None = None
        descriptor = -1
        while not server.ended.wait(_LOOK_S):
            fabric.check()
            if server.tied_to is not None and server.tied_to != keeper:
                keeper = server.tied_to
                watched.close()
                try:
                    descriptor = os.pidfd_open(keeper)
                except ProcessLookupError:
                    return
                watched.callback(os.close, descriptor)
            if keeper is not None and select.select([descriptor], [], [], 0)[0]:
                return


if __name__ == "__main__":
    main()
