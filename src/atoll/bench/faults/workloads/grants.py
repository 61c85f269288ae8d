"""Operations on role assignments: a client's users get the role `member` in the client's projects, and lose it."""

from __future__ import annotations

from random import Random
from typing import Any

from atoll.bench.api import Answer
from atoll.bench.faults.operation import Book, Operation, Request, Session, Workload
from atoll.bench.faults.workloads import projects, users
from atoll.identifiers import identifier

ROLE = identifier("role", "member")
"""The id of the role `member`, which is the same at all sites."""


def _draw(random: Random, book: Book) -> tuple[str, str, dict[str, Any]]:
    # The user and the project of a grant must exist first.
    if not book.live("user"):
        return users.USERS.draw(random, book)
    if not book.live("project"):
        return projects.PROJECTS.draw(random, book)
    granted = book.live("grant")
    if granted and random.random() < 0.4:
        thing = random.choice(granted)
        book.drop(thing)
        return "grant.delete", thing, {}
    thing = f"{random.choice(book.live('user'))}/{random.choice(book.live('project'))}"
    if thing not in granted:
        granted.append(thing)
    return "grant.create", thing, {}


def parties(thing: str) -> tuple[str, str]:
    """Return the user and the project of a grant."""
    user, _, project = thing.partition("/")
    return user, project


def _request(session: Session, operation: Operation) -> Request | None:
    user, project = (session.id(each) for each in parties(operation.thing))
    if not user or not project:
        return None
    method = "PUT" if operation.kind == "grant.create" else "DELETE"
    return Request("identity", method, f"/projects/{project}/users/{user}/roles/{ROLE}", id=f"{ROLE}/{user}/{project}")


def _made(_answer: Answer) -> str:
    return ""


GRANTS = Workload("grant", 2, _draw, _request, _made)
