"""The beginning and the end of an event in the record of an action, written without being read before.

An action's event takes seven statements in Nova: its beginning reads the action, changes its time and inserts the event; its end reads the
action and the event, and updates both. With this patch, the statements that update the rows also find them (`UPDATE … RETURNING`), by the
conditions with which upstream reads them, so the two take four statements. Upstream's functions do the work if there is no such action, or
if the database does not return updated rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from nova import exception
from nova.db.main import api, models
from oslo_db import api as oslo_db_api
from sqlalchemy import desc, update

Write = Callable[..., Any]


def _transaction(function: Write) -> Write:
    """Return a function that runs in a writing transaction, and again after a deadlock, as upstream's two functions do."""
    written: Write = oslo_db_api.wrap_db_retry(max_retries=5, retry_on_deadlock=True)(api.pick_context_manager_writer(function))
    return written


def _update(context: Any, model: Any, row: Any, values: dict[str, Any]) -> Any:
    """Update the row that a query finds first, and return the row; `None` if the query finds none."""
    found = row.with_entities(model.id).limit(1).scalar_subquery()
    statement = update(model).where(model.id == found).values(values).returning(model)
    return (
        context.session.execute(statement, execution_options={"synchronize_session": False, "populate_existing": True})
        .scalars()
        .one_or_none()
    )


def _touch(context: Any, values: dict[str, Any], **changes: Any) -> Any:
    """Update the action to which an event belongs, and return the action; `None` if it does not exist."""
    found = api.model_query(context, models.InstanceAction).filter_by(
        instance_uuid=values["instance_uuid"], request_id=values["request_id"]
    )
    return _update(context, models.InstanceAction, found.order_by(desc("created_at"), desc("id")), changes)


def _returns_rows(context: Any) -> bool:
    return bool(context.session.get_bind().dialect.update_returning)


def start(upstream: Write) -> Write:
    """Return a function that records the beginning of an event.

    Args:
        upstream: upstream's `action_event_start`.
    """
    begin = inspect.unwrap(upstream)

    @wraps(begin)
    def action_event_start(context: Any, values: dict[str, Any]) -> Any:
        api.convert_objects_related_datetimes(values, "start_time")
        action = _touch(context, values, updated_at=values["start_time"]) if _returns_rows(context) else None
        if action is None:
            return begin(context, values)
        values["action_id"] = action["id"]
        event = models.InstanceActionEvent()
        event.update(values)
        event.save(context.session)
        return event

    return _transaction(action_event_start)


def finish(upstream: Write) -> Write:
    """Return a function that records the end of an event.

    Args:
        upstream: upstream's `action_event_finish`.
    """
    end = inspect.unwrap(upstream)

    @wraps(end)
    def action_event_finish(context: Any, values: dict[str, Any]) -> Any:
        api.convert_objects_related_datetimes(values, "start_time", "finish_time")
        failed = {"message": "Error"} if values["result"].lower() == "error" else {}
        action = _touch(context, values, updated_at=values["finish_time"], **failed) if _returns_rows(context) else None
        if action is None:
            return end(context, values)
        columns = {name: value for name, value in values.items() if name in models.InstanceActionEvent.__table__.columns}
        found = api.model_query(context, models.InstanceActionEvent).filter_by(action_id=action["id"], event=values["event"])
        event = _update(context, models.InstanceActionEvent, found, columns)
        if event is None:
            raise exception.InstanceActionEventNotFound(action_id=action["id"], event=values["event"])
        return event

    return _transaction(action_event_finish)


def install() -> None:
    """Put the functions in the place of upstream's."""
    api.action_event_start = start(api.action_event_start)
    api.action_event_finish = finish(api.action_event_finish)
