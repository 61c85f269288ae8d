"""Saves of the host's record, `ComputeNode`, that a thread of their own sends in order, so that no claim waits for them.

At each claim, upstream's tracker saves the host's use of resources while it holds the lock of all claims (`ResourceTracker._update` in
nova/compute/resource_tracker.py), so that all builds of a host wait for its round trip. The record only informs the scheduler's filters and
weighers: claims are kept by Placement, and the tracker counts anew when nova-compute starts. So one thread sends the saves of a process,
one after the other, and the newest takes the place of an older one that still waits. A save that fails is tried again, with the changes of
later saves. The caller of a save outside of a build or a deletion, such as a periodic task, waits for the result and gets its error.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from nova import exception
from oslo_log import log

LOG = log.getLogger(__name__)

RETRY_S = 5.0
"""Seconds until a save that failed is tried again."""

Send = Callable[[Any, Any, str, Any, Any], Any]


@dataclass
class _Report:
    context: Any
    node: Any
    arguments: tuple[Any, Any]
    trace: contextvars.Context
    waiting: list[Future[Any]] = field(default_factory=list)


class NodeReports:
    """The saves of `ComputeNode` of one process.

    Args:
        send: makes the call at the conductor, as `ConductorAPI.object_action` does.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._unsent: dict[str, _Report] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def save(self, context: Any, node: Any, args: Any, kwargs: Any, *, waits: bool) -> Any:
        """Save the record in its present state.

        Args:
            context: the caller's context.
            node: the record.
            args: positional arguments of `ComputeNode.save`.
            kwargs: keyword arguments of `ComputeNode.save`.
            waits: True if the caller waits until the record was saved.

        Returns:
            The fields that have changed, and the result, as of `ConductorAPI.object_action`.

        Raises:
            Exception: the save failed, and the caller has waited for it.
        """
        report, sent = _Report(context, deepcopy(node), (args, kwargs), contextvars.copy_context()), Future[Any]()
        if waits:
            report.waiting.append(sent)
        with self._changed:
            self._put(report)
            if self._thread is None:
                # Its context is that of no request: each save is sent in the context of its own.
                self._thread = threading.Thread(target=contextvars.Context().run, args=(self._work,), name="node-reports", daemon=True)
                self._thread.start()
            self._changed.notify()
        return sent.result() if waits else ({"obj_what_changed": []}, None)

    def _put(self, report: _Report) -> None:
        """Queue a report. If an older one still waits, replace it, and take over its changes and its waiting callers."""
        older = self._unsent.get(report.node.uuid)
        if older is not None:
            report.node._changed_fields = report.node.obj_what_changed() | older.node.obj_what_changed()
            report.waiting += older.waiting
        self._unsent[report.node.uuid] = report

    def _work(self) -> None:
        failed = False
        while True:
            with self._changed:
                if failed:
                    self._changed.wait(RETRY_S)
                self._changed.wait_for(lambda: bool(self._unsent))
                report = self._unsent.pop(next(iter(self._unsent)))
            error = self._error(report)
            if error is not None and not failed:
                LOG.warning("the use of the host's resources was not saved, and will be: %s", str(error).partition("\n")[0])
            failed = error is not None
            if failed:
                self._put_back(report)

    def _error(self, report: _Report) -> Exception | None:
        """Send a report, pass the outcome to the waiting callers, and return the error if the report is to be sent again."""
        waiting, report.waiting = report.waiting, []
        try:
            result = report.trace.run(self._send, report.context, report.node, "save", *report.arguments)
        except Exception as error:
            for each in waiting:
                each.set_exception(error)
            return None if isinstance(error, exception.NotFound) else error
        for each in waiting:
            each.set_result(result)
        return None

    def _put_back(self, report: _Report) -> None:
        with self._changed:
            newer = self._unsent.pop(report.node.uuid, None)
            self._unsent[report.node.uuid] = report
            if newer is not None:
                self._put(newer)
