"""Operations on projects: create, rename, describe, delete."""

from __future__ import annotations

from random import Random
from typing import Any

from atoll.bench.api import Answer
from atoll.bench.faults.operation import ClientModel, Operation, Request, Session, Workload

HOLD = 4
"""Greatest number of projects that one client keeps."""

_KINDS = {"rename": 1, "describe": 2, "delete": 1}


def _draw(random: Random, model: ClientModel) -> tuple[str, str, dict[str, Any]]:
    live = model.live("project")
    word = f"{random.getrandbits(40):010x}"
    if not live or (len(live) < HOLD and random.random() < 0.4):
        resource = model.new("project")
        return "project.create", resource, {"name": resource, "description": word}
    resource = random.choice(live)
    kind = random.choices(list(_KINDS), list(_KINDS.values()))[0]
    if kind == "delete":
        model.drop(resource)
        return "project.delete", resource, {}
    return f"project.{kind}", resource, {"name": f"{resource}-{word}"} if kind == "rename" else {"description": word}


def _request(session: Session, operation: Operation) -> Request | None:
    if operation.kind == "project.create":
        return Request("identity", "POST", "/projects", {"project": {**operation.fields, "domain_id": "default"}})
    project = session.id(operation.resource)
    if not project:
        return None
    if operation.kind == "project.delete":
        return Request("identity", "DELETE", f"/projects/{project}", id=project)
    return Request("identity", "PATCH", f"/projects/{project}", {"project": dict(operation.fields)}, id=project)


def _made(answer: Answer) -> str:
    return str(answer.body["project"]["id"])


PROJECTS = Workload("project", 2, _draw, _request, _made)
