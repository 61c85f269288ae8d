"""Operations on role assignments: a client's users get the role `member` in the client's projects, and lose it."""

from __future__ import annotations

from random import Random
from typing import Any

from atoll.bench.api import Answer
from atoll.bench.faults.operation import ClientModel, Operation, Request, Session, Workload
from atoll.bench.faults.workloads import projects, users
from atoll.identifiers import identifier

ROLE = identifier("role", "member")
"""The id of the role `member`, which is the same at all sites."""


def _draw(random: Random, model: ClientModel) -> tuple[str, str, dict[str, Any]]:
    # The user and the project of a grant must exist first.
    if not model.live("user"):
        return users.USERS.draw(random, model)
    if not model.live("project"):
        return projects.PROJECTS.draw(random, model)
    granted = model.live("grant")
    if granted and random.random() < 0.4:
        resource = random.choice(granted)
        model.drop(resource)
        return "grant.delete", resource, {}
    resource = f"{random.choice(model.live('user'))}/{random.choice(model.live('project'))}"
    if resource not in granted:
        granted.append(resource)
    return "grant.create", resource, {}


def parties(resource: str) -> tuple[str, str]:
    """Return the user and the project of a grant."""
    user, _, project = resource.partition("/")
    return user, project


def _request(session: Session, operation: Operation) -> Request | None:
    user, project = (session.id(each) for each in parties(operation.resource))
    if not user or not project:
        return None
    method = "PUT" if operation.kind == "grant.create" else "DELETE"
    return Request("identity", method, f"/projects/{project}/users/{user}/roles/{ROLE}", id=f"{ROLE}/{user}/{project}")


def _made(_answer: Answer) -> str:
    return ""


GRANTS = Workload("grant", 2, _draw, _request, _made)
