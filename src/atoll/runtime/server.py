"""The requests that a supervisor answers on its control socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import atoll
from atoll.control.server import ControlServer, Exchange, Handler, HungUpError
from atoll.errors import AtollError
from atoll.runtime.events import Event, ProcessState
from atoll.runtime.spec import Plan, invalid
from atoll.runtime.supervisor import Supervisor

_STARTED = (ProcessState.READY, ProcessState.DONE, ProcessState.FAILED, ProcessState.STOPPED)
_STOPPED = (ProcessState.STOPPED,)


class SupervisorServer:
    """Answers the clients of a supervisor.

    Args:
        supervisor: carries out the requests.
        path: the path of the control socket.

    Attributes:
        shutdown: set when a client asks the supervisor to end.
    """

    def __init__(self, supervisor: Supervisor, path: Path) -> None:
        self.shutdown = asyncio.Event()
        self._supervisor = supervisor
        self._changing: str | None = None
        handlers: dict[str, Handler] = {
            "ping": self._ping,
            "status": self._status,
            "shutdown": self._shut_down,
            "start": self._start,
            "stop": self._stop,
            "kill": self._kill,
            "restart": self._restart,
        }
        self._server = ControlServer(path, handlers, name="the supervisor", invalid="runtime.invalid", failed="runtime.internal")

    async def listen(self) -> None:
        """Listen, in place of the socket of a dead supervisor. Only the holder of the lock may call this.

        Raises:
            OSError: the directory cannot be written to.
        """
        await self._server.start()

    def close(self) -> None:
        """Answer the clients that wait for the supervisor's end, and remove the socket."""
        self._server.close()

    async def _ping(self, _exchange: Exchange) -> dict[str, Any]:
        return {"version": atoll.__version__, "pid": os.getpid(), "ending": self.shutdown.is_set()}

    async def _status(self, _exchange: Exchange) -> list[dict[str, Any]]:
        return [status.to_json() for status in self._supervisor.status()]

    async def _shut_down(self, exchange: Exchange) -> None:
        exchange.defer()
        self.shutdown.set()

    async def _start(self, exchange: Exchange) -> None:
        plan = Plan.from_json(exchange.request.get("plan"))
        await self._change(exchange, lambda: self._supervisor.start(plan), _STARTED)

    async def _stop(self, exchange: Exchange) -> None:
        await self._change(exchange, partial(self._supervisor.stop, _names(exchange.request)), _STOPPED)

    async def _kill(self, exchange: Exchange) -> None:
        await self._change(exchange, partial(self._supervisor.kill, _names(exchange.request) or ()), _STOPPED)

    async def _restart(self, exchange: Exchange) -> None:
        await self._change(exchange, partial(self._supervisor.restart, str(exchange.request.get("name"))), _STARTED)

    async def _change(self, exchange: Exchange, begin: Callable[[], set[str]], final: tuple[ProcessState, ...]) -> None:
        """Carry out a change, for one client at a time, and send events until the change is complete.

        If the client hangs up, the change continues, but another client may begin a further change.

        Args:
            exchange: the client's request.
            begin: begins the change, and returns the names of the processes to wait for.
            final: the states in which a process has completed the change.

        Raises:
            AtollError: `state.busy`: another command changes the processes; `site.failed`: a process did not become ready; as for `begin`.
        """
        if self.shutdown.is_set():
            raise AtollError("state.busy", "the supervisor is shutting down", "try again in a moment")
        if self._changing is not None:
            raise AtollError("state.busy", f"another command ({self._changing}) is running", "wait until it has ended")
        events: asyncio.Queue[Event] = asyncio.Queue()
        unwatch = self._supervisor.watch(events.put_nowait)
        self._changing = exchange.request["verb"]
        try:
            async with exchange.hang_up() as gone:
                try:
                    await _follow(begin(), final, events, gone, exchange)
                finally:
                    self._changing = None
        finally:
            unwatch()


async def _follow(
    pending: set[str],
    final: tuple[ProcessState, ...],
    events: asyncio.Queue[Event],
    gone: asyncio.Future[bytes],
    exchange: Exchange,
) -> None:
    failed: dict[str, Event] = {}
    wanted = set(pending)
    while pending:
        event = await _next(events, gone)
        exchange.send(event.to_json())
        if event.process in pending and event.state in final:
            pending.discard(event.process)
        if event.process in wanted and final is _STARTED and event.state in (ProcessState.FAILED, ProcessState.STOPPED):
            failed[event.process] = event
    if failed:
        first = next(iter(failed.values()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise AtollError("site.failed", f"{first.process} {first.state}{more}: {first.detail}")


async def _next(events: asyncio.Queue[Event], gone: asyncio.Future[bytes]) -> Event:
    """Return the next event.

    Raises:
        HungUpError: the client has hung up.
    """
    getting = asyncio.ensure_future(events.get())
    await asyncio.wait((getting, gone), return_when=asyncio.FIRST_COMPLETED)
    if getting.done():
        return getting.result()
    getting.cancel()
    raise HungUpError


def _names(request: dict[str, Any]) -> list[str] | None:
    names = request.get("names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid("'names' must be a list of text")
    return names
