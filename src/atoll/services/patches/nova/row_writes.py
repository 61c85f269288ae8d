"""Rows of new servers and of network information, written by fewer statements.

With SQLite, Nova writes each value of a new server's system metadata by a statement of its own, because SQLite does not return the keys of
many rows in their order. A boot has seven values, and no code uses their keys. With this patch, one statement writes all values.

Nova surrounds each update of a server's network information with a savepoint, which takes two more statements, because another process may
insert the same row. With this patch, a row that exists is updated without a savepoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from nova.db.main import api, models
from oslo_db import api as oslo_db_api
from sqlalchemy import insert
from sqlalchemy.orm.attributes import set_committed_value

SYSTEM_METADATA = "system_metadata"

Write = Callable[..., Any]


def _transaction(function: Write) -> Write:
    """Return a function that runs in a writing transaction, and again after a deadlock, as upstream's two functions do."""
    written: Write = api.require_context(
        oslo_db_api.wrap_db_retry(max_retries=5, retry_on_deadlock=True)(api.pick_context_manager_writer(function))
    )
    return written


def creation(upstream: Write) -> Write:
    """Return a function that creates a server with its system metadata.

    Args:
        upstream: upstream's `instance_create`.
    """
    create = inspect.unwrap(upstream)

    @wraps(create)
    def instance_create(context: Any, values: dict[str, Any]) -> Any:
        told = values.get(SYSTEM_METADATA)
        if not told:
            return create(context, values)
        made = create(context, {**values, SYSTEM_METADATA: {}})
        context.session.flush()
        rows = [{"key": key, "value": value, "instance_uuid": made["uuid"]} for key, value in told.items()]
        context.session.execute(insert(models.InstanceSystemMetadata.__table__), rows)
        set_committed_value(made, SYSTEM_METADATA, [models.InstanceSystemMetadata(**row) for row in rows])
        return made

    return _transaction(instance_create)


def update(upstream: Write) -> Write:
    """Return a function that updates a server's network information.

    Args:
        upstream: upstream's `instance_info_cache_update`, which also creates a row that is missing.
    """

    def existing(context: Any, uuid: str, values: dict[str, Any]) -> Any:
        row = api.model_query(context, models.InstanceInfoCache).filter_by(instance_uuid=uuid).first()
        if row is None or row["deleted"]:
            return None
        row.update(values)
        return row

    write = _transaction(existing)

    @wraps(upstream)
    def instance_info_cache_update(context: Any, instance_uuid: str, values: dict[str, Any]) -> Any:
        api.convert_objects_related_datetimes(values)
        return write(context, instance_uuid, values) or upstream(context, instance_uuid, values)

    return instance_info_cache_update


def install() -> None:
    """Put the functions in the place of upstream's."""
    api.instance_create = creation(api.instance_create)
    api.instance_info_cache_update = update(api.instance_info_cache_update)
