"""The worker processes of an experiment: `python -m atoll.bench.bus.worker DESCRIPTOR PARENT`.

The first process imports oslo.messaging and forks the others, like the launcher of a service or an Atoll fork server, so that they
share the imported modules. Each executes commands that the experiment's own process sends over a socket, with oslo.messaging's public API.
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
from atoll.bench.bus.site_roles import SiteClients, SiteServers
from atoll.runtime.parents import die_with_parent


class Role(Protocol):
    """The role of a worker; its other methods are its commands."""

    def close(self) -> None:
        """End the role gracefully."""


ROLES: dict[str, Callable[[], Role]] = {
    "clients": Clients,
    "casters": Casters,
    "server": EchoServer,
    "recorder": RecordingServer,
    "site-clients": SiteClients,
    "site-servers": SiteServers,
}


def obey(connection: Any, role: Any, *signals: int) -> None:
    """Execute commands until the connection closes.

    A command is a pair of a name and arguments; its answer is a pair of an error or `None` and a result.

    Args:
        connection: the connection over which the commands arrive.
        role: the object whose methods carry out the commands.
        signals: descriptors that become readable after a signal, so that the wait for a command ends and the signal's handler runs.
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
        except Exception as error:
            logging.getLogger(__name__).exception(name)
            answer = (f"{type(error).__name__}: {error}", None)
        connection.send(answer)


class WorkerForkServer:
    """The role of the process that forks the others; it has one thread and opens no transport."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def load(self, modules: Iterable[str]) -> None:
        """Import modules that the workers share, and freeze them for the garbage collector."""
        for name in modules:
            import_module(name)
        gc.collect()
        gc.freeze()

    def fork(self, role: str, log: str) -> int:
        """Fork a worker; the descriptor of its connection follows the command.

        Args:
            role: a key of `ROLES`.
            log: the path of the file for its output.

        Returns:
            The worker's pid.
        """
        descriptor = recv_handle(self._connection)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._connection.close()
            _live(role, Connection(descriptor), log, parent)
        os.close(descriptor)
        return pid


def _live(role_name: str, connection: Any, log: str, parent: int) -> None:
    """Run a worker until its connection closes or SIGTERM arrives; then leave the interpreter normally, as a service does."""
    die_with_parent(parent)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(file, standard)
    os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Python runs signal handlers only between bytecodes: without this, a signal just before the wait for a command would be delayed.
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
    """Run the process that forks the others."""
    die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the experiment handles Ctrl-C, and ends its workers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the workers: no code here waits for them
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)  # otherwise oslo.messaging would import eventlet
    import oslo_messaging  # noqa: F401 - the workers, forked from here, need not import it

    gc.collect()
    connection = Connection(int(descriptor))
    connection.send((None, "imported"))
    obey(connection, WorkerForkServer(connection))


if __name__ == "__main__":
    main(*sys.argv[1:])
