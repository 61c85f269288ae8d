"""Operations on users: create, rename, describe, set a password, disable, delete. Two sites sometimes choose one name at the same time."""

from __future__ import annotations

from random import Random
from typing import Any

from atoll.bench.api import Answer
from atoll.bench.faults.operation import ClientModel, Operation, Request, Session, Workload

HOLD = 6
"""Greatest number of users that one client keeps."""

_TWIN_SHARE = 0.4
_TWIN_S = 15.0
"""Seconds during which all sites choose the same name for some users. Connected sites refuse it, because the name is taken."""

_KINDS = {"rename": 2, "describe": 3, "password": 1, "enable": 1, "delete": 2}


def _draw(random: Random, model: ClientModel) -> tuple[str, str, dict[str, Any]]:
    live = model.live("user")
    if len(live) < 2 or (len(live) < HOLD and random.random() < 0.4):
        resource = model.new("user")
        twin = random.random() < _TWIN_SHARE
        name = f"twin-{int(model.now_s / _TWIN_S)}" if twin else resource
        return "user.create", resource, {"name": name, "password": _word(random), "description": _word(random), "enabled": True}
    resource = random.choice(live)
    kind = random.choices(list(_KINDS), list(_KINDS.values()))[0]
    if kind == "delete":
        model.drop(resource)
    return f"user.{kind}", resource, _fields(kind, resource, random)


def _fields(kind: str, resource: str, random: Random) -> dict[str, Any]:
    word = _word(random)
    if kind == "rename":
        return {"name": f"{resource}-{word}"}
    if kind == "enable":
        return {"enabled": random.random() < 0.5}
    return {} if kind == "delete" else {{"describe": "description"}.get(kind, kind): word}


def _word(random: Random) -> str:
    return f"{random.getrandbits(40):010x}"


def _request(session: Session, operation: Operation) -> Request | None:
    if operation.kind == "user.create":
        return Request("identity", "POST", "/users", {"user": {**operation.fields, "domain_id": "default"}})
    user = session.found(operation.resource)
    if not user:
        return None
    if operation.kind == "user.delete":
        return Request("identity", "DELETE", f"/users/{user}", id=user)
    return Request("identity", "PATCH", f"/users/{user}", {"user": dict(operation.fields)}, id=user)


def _made(answer: Answer) -> str:
    return str(answer.body["user"]["id"])


USERS = Workload("user", 4, _draw, _request, _made)
