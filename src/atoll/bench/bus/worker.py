"""The processes of an experiment: `python -m atoll.bench.bus.worker DESCRIPTOR PARENT`.

The first has imported oslo.messaging and forks the others, as the launcher of a service (or a fork server of ours) does, so that they
share what was imported. Each does what the experiment's own process asks for over a socket. Of oslo.messaging they use the public API.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from types import FrameType
from typing import Any, Protocol

from atoll.bench.bus.clients import Casters, Clients
from atoll.bench.bus.servers import EchoServer, RecordingServer
from atoll.runtime.linux import die_with_parent


class Role(Protocol):
    """What a worker does; its other methods are the commands that it takes."""

    def close(self) -> None:
        """End in good order."""


ROLES: dict[str, Callable[[], Role]] = {
    "clients": Clients,
    "casters": Casters,
    "server": EchoServer,
    "recorder": RecordingServer,
}


def obey(connection: Any, role: Any, *signals: int) -> None:  # noqa: ANN401, RUF100 - whatever has the commands as methods
    """Take commands until there are no more: each a pair of a name and arguments, answered by a pair of an error or None and a result.

    Args:
        connection: where commands come from.
        role: whose methods they are.
        signals: descriptors that become readable when a signal came, whose handler is to run then.
    """
    while True:
        wait([connection, *signals])
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        answer: tuple[str | None, Any]
        try:
            answer = (None, getattr(role, name)(**arguments))
        except Exception as error:  # noqa: BLE001, RUF100 - told to whoever asked
            logging.getLogger(__name__).exception(name)
            answer = (f"{type(error).__name__}: {error}", None)
        connection.send(answer)


class Template:
    """The process that forks the others; it has one thread and opens nothing."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401, RUF100
        self._connection = connection

    def load(self, modules: Iterable[str]) -> None:
        """Import what all are to share, and keep the garbage collector from touching it."""
        for name in modules:
            import_module(name)
        gc.collect()
        gc.freeze()

    def fork(self, role: str, log: str) -> int:
        """Fork a worker. The descriptor of its connection follows the command.

        Args:
            role: a key of `ROLES`.
            log: a file for what it says.

        Returns:
            Its pid.
        """
        descriptor = recv_handle(self._connection)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._connection.close()
            _live(role, Connection(descriptor), log, parent)
        os.close(descriptor)
        return pid


def _live(role_name: str, connection: Any, log: str, parent: int) -> None:  # noqa: ANN401, RUF100
    """Be a worker, and end as a service does: by leaving the interpreter in good order."""
    die_with_parent(parent)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(file, standard)
    os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Python runs a handler between two steps of its own: a signal that comes right before it waits for a command would wait with it.
    signals, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, _terminate)
    role = ROLES[role_name]()
    connection.send((None, "born"))
    try:
        obey(connection, role, signals)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        role.close()
    raise SystemExit(0)


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main(descriptor: str, parent: str) -> None:
    """Be the process that forks the others."""
    die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the experiment, which then ends its workers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here: the kernel is to forget them by itself
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    from oslo_service import backend  # noqa: PLC0415

    backend.init_backend(backend.BackendType.THREADING)  # or oslo.messaging's use of it imports eventlet
    import oslo_messaging  # noqa: F401, PLC0415

    gc.collect()
    connection = Connection(int(descriptor))
    connection.send((None, "imported"))
    obey(connection, Template(connection))


if __name__ == "__main__":
    main(*sys.argv[1:])
