"""Functions for plans and processes in the runtime's tests."""

import os
import select
import signal
from contextlib import suppress

from atoll.runtime.client import SupervisorClient
from atoll.runtime.spec import ForkServer, Plan, Process

SERVERS = (ForkServer("base", "programs:preload"), ForkServer("server", "programs:preload", "base"))


def plan(*processes: Process, fork_servers: tuple[ForkServer, ...] = SERVERS) -> Plan:
    return Plan(fork_servers, processes)


def pids(control: SupervisorClient) -> dict[str, int]:
    return {status.name: status.pid for status in control.status() if status.pid is not None}


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal, and wait until the process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signum)
        _await(descriptor)
    finally:
        os.close(descriptor)


def await_exit(pid: int) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            _await(descriptor)
        finally:
            os.close(descriptor)


def _await(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(10_000), "the process is still there"
