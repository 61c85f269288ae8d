"""The tasks of a request: the threads and executors that work for it, each with a number.

A task is known by its path, such as `3.7`: the task 7, which the task 3 started. The path of the work that received the request is empty.
The paths show which calls may have waited for which others (`whatif`): a task may wait for the tasks that it started, but not the reverse.
"""

from __future__ import annotations

import contextvars
from contextvars import ContextVar
from itertools import count

from atoll.trace.sampling import SCOPE, Scope

MAX_DEPTH = 16
"""Greatest number of numbers in a path. A task that is started at this depth has the path of its starter."""

_TASK: ContextVar[tuple[Scope | None, str]] = ContextVar("atoll_task", default=(None, ""))
"""The request and the path of the present task; outdated if the present thread works for another request."""

_numbers = count(1)


def current() -> str:
    """Return the path of the present task; empty in the thread that received the request."""
    scope, path = _TASK.get()
    return path if scope is SCOPE.get() else ""


def forked() -> contextvars.Context:
    """Return a copy of the present context, for a task that the present one starts."""
    context, scope, above = contextvars.copy_context(), SCOPE.get(), current()
    if scope is not None and scope.root is not None and above.count(".") < MAX_DEPTH - 1:
        context.run(_TASK.set, (scope, f"{above}.{next(_numbers)}".lstrip(".")))
    return context


def is_below(path: str, above: str) -> bool:
    """Return whether a task is `above`, or one that `above` or its tasks started."""
    return not above or f"{path}.".startswith(f"{above}.")


def branch(path: str, other: str) -> str:
    """Return the beginning of a path up to the first number in which it differs from another path, which must not be above it.

    This is the path of the task whose start separated the two: what came before it may have come before both.
    """
    common = 0
    parts, others = path.split("."), other.split(".") if other else []
    while common < min(len(parts), len(others)) and parts[common] == others[common]:
        common += 1
    return ".".join(parts[: common + 1])
