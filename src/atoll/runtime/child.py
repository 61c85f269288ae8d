"""The interface of a supervised process to its supervisor: arguments, sockets, the report that it is ready, the request to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any


class Child:
    """The object by which a process's entry function communicates with the supervisor.

    A service calls `ready` when it can serve, and then `wait`, which returns when the service has to stop. A job returns or raises. SIGTERM
    before `ready`, and in a job at any time, raises SystemExit in the main thread: a start that is no longer needed ends immediately, and
    `finally` blocks run.

    Args:
        name: the name of the process, such as `paris/nova`.
        arguments: the arguments of the process's `Process`, as JSON data.
        sockets: listening sockets, in the order of `Process.listen`.
        status: descriptor of the pipe to the supervisor.
        job: whether the process is a job.

    Attributes:
        stopping: set on SIGTERM. For threads other than the main thread, which uses `wait`.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], sockets: Sequence[socket.socket], status: int, *, job: bool) -> None:
        self.name = name
        self.arguments = arguments
        self.sockets = list(sockets)
        self.stopping = threading.Event()
        self._status: int | None = status
        self._interruptible = True
        self._job = job
        self._callbacks: list[Callable[[], object]] = []
        self._wakeup, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The kernel may interrupt any thread with a signal, and Python's handler runs in the main one, which sleeps in `wait`.
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def starting(self) -> None:
        """Tell the supervisor that a long start makes progress, so that `ready_timeout_s` counts from now. Any thread may call this."""
        if self._status is not None and not self._job:
            with suppress(BrokenPipeError):
                os.write(self._status, b"starting\n")

    def ready(self) -> None:
        """Tell the supervisor that this service can serve. Further calls have no effect."""
        self._interruptible = self._job
        if self._status is None or self._job:
            return
        # Objects that exist when a service becomes ready live until it ends, so the garbage collector need not examine them again.
        gc.collect()
        gc.freeze()
        # A broken pipe means that the supervisor has died: the kernel is about to kill this process too.
        with suppress(BrokenPipeError):
            os.write(self._status, b"ready\n")
        os.close(self._status)
        self._status = None

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Register a function that `wait` calls, in the main thread, when this process has to stop; the latest first."""
        self._callbacks.append(callback)

    async def stopped(self) -> None:
        """Wait until this process has to stop.

        This is for a main thread with an event loop. The functions given to `on_stop` are not called.
        """
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._wakeup, woken.set)
        try:
            while not self.stopping.is_set():
                await woken.wait()
                woken.clear()
                with suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
        finally:
            loop.remove_reader(self._wakeup)

    def wait_for(self, readable: int, timeout_s: float) -> bool:
        """Block until a descriptor is readable, a time has passed, or this process has to stop. For the main thread only.

        Args:
            readable: the descriptor.
            timeout_s: the longest time to wait, in seconds.

        Returns:
            False if this process has to stop; `wait` then returns immediately.
        """
        poll = select.poll()
        for descriptor in (self._wakeup, readable):
            poll.register(descriptor, select.POLLIN)
        if not self.stopping.is_set():
            poll.poll(timeout_s * 1000)
        return not self.stopping.is_set()

    def wait(self) -> None:
        """Block until this process has to stop, then call the functions given to `on_stop`. For the main thread only."""
        # `Event.wait` would deadlock: its lock is not re-entrant, and the signal handler takes it too.
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        while not self.stopping.is_set():
            poll.poll()
            with suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
        while self._callbacks:
            callback = self._callbacks.pop()
            try:
                callback()
            except Exception:  # the remaining callbacks must run too
                traceback.print_exc()

    def _on_sigterm(self, _signum: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            os.write(self._waker, b"\0")
        self.stopping.set()
        if self._interruptible:
            self._interruptible = False
            sys.exit(128 + signal.SIGTERM)


def run(entry: Callable[[Child], object], child: Child) -> int:
    """Call an entry function, and return the exit code of the process.

    Returns:
        0 if a job returned, or a service that was asked to stop; otherwise 1, and the reason is in the log.
    """
    try:
        entry(child)
    except SystemExit as error:
        if child.stopping.is_set() and not child._job:
            return 0
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)  # noqa: T201 - standard error is the log here
        return 1
    except BaseException:  # any error goes to the log and ends the process
        traceback.print_exc()
        return 1
    if child.stopping.is_set() or child._job:
        return 0
    print(f"{child.name}: its entry returned before it was asked to stop", file=sys.stderr)  # noqa: T201 - standard error is the log here
    return 1
