"""The supervisor's side of the control socket."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import atoll
from atoll import wire
from atoll.errors import AtollError
from atoll.runtime.events import Event, State
from atoll.runtime.spec import Plan, invalid
from atoll.runtime.supervisor import Supervisor

LOG = logging.getLogger("atoll.supervisor")

_STARTED = (State.READY, State.DONE, State.FAILED, State.STOPPED)
_STOPPED = (State.STOPPED,)


class Server:
    """Answers clients.

    Args:
        supervisor: what carries out their wishes.
        path: of the control socket.

    Attributes:
        shutdown: set when somebody wants the supervisor to end.
    """

    def __init__(self, supervisor: Supervisor, path: Path) -> None:
        self.shutdown = asyncio.Event()
        self._supervisor = supervisor
        self._path = path
        self._writer: str | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._ended: list[asyncio.StreamWriter] = []

    async def listen(self) -> None:
        """Listen, in place of a dead supervisor's socket if there is one. Only the one who has the lock may call this.

        Raises:
            OSError: the directory cannot be written to.
        """
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            wire.at(self._path, listener.bind)
        finally:
            os.umask(old)
        listener.setblocking(False)
        await asyncio.start_unix_server(self._serve, sock=listener, limit=wire.LINE_LIMIT)

    def close(self) -> None:
        """Tell those who wait for the end that it has come, and take the socket away."""
        for writer in self._ended:
            writer.write(wire.encode({"ok": None}))
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)  # the loop itself holds tasks only weakly
            task.add_done_callback(self._clients.discard)
        with suppress(ConnectionError):
            try:
                while await self._request(reader, writer):
                    pass
            finally:
                if writer not in self._ended:
                    writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if there will be no other."""
        try:
            line = await reader.readline()
        except ValueError:
            error = invalid(f"a message of more than {wire.LINE_LIMIT} bytes")
            writer.write(wire.encode({"error": wire.error_to_json(error)}))
            return False
        if not line:
            return False
        try:
            answer = await self._answer(_parse(line), reader, writer)
        except AtollError as error:
            answer = {"error": wire.error_to_json(error)}
        except Exception as error:
            LOG.exception("a request could not be carried out")
            answer = {"error": wire.error_to_json(AtollError("runtime.internal", f"the supervisor's error: {error!r}"))}
        if answer is None:
            return False
        writer.write(wire.encode(answer))
        await writer.drain()
        return True

    async def _answer(self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        """The last line of the answer; None if it is not to be given, or not now."""
        supervisor = self._supervisor
        verb = request.get("verb")
        match verb:
            case "ping":
                return {"ok": {"version": atoll.__version__, "pid": os.getpid(), "ending": self.shutdown.is_set()}}
            case "status":
                return {"ok": [status.to_json() for status in supervisor.status()]}
            case "shutdown":
                self._ended.append(writer)
                self.shutdown.set()
                return None
            case "start":
                plan = Plan.from_json(request.get("plan"))
                return await self._change("start", lambda: supervisor.start(plan), _STARTED, reader, writer)
            case "stop" | "kill":
                names = _names(request)
                end = partial(supervisor.stop, names) if verb == "stop" else partial(supervisor.kill, names or ())
                return await self._change(str(verb), end, _STOPPED, reader, writer)
            case "restart":
                name = str(request.get("name"))
                return await self._change("restart", lambda: supervisor.restart(name), _STARTED, reader, writer)
        raise invalid(f"the supervisor does not know the verb {verb!r}")

    async def _change(
        self,
        verb: str,
        begin: Callable[[], set[str]],
        final: tuple[State, ...],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> dict[str, Any] | None:
        """Change something, one client at a time, and send events until it has come to an end.

        A client that goes away does not undo what it has begun, but somebody else may then change things again.
        """
        if self.shutdown.is_set():
            raise AtollError("state.busy", "the supervisor is shutting down", "try again in a moment")
        if self._writer is not None:
            raise AtollError("state.busy", f"another command ({self._writer}) is running", "wait until it has ended")
        events: asyncio.Queue[Event] = asyncio.Queue()
        unwatch = self._supervisor.watch(events.put_nowait)
        self._writer = verb
        gone = asyncio.ensure_future(reader.read(1))
        try:
            return await _follow(begin(), final, events, gone, writer)
        finally:
            self._writer = None
            unwatch()
            gone.cancel()
            # The reader takes no second reader before the first has been told that it is cancelled.
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone


async def _follow(
    pending: set[str],
    final: tuple[State, ...],
    events: asyncio.Queue[Event],
    gone: asyncio.Future[bytes],
    writer: asyncio.StreamWriter,
) -> dict[str, Any] | None:
    failed: dict[str, Event] = {}
    wanted = set(pending)
    while pending:
        event = await _next(events, gone)
        if event is None:
            return None
        # No drain: the few lines fit into memory, and a client that does not read must not hold up the others.
        writer.write(wire.encode({"event": event.to_json()}))
        if event.process in pending and event.state in final:
            pending.discard(event.process)
        if event.process in wanted and final is _STARTED and event.state in (State.FAILED, State.STOPPED):
            failed[event.process] = event
    if failed:
        first = next(iter(failed.values()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        message = f"{first.process} {first.state}{more}: {first.detail}"
        return {"error": wire.error_to_json(AtollError("site.failed", message))}
    return {"ok": None}


async def _next(events: asyncio.Queue[Event], gone: asyncio.Future[bytes]) -> Event | None:
    """The next event; None if the client has gone away."""
    getting = asyncio.ensure_future(events.get())
    await asyncio.wait((getting, gone), return_when=asyncio.FIRST_COMPLETED)
    if getting.done():
        return getting.result()
    getting.cancel()
    return None


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise invalid("a message to the supervisor must be one line with a JSON object")
    return request


def _names(request: dict[str, Any]) -> list[str] | None:
    names = request.get("names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid("'names' must be a list of text")
    return names
