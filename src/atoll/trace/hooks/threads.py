"""Carries the context of a request into the threads and executors that work for it.

Replaced: `concurrent.futures.ThreadPoolExecutor.submit`, `futurist.ThreadPoolExecutor.submit`, and `threading.Thread.start`. Each thread of
Python has context variables of its own, so work in another thread would be missing from its trace. Nova builds each server in an executor.
The work of each thread is a task of the request, whose path the thread's spans have (`tasks`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent import futures
from functools import partial, wraps
from typing import Any

from atoll.trace import sampling, tasks

_WORKERS = ("concurrent.futures", "futurist", "atoll.trace")
"""Modules whose threads serve many requests, one after the other."""


def install() -> None:
    """Replace the functions that the module's description names; a second call in one process has no effect."""
    if hasattr(threading.Thread.start, "__wrapped__"):
        return
    futures.ThreadPoolExecutor.submit = _submit(futures.ThreadPoolExecutor.submit)  # type: ignore[method-assign]  # wraps it
    if futurist := sys.modules.get("futurist"):
        futurist.ThreadPoolExecutor.submit = _submit(futurist.ThreadPoolExecutor.submit)
    threading.Thread.start = _start(threading.Thread.start)  # type: ignore[method-assign, assignment]  # wraps it


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if sampling.in_request():
            fn = partial(tasks.forked().run, fn)
        return original(self, fn, *args, **kwargs)

    return submit


def _start(original: Callable[..., None]) -> Callable[[threading.Thread], None]:
    @wraps(original)
    def start(self: threading.Thread) -> None:
        if sampling.in_request() and not _is_worker(self):
            self.run = partial(tasks.forked().run, self.run)  # type: ignore[method-assign]  # wraps it
        original(self)

    return start


def _is_worker(thread: threading.Thread) -> bool:
    """Return whether a thread serves many requests, so that a context carried into it would mix them up."""
    target = getattr(thread, "_target", None)
    return type(thread).__module__.startswith(_WORKERS) or getattr(target, "__module__", "").startswith(_WORKERS)
