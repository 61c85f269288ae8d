"""Limits of quota, read once in each check.

A boot checks the quota of servers twice: the API checks it before it accepts the request, and the conductor after it has created the
server, because other requests may have been accepted in between. Each check counts the project's resources, by one statement for each cell.
It reads the limits by eight statements: those of the user and the defaults twice, and those of the project and of the user also from tables
in the cell's database, which Nova no longer writes.

With this patch, both checks remain, and each counts the resources. But a check reads each limit only once. It skips the tables in the
cell's database if they were empty when they were first read, because nothing inserts rows into them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from nova.compute import utils
from nova.db.main import api, models
from nova.objects.quotas import Quotas

_READ: ContextVar[dict[Any, dict[str, Any]] | None] = ContextVar("limits that the current check has read", default=None)

_EMPTY: set[tuple[Any, Any]] = set()
"""Pairs of a database's URL and a model whose table is empty in that database."""


def _checking(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a check of the quota, so that it reads each limit once."""

    @wraps(upstream)
    def check(*arguments: Any, **keywords: Any) -> Any:
        token = _READ.set({})
        try:
            return upstream(*arguments, **keywords)
        finally:
            _READ.reset(token)

    return check


def _once(upstream: Any) -> Any:
    """Wrap a class method that reads limits; within a check, equal calls read once, and each gets a copy."""
    read = upstream.__func__

    @wraps(read)
    def limits(cls: Any, context: Any, *of: str) -> dict[str, Any]:
        found = _READ.get()
        if found is None:
            answer: dict[str, Any] = read(cls, context, *of)
            return answer
        if (read, of) not in found:
            found[read, of] = read(cls, context, *of)
        return dict(found[read, of])

    return classmethod(limits)


def _empty(context: Any, model: Any) -> bool:
    """Return whether a table was empty when it was read before, and is therefore still empty."""
    table = (api.get_engine(context=context).url, model)
    if table not in _EMPTY:
        with api.get_context_manager(context).reader.using(context):
            if context.session.query(model.id).first() is None:
                _EMPTY.add(table)
    return table in _EMPTY


def _unless_empty(upstream: Callable[..., Any], model: Any, keys: tuple[str, ...]) -> Callable[..., Any]:
    """Wrap a function that reads limits of a project, and of a user if `keys` has two elements, from the cell's database."""

    @wraps(upstream)
    def limits(context: Any, *of: str) -> Any:
        if len(of) == len(keys) and _empty(context, model):
            return dict(zip(keys, of, strict=True))
        return upstream(context, *of)

    return limits


def install() -> None:
    """Make each check read limits once, and not from empty tables."""
    utils.check_num_instances_quota = _checking(utils.check_num_instances_quota)
    Quotas.get_all_by_project = _once(Quotas.get_all_by_project)
    Quotas.get_all_by_project_and_user = _once(Quotas.get_all_by_project_and_user)
    Quotas.get_default_class = _once(Quotas.get_default_class)
    api.quota_get_all_by_project = _unless_empty(api.quota_get_all_by_project, models.Quota, ("project_id",))
    api.quota_get_all_by_project_and_user = _unless_empty(
        api.quota_get_all_by_project_and_user, models.ProjectUserQuota, ("project_id", "user_id")
    )
