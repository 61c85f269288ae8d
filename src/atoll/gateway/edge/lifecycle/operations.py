"""The progress of operations, derived from the state of the server that Nova shows to the caller.

Nova carries out all operations. Only in a graceful termination does the gateway have a part: it waits until the guest has shut down, and
then deletes the server with the caller's token, which it keeps only in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from atoll.gateway.edge.front import Question
from atoll.gateway.edge.launcher import Launcher
from atoll.gateway.edge.lifecycle.store import IdleInstance, LifeOperation, OperationKind, State, Store
from atoll.gateway.edge.problem import Problem, undecided
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.paths import segment
from atoll.gateway.request.target import Refused

LOG = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two requests for the state of a server that is shutting down."""

MOST_WAITING = 64
"""Greatest number of servers whose shutdown one gateway waits for."""

MOST_OF_PROJECT = 16
"""Greatest number of those that belong to one project."""

GONE = frozenset(("DELETED", "SOFT_DELETED"))
"""Statuses of a deleted server, which Nova may still show for a moment."""

_WANTED = {OperationKind.START: "ACTIVE", OperationKind.STOP: "SHUTOFF"}


class Operations:
    """The operations of one gateway.

    Args:
        services: the services of the cloud.
        store: the record of operations.
        clock: Unix time.
    """

    def __init__(self, services: UserServices, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._services = services
        self._store = store
        self._clock = clock
        self._launcher = Launcher(services)
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._projects: dict[str, str] = {}  # of the servers that are waited for, or soon

    async def stop(self) -> None:
        """Stop waiting for guests; their servers are not deleted."""
        tasks = list(self._waiting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(
        self, question: Question, instance: str, server: str, kind: OperationKind, parameters: dict[str, Any] | None = None
    ) -> LifeOperation:
        """Record an operation that Nova has accepted, and return it."""
        now_s = self._clock()
        operation = LifeOperation(
            str(uuid.uuid4()), question.caller.project, instance, server, kind, now_s, now_s, parameters=parameters or {}
        )
        self._store.begin(operation)
        return operation

    async def change(self, question: Question, server: str, *, start: bool) -> None:
        """Have Nova start or stop a server.

        Raises:
            Problem: Nova refuses the action.
            Unreachable: the site of the server does not answer.
        """
        action = {"os-start" if start else "os-stop": None}
        self._services.expect(await self._services.send(question, "POST", "compute", f"/v2.1/servers/{segment(server)}/action", action))

    async def terminate(self, question: Question, server: str, wait_s: int, left: IdleInstance) -> None:
        """Have Nova delete a server: at once, or when its guest has shut down.

        Args:
            question: the request of the caller.
            server: the id of the server.
            wait_s: the seconds for which the guest may shut down; 0 to delete the server at once.
            left: the instance without the server; once Nova has accepted the deletion, it is kept as one that no site has.

        Raises:
            Problem: Nova refuses the deletion or the stop, or the gateway already waits for `MOST_WAITING` guests.
            Unreachable: the site of the server does not answer.
        """
        if server in self._projects and wait_s:
            raise Problem(403, "the instance is being terminated already")
        shown = await self._shown(question, server) if wait_s else None
        if shown is None or shown.get("status") != "ACTIVE":
            await self._delete(question, server, left)
            if (held := self._waiting.get(server)) is not None:
                held.cancel()
            return
        self._reserve(server, question.caller.project)
        try:
            await self.change(question, server, start=False)
        except BaseException:
            self._forget(server)
            raise
        task = self._waiting[server] = asyncio.get_running_loop().create_task(self._delete_stopped(question, server, wait_s, left))
        task.add_done_callback(lambda _task: self._forget(server))

    def _reserve(self, server: str, project: str) -> None:
        """Count a server whose guest is to shut down.

        Raises:
            Problem: the gateway waits for too many guests, in all or of the project.
        """
        own = sum(each == project for each in self._projects.values())
        if len(self._projects) >= MOST_WAITING or own >= MOST_OF_PROJECT:
            most = f"{MOST_OF_PROJECT} guests of a project, {MOST_WAITING} of all"
            raise Problem(429, f"the gateway waits for as many guests as it may ({most}): use FORCEFUL, or try again", "TOO_MANY_REQUESTS")
        self._projects[server] = project

    def _forget(self, server: str) -> None:
        self._projects.pop(server, None)
        self._waiting.pop(server, None)

    async def seen(self, question: Question, operation: LifeOperation) -> LifeOperation:
        """Return an operation in its present state.

        Raises:
            Problem: Nova refuses to show the server.
            Unreachable: the site of the server does not answer.
        """
        if operation.state is not State.PROCESSING:
            return operation
        # Read this before the request to Nova: the server may be deleted, and no longer awaited, before Nova's answer arrives.
        waiting = operation.server in self._waiting
        return self._judged(operation, await self._shown(question, operation.server), waiting=waiting)

    async def seen_all(self, question: Question, operations: Sequence[LifeOperation]) -> list[LifeOperation]:
        """Return operations in their present states, as far as sites answer, from one list of servers.

        Raises:
            Problem: Nova refuses the list.
        """
        if all(each.state is not State.PROCESSING for each in operations):
            return list(operations)
        waiting = frozenset(self._waiting)
        try:
            listed = await self._services.list(question, "compute", "/v2.1/servers/detail", "servers")
        except (Problem, Unreachable) as error:
            if undecided(error):
                return list(operations)
            raise
        servers = {str(server["id"]): server for server in listed.items}
        found: list[LifeOperation] = []
        for each in operations:
            if each.state is State.PROCESSING and each.server in servers:
                found.append(self._judged(each, servers[each.server], waiting=each.server in waiting))
            elif each.state is State.PROCESSING and not listed.missing:
                found.append(await self._seen_if_answered(question, each))  # a list may lack a server that moves
            else:
                found.append(each)
        return found

    async def _seen_if_answered(self, question: Question, operation: LifeOperation) -> LifeOperation:
        """Return an operation in its present state, or as it was seen last if nobody can tell more now.

        Raises:
            Problem: Nova refuses to show the server.
        """
        try:
            return await self.seen(question, operation)
        except (Problem, Unreachable) as error:
            if undecided(error):
                return operation
            raise

    def _judged(self, operation: LifeOperation, server: Mapping[str, Any] | None, *, waiting: bool) -> LifeOperation:
        """Return an operation in the state that its server shows, and record its end."""
        state = _state(operation, server, waiting=waiting)
        return operation if state is State.PROCESSING else self._store.end(operation, state, self._clock())

    async def _shown(self, question: Question, server: str) -> dict[str, Any] | None:
        return await self._services.show(question, "compute", f"/v2.1/servers/{segment(server)}", "server")

    async def _delete(self, question: Question, server: str, left: IdleInstance) -> None:
        await self._launcher.delete(question, server)
        self._store.change(replace(left, site=""))

    async def _has_stopped(self, question: Question, server: str) -> bool:
        """Return whether a server is stopped or gone; False if nobody can tell now.

        Raises:
            Problem: Nova refuses to show the server.
        """
        try:
            shown = await self._shown(question, server)
        except (Problem, Unreachable, Refused) as error:
            if undecided(error):
                return False
            raise
        return shown is None or (shown.get("status") != "ACTIVE" and shown.get("OS-EXT-STS:task_state") is None)

    async def _delete_stopped(self, question: Question, server: str, wait_s: int, left: IdleInstance) -> None:
        """Delete a server once it is stopped, or when the time has run out; a site that does not answer meanwhile is asked again."""
        until_s = self._clock() + wait_s
        try:
            while self._clock() < until_s:
                if await self._has_stopped(question, server):
                    break
                await asyncio.sleep(min(LOOK_S, max(0.0, until_s - self._clock())))
            await self._delete(question, server, left)
        except (Problem, Unreachable, Refused) as error:
            LOG.info("%s: the stopped server %s can't be deleted: %s", question.request_id, server, error)


def _state(operation: LifeOperation, server: Mapping[str, Any] | None, *, waiting: bool) -> State:
    """Return the state of an operation.

    Args:
        operation: the operation.
        server: its server, as Nova shows it; `None` if the server does not exist.
        waiting: whether the gateway waited for the server's guest when Nova was asked.
    """
    if operation.kind is OperationKind.TERMINATE:
        if server is None or server.get("status") in GONE:
            return State.COMPLETED
        return State.PROCESSING if waiting or server.get("OS-EXT-STS:task_state") is not None else State.FAILED
    if server is None or server.get("status") == "ERROR":
        return State.FAILED
    if server.get("OS-EXT-STS:task_state") is not None or server.get("status") == "BUILD":
        return State.PROCESSING
    # A new server may have been stopped before the first request for this state.
    reached = operation.kind is OperationKind.INSTANTIATE or server.get("status") == _WANTED[operation.kind]
    return State.COMPLETED if reached else State.FAILED
