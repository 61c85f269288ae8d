"""Records a service's periodic work, which no request causes: each run is a trace of its own, recorded with the probability `sample`.

Replaced: `PeriodicTasks.run_periodic_tasks` of oslo_service/periodic_task.py, which runs the tasks of nova-compute, of the metadata agents
and others; and `LoopingCallBase._run_loop` of oslo_service/backend/_threading/loopingcall.py, by which services and agents report that they
are alive. If a request has started a loop, for instance to wait for a guest, the loop's runs belong to the request's trace.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from oslo_service import periodic_task
from oslo_service.backend._common.loopingcall import LoopingCallDone
from oslo_service.backend._threading.loopingcall import LoopingCallBase

from atoll.trace import propagation

_OF_TASKS = frozenset(("periodic_tasks", "run_periodic_tasks"))
"""Functions that only call periodic tasks, which are recorded one by one."""


_MARK = "_atoll_recorded"


def install() -> None:
    """Replace the functions that the module's description names; a second call in one process has no effect."""
    if hasattr(LoopingCallBase._run_loop, "__wrapped__"):
        return
    LoopingCallBase._run_loop = _run_loop(LoopingCallBase._run_loop)
    periodic_task.PeriodicTasks.run_periodic_tasks = _run_periodic_tasks(periodic_task.PeriodicTasks.run_periodic_tasks)


def _run_periodic_tasks(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def run(self: Any, context: Any, *arguments: Any, **keywords: Any) -> Any:
        if self._periodic_tasks is not self.__dict__.get("_atoll_tasks"):
            kind = type(self).__name__
            self._atoll_tasks = [(name, _recorded(f"periodic {kind}.{name}", task)) for name, task in self._periodic_tasks]
            self._periodic_tasks = self._atoll_tasks
        return original(self, context, *arguments, **keywords)

    return run


def _run_loop(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def run(self: Any, *arguments: Any, **keywords: Any) -> Any:
        name = getattr(self.f, "__qualname__", "")
        if name and name.rpartition(".")[2] not in _OF_TASKS and not hasattr(self.f, _MARK):
            self.f = _recorded(f"periodic {name}", self.f)
        return original(self, *arguments, **keywords)

    return run


def _recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        with propagation.work(name):
            try:
                return function(*arguments, **keywords)
            except LoopingCallDone as error:  # not a failure: the loop ends
                done = error
        raise done

    setattr(call, _MARK, True)
    return call
