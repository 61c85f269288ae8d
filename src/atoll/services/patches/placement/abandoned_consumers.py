"""Consumers without allocations, which a killed Placement left, do not block later requests.

Placement commits the record of a new consumer before it writes the consumer's allocations, and deletes the record if the request fails. If
it is killed in between, the record stays. `GET /allocations/{consumer}` then shows no allocations and no generation, so the client sends
none; but `ensure_consumer` (placement/handlers/util.py) finds the record, and refuses each request with 409 for ever. Nova meets this when
a resize fails and its allocations are to be moved back to the server.
"""

from __future__ import annotations

from typing import Any

import webob
from placement.handlers import util
from placement.objects import consumer as consumers

_ensure = util.ensure_consumer


def ensure_consumer(context: Any, uuid: str, project: str | None, user: str | None, generation: int | None, *rest: Any) -> Any:
    """Return the records of a consumer as upstream does; a record without allocations is replaced if the client knows of no record.

    If another request has made the record and is about to write its allocations, that request fails: Placement compares generations again.

    Args:
        context: the context of the request.
        uuid: the consumer.
        project: the id of its project.
        user: the id of its user.
        generation: the generation of the record that the client has seen; `None` if it has seen no record.
        *rest: upstream's further arguments.

    Raises:
        webob.exc.HTTPConflict: the record has another generation.
    """
    try:
        return _ensure(context, uuid, project, user, generation, *rest)
    except webob.exc.HTTPConflict:
        if generation is not None:
            raise
        consumers.delete_consumers_if_no_allocations(context, [uuid])
        return _ensure(context, uuid, project, user, generation, *rest)


def install() -> None:
    """Have this process accept requests for consumers whose records were left without allocations."""
    util.ensure_consumer = ensure_consumer
