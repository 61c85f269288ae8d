"""The crash points of a service process: before and after each commit, RPC message and request.

The runtime calls `install` in each process that it forks, before the process's own entry, if the environment of the supervisor names the
function (`HOOK`). Requests that only read are not crash points, because a death there has the same effect as at the next point.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atoll.bench.crashes.point import Board, Watch, masked
from atoll.runtime.child import Child
from atoll.runtime.fork_server import HOOK
from atoll.site import up

ENVIRONMENT = {HOOK: f"{__name__}:install"}
"""The environment that the supervisor of the sites must be started with."""

BOARD = "ATOLL_CRASHES"
"""An environment variable of a joining site: the directory of the site whose crash point files the joining site uses."""

JOINING = "joining"
"""The site's name in crash points of a joining site's processes, because the site's real name differs in each trial."""

READS = frozenset({"GET", "HEAD", "OPTIONS"})

BACKGROUND = frozenset({"UPDATE services", "UPDATE agents"})
"""Commits of periodic heartbeats, which are not crash points."""

_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)(?:\s+OR\s+\w+)?(?:\s+INTO|\s+FROM)?\s+[\"`]?(\w+)", re.IGNORECASE)

Reach = Callable[[str], None]


def install(child: Child) -> None:
    """Install the crash points in this process, if it is a service of a site."""
    site, _, service = child.name.partition("/")
    if not service or site == "template" or "directory" not in child.arguments:
        return
    board = os.environ.get(BOARD)
    name = f"{JOINING}/{service}" if board else child.name
    reach = Watch(Board(Path(board or child.arguments["directory"])), name, _die).reach
    if service in ("gateway", "bus"):
        _gateway(reach)
        return
    _commits(reach)
    _messages(reach)
    _requests(reach)
    _answers(reach)


def install_in_command() -> None:
    """Install the crash points in this process, the command by which a site joins."""
    reach = Watch(Board(Path(os.environ[BOARD])), f"{JOINING}/command", _die).reach
    _written_files(reach)
    _calls(reach, http.client.HTTPSConnection, "request", lambda *_: "request")
    _calls(reach, http.client.HTTPSConnection, "getresponse", lambda *_: "answer")
    _calls(reach, up, "ensure_supervisor", lambda *_: "start of the supervisor")
    _calls(reach, up, "start_plan", lambda *_: "start of the processes")


def _calls(reach: Reach, owner: Any, name: str, what: Callable[..., str]) -> None:
    """Make the calls of a function crash points: one before each call, and one after it.

    Args:
        reach: called with each point.
        owner: the module or class of the function.
        name: the name of the function.
        what: returns the event for the arguments of a call; empty if it is not an event.
    """
    call = getattr(owner, name)

    def watched(*arguments: Any, **keywords: Any) -> Any:
        event = what(*arguments, **keywords)
        if not event:
            return call(*arguments, **keywords)
        reach(f"before {event}")
        result = call(*arguments, **keywords)
        reach(f"after {event}")
        return result

    setattr(owner, name, watched)


def _written_files(reach: Reach) -> None:
    """Make the writing of whole files crash points, except configuration files, which each command writes if they are missing."""

    def what(_self: Path, target: Path) -> str:
        return "" if "etc" in target.parts else f"writing {target.name}"

    _calls(reach, Path, "replace", what)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # wait until the signal arrives


def written(statement: str) -> str:
    """Return the verb and the table of a statement that writes; empty for other statements."""
    match = _WRITES.match(statement)
    return f"{match[1].upper()} {match[2]}" if match else ""


