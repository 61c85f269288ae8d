"""Subscriptions to notifications of mobility, kept in a file of the gateway at which they were made.

Notifications are sent over a WebSocket that the client opens. The gateway connects to no address that a client names.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, TypeAdapter

from atoll.gateway.edge.applications import ID
from atoll.gateway.edge.device import fields_of
from atoll.gateway.edge.etsi import Strict, parsed
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.private_database import opened

KIND = "MobilityProcedureSubscription"
"""The only type of subscription that is accepted."""

ADJACENT = "AdjacentAppInfoSubscription"
"""The standard's other type."""

MOST_OF_PROJECT = 32
"""Greatest number of subscriptions of one project at one gateway."""

MOST = 4096
"""Greatest number of subscriptions at one gateway."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS subscription (id TEXT PRIMARY KEY, project TEXT NOT NULL, record TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS subscription_project ON subscription (project);
"""


class TimeStamp(Strict):
    """A point in Unix time."""

    seconds: Annotated[int, Field(ge=0, le=2**32 - 1)]
    nano_seconds: Annotated[int, Field(ge=0, lt=10**9)] = 0


class Criteria(Strict):
    """The hand-offs of which a subscription requests notifications.

    Attributes:
        app_instance_id: the instance; absent for all instances of the project.
        associate_id: the devices; empty for all.
        mobility_status: the statuses; by default only that of the beginning of a hand-off.
    """

    app_instance_id: str | None = None
    associate_id: Annotated[list[str], Field(default_factory=list, max_length=64)]
    mobility_status: Annotated[list[Literal[1, 2, 3]], Field(default_factory=lambda: [1], max_length=3)]


class _Websocket(Strict):
    websocket_uri: str | None = None
    request_websocket_uri: bool = False


class _Link(Strict):
    href: str


class _Links(Strict):
    own: _Link = Field(alias="self")


class _Wanted(Strict):
    subscription_type: Literal["MobilityProcedureSubscription"]
    callback_reference: str | None = None
    request_test_notification: bool = False
    websock_notif_config: _Websocket | None = None
    links: _Links | None = Field(default=None, alias="_links")
    filter_criteria: Criteria
    expiry_deadline: TimeStamp | None = None


@dataclass(frozen=True)
class Subscription:
    """A subscription of a project.

    Attributes:
        id: its id.
        project: the project.
        criteria: see `Criteria`.
        deadline: the time at which it ends; `None` means that it does not end.
        test: whether the gateway sends a test notification when the client opens the WebSocket.
    """

    id: str
    project: str
    criteria: Criteria
    deadline: TimeStamp | None = None
    test: bool = False

    def ended(self, now_s: float) -> bool:
        """Return whether the deadline has passed at a Unix time."""
        return self.deadline is not None and self.deadline.seconds <= now_s

    def record(self) -> str:
        """Return the subscription as text, for `_loaded`."""
        deadline = self.deadline.seconds if self.deadline else None
        nano_seconds = self.deadline.nano_seconds if self.deadline else 0
        criteria = self.criteria.model_dump(by_alias=True, exclude_none=True)
        return json.dumps({"criteria": criteria, "deadline": deadline, "nano_seconds": nano_seconds, "test": self.test})


def wanted(body: bytes, project: str, now_s: float, identifier: str = "") -> Subscription:
    """Return the subscription in the body of a request.

    Args:
        body: the body.
        project: the project of the caller.
        now_s: the present Unix time.
        identifier: the id of the subscription that is replaced; empty for a new one.

    Raises:
        Problem: the body does not conform to the standard, or requests an unsupported feature.
    """
    if ADJACENT in fields_of(body, KIND, ADJACENT):
        raise _unsupported(f"there is no {ADJACENT}: query adjacent_app_instances")
    found: _Wanted = parsed(body, KIND, TypeAdapter(_Wanted))
    if found.websock_notif_config is None or not (found.websock_notif_config.request_websocket_uri or identifier):
        raise _unsupported(
            "notifications are sent over a WebSocket alone, and to no callbackReference: expected websockNotifConfig with "
            "requestWebsocketUri true"
        )
    instance = found.filter_criteria.app_instance_id
    if instance is not None and not ID.fullmatch(instance):
        raise invalid("filterCriteria.appInstanceId is not the id of an instance")
    if any(len(name) > 100 for name in found.filter_criteria.associate_id):
        raise invalid("filterCriteria.associateId has an identifier of more than 100 characters")
    made = Subscription(
        identifier or str(uuid.uuid4()), project, found.filter_criteria, found.expiry_deadline, found.request_test_notification
    )
    if made.ended(now_s):
        raise invalid("expiryDeadline has passed")
    return made


def _unsupported(message: str) -> Problem:
    return Problem(422, message, "SERVICE_NOT_APPLICABLE")


class Subscriptions:
    """The subscriptions of one gateway.

    Args:
        file: the SQLite file, in an existing directory.

    Raises:
        sqlite3.Error: by every method, if the file can't be read or written.
    """

    def __init__(self, file: Path | str) -> None:
        self._database = opened(self, file, _SCHEMA, durable=False)

    def close(self) -> None:
        """Close the database file."""
        self._database.close()

    def put(self, subscription: Subscription) -> None:
        """Store a subscription, in place of an earlier one with the same id.

        Raises:
            Problem: the project or the gateway already has the greatest number of subscriptions.
        """
        if self.get(subscription.id, subscription.project) is None:
            (count,) = self._database.execute("SELECT count(*) FROM subscription").fetchone()
            (own,) = self._database.execute("SELECT count(*) FROM subscription WHERE project = ?", (subscription.project,)).fetchone()
            if own >= MOST_OF_PROJECT or count >= MOST:
                most = f"{MOST_OF_PROJECT} subscriptions of a project, {MOST} of all"
                raise Problem(429, f"there are as many subscriptions at this site as are allowed ({most}): delete one", "QUOTA_EXCEEDED")
        statement = "INSERT INTO subscription VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record"
        self._database.execute(statement, (subscription.id, subscription.project, subscription.record()))

    def get(self, identifier: str, project: str) -> Subscription | None:
        """Return the subscription of a project with an id; `None` if there is none."""
        statement = "SELECT id, project, record FROM subscription WHERE id = ? AND project = ?"
        row = self._database.execute(statement, (identifier, project)).fetchone()
        return _loaded(*row) if row is not None else None

    def of(self, project: str) -> list[Subscription]:
        """Return the subscriptions of a project."""
        statement = "SELECT id, project, record FROM subscription WHERE project = ? ORDER BY id"
        return [_loaded(*row) for row in self._database.execute(statement, (project,))]

    def delete(self, identifier: str) -> None:
        """Delete a subscription, if it exists."""
        self._database.execute("DELETE FROM subscription WHERE id = ?", (identifier,))

    def expire(self, now_s: float) -> list[str]:
        """Delete the subscriptions whose deadline has passed, and return their ids."""
        statement = "DELETE FROM subscription WHERE json_extract(record, '$.deadline') <= ? RETURNING id"
        return [row[0] for row in self._database.execute(statement, (now_s,)).fetchall()]


def _loaded(identifier: str, project: str, record: str) -> Subscription:
    fields: Mapping[str, Any] = orjson.loads(record)
    criteria = Criteria.model_validate(fields["criteria"])
    seconds = fields["deadline"]
    deadline = TimeStamp.model_validate({"seconds": seconds, "nanoSeconds": fields["nano_seconds"]}) if seconds is not None else None
    return Subscription(identifier, project, criteria, deadline, test=bool(fields["test"]))