def _commits(reach: Reach) -> None:
    from sqlalchemy import Engine, event

    from atoll.db.sqlite import QueuedConnection

    def note(_conn: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        what = written(statement)
        if what and isinstance(cursor.connection, QueuedConnection):
            vars(cursor.connection).setdefault("wrote", set()).add(what)

    commit, rollback = QueuedConnection.commit, QueuedConnection.rollback

    def watched_commit(self: QueuedConnection) -> None:
        wrote = vars(self).pop("wrote", set())
        what = " + ".join(sorted(wrote))
        if wrote <= BACKGROUND:
            commit(self)
            return
        reach(f"before commit {what}")
        commit(self)
        reach(f"after commit {what}")

    def watched_rollback(self: QueuedConnection) -> None:
        vars(self).pop("wrote", None)
        rollback(self)

    event.listen(Engine, "before_cursor_execute", note)
    QueuedConnection.commit, QueuedConnection.rollback = watched_commit, watched_rollback  # type: ignore[method-assign]  # wraps it


def _messages(reach: Reach) -> None:
    from oslo_messaging.rpc.dispatcher import RPCDispatcher

    from atoll.bus.driver import ZenohDriver

    send, dispatch = ZenohDriver.send, RPCDispatcher.dispatch

    def watched_send(self: Any, target: Any, ctxt: Any, message: Any, *arguments: Any, **keywords: Any) -> Any:
        what = f"message {message['method']}"
        reach(f"before sending {what}")
        reply = send(self, target, ctxt, message, *arguments, **keywords)
        reach(f"after sending {what}")
        return reply

    def watched_dispatch(self: Any, incoming: Any) -> Any:
        what = f"message {incoming.message.get('method')}"
        reach(f"before executing {what}")
        result = dispatch(self, incoming)
        reach(f"after executing {what}")
        return result

    ZenohDriver.send = watched_send  # type: ignore[method-assign]  # wraps it
    RPCDispatcher.dispatch = watched_dispatch


def _requests(reach: Reach) -> None:
    from requests import Session

    send = Session.send

    def watched(self: Session, request: Any, **keywords: Any) -> Any:
        if request.method in READS:
            return send(self, request, **keywords)
        what = f"{request.method} {masked(urlsplit(request.url).path)}"
        reach(f"before request {what}")
        response = send(self, request, **keywords)
        reach(f"after request {what}")
        return response

    Session.send = watched  # type: ignore[method-assign]  # wraps it


def _answers(reach: Reach) -> None:
    from atoll.services.wsgi import Server

    begin = Server.__init__

    def watched(self: Server, listener: Any, application: Any, *arguments: Any, **keywords: Any) -> None:
        begin(self, listener, _reaching(application, reach), *arguments, **keywords)

    Server.__init__ = watched  # type: ignore[method-assign]  # wraps it


def _reaching(application: Any, reach: Reach) -> Any:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READS:
            parts: Iterable[bytes] = application(environ, start_response)
            return parts
        what = f"{environ['REQUEST_METHOD']} {masked(environ.get('SCRIPT_NAME', '') + environ['PATH_INFO'])}"
        reach(f"before taking {what}")
        answered = application(environ, start_response)
        reach(f"before answering {what}")
        return _Answer(answered, lambda: reach(f"after answering {what}"))

    return answer


class _Answer:
    """The body of an answer; it reports when the server has sent its last part and closes it."""

    def __init__(self, parts: Iterable[bytes], sent: Callable[[], None]) -> None:
        self._parts = parts
        self._sent = sent

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def close(self) -> None:
        """Close the answer, as PEP 3333 requires."""
        if hasattr(self._parts, "close"):
            self._parts.close()
        self._sent()


def _gateway(reach: Reach) -> None:
    import aiohttp
    from aiohttp.web_protocol import RequestHandler

    _files(reach)
    request, handle, finish = aiohttp.ClientSession._request, RequestHandler._handle_request, RequestHandler.finish_response

    async def watched_request(self: Any, method: str, url: Any, **keywords: Any) -> Any:
        if method in READS:
            return await request(self, method, url, **keywords)
        what = f"{method} {masked(urlsplit(str(url)).path)}"
        reach(f"before request {what}")
        response = await request(self, method, url, **keywords)
        reach(f"after request {what}")
        return response

    async def watched_handle(self: Any, asked: Any, *arguments: Any) -> Any:
        if asked.method not in READS:
            reach(f"before taking {asked.method} {masked(asked.path)}")
        return await handle(self, asked, *arguments)

    async def watched_finish(self: Any, asked: Any, *arguments: Any) -> Any:
        if asked.method in READS:
            return await finish(self, asked, *arguments)
        what = f"{asked.method} {masked(asked.path)}"
        reach(f"before answering {what}")
        finished = await finish(self, asked, *arguments)
        reach(f"after answering {what}")
        return finished

    aiohttp.ClientSession._request = watched_request  # type: ignore[method-assign, assignment]  # wraps it
    RequestHandler._handle_request = watched_handle  # type: ignore[method-assign, assignment]  # wraps it
    RequestHandler.finish_response = watched_finish  # type: ignore[method-assign, assignment]  # wraps it


def _files(reach: Reach) -> None:
    """Make commits in the gateway's own SQLite files crash points; its connections use explicit transactions or commit each statement."""
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        wrote: frozenset[str] = frozenset()

        def execute(self, sql: str, *arguments: Any) -> Any:
            within, what = self.in_transaction, written(sql)
            ends = sql.strip().upper().startswith("COMMIT")
            if what and not within:
                return self._committing(what, lambda: sqlite3.Connection.execute(self, sql, *arguments))
            if ends:
                return self._committing(" + ".join(sorted(self.wrote)), lambda: sqlite3.Connection.execute(self, sql, *arguments))
            self.wrote = self.wrote | {what} if what else self.wrote
            return super().execute(sql, *arguments)

        def commit(self) -> None:
            self._committing(" + ".join(sorted(self.wrote)), lambda: sqlite3.Connection.commit(self))

        def __exit__(self, *arguments: Any) -> Any:
            if arguments[0] is not None:
                self.wrote = frozenset()
                return super().__exit__(*arguments)
            return self._committing(" + ".join(sorted(self.wrote)), lambda: sqlite3.Connection.__exit__(self, *arguments))

        def _committing(self, what: str, commit: Callable[[], Any]) -> Any:
            self.wrote = frozenset()
            if not what:
                return commit()
            reach(f"before commit {what}")
            done = commit()
            reach(f"after commit {what}")
            return done

    def watched(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
        made: sqlite3.Connection = connect(*arguments, **{"factory": Watched, **keywords})
        return made

    sqlite3.connect = watched  # type: ignore[assignment]  # wraps it
