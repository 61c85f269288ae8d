"""Checks that users, projects and role assignments are equal at all sites, and agree with the clients' log. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atoll.bench.faults.history import ResourceHistory, possible_last_writes
from atoll.bench.faults.log import Attempt
from atoll.bench.faults.view import Rows, View
from atoll.bench.faults.violation import Violation
from atoll.bench.faults.workloads.grants import parties

FIELDS = {"user": ("description", "enabled"), "project": ("description",)}
_SHORTEST_SUFFIX = 8
_SHOWN = 3
_UNIQUE = ("users", "projects", "domains", "groups", "roles")


def replicas(views: Sequence[View]) -> Iterator[Violation]:
    """Yield a violation for each kind of replicated data that differs between two sites."""
    first = views[0]
    for other in views[1:]:
        for kind in sorted(first.identity.keys() | other.identity.keys()):
            ours, theirs = first.identity.get(kind, {}), other.identity.get(kind, {})
            differing = sorted(id_ for id_ in ours.keys() | theirs.keys() if ours.get(id_) != theirs.get(id_))
            if differing:
                examples = "; ".join(f"{id_}: {ours.get(id_)} / {theirs.get(id_)}" for id_ in differing[:_SHOWN])
                yield Violation("different", f"{len(differing)} {kind} of {first.site} and {other.site}: {examples}")


def names(view: View) -> Iterator[Violation]:
    """Yield a violation for each name that two resources of one kind and domain share at a site."""
    for kind in _UNIQUE:
        rows = view.identity.get(kind, {}).values()
        # Names of projects are unique under each parent.
        spaces = Counter((row.get("domain_id"), row.get("parent_id"), row["name"]) for row in rows)
        for (domain, _parent, name), count in spaces.items():
            if count > 1:
                yield Violation("duplicated", f"{count} {kind} called {name} in domain {domain} at {view.site}")


def kept(view: View, known: Mapping[str, ResourceHistory]) -> Iterator[Violation]:
    """Yield a violation for each acknowledged change that a site does not show."""
    rows = {"user": view.users, "project": view.projects}
    wanted = _names_wanted(known)
    for history in known.values():
        if history.type not in rows or not history.id:
            continue
        row = rows[history.type].get(history.id)
        if row is None and history.existence == "exists":
            yield Violation("lost", f"{history.name} is not at {view.site}: {history.describe('create')}", history.name)
        elif row is not None and history.existence == "deleted":
            yield Violation("lost", f"{history.name} is still at {view.site}: {history.describe('delete')}", history.name)
        elif row is not None:
            yield from _fields(view, history, row, wanted)


def _names_wanted(known: Mapping[str, ResourceHistory]) -> Counter[str]:
    """Return, for each name, the number of resources to which requests gave that name."""
    return Counter(
        attempt.fields["name"]
        for history in known.values()
        for attempt in history.attempts
        if "name" in attempt.fields and attempt.happened
    )


def _fields(view: View, history: ResourceHistory, row: Mapping[str, Any], wanted: Counter[str]) -> Iterator[Violation]:
    for field in FIELDS[history.type]:
        values = history.values(field)
        if values and row[field] not in values:
            last = possible_last_writes(history.writes(field))[-1]
            yield Violation(
                "lost", f"{field} of {history.name} is {row[field]!r} at {view.site}, not one of {values}: {last}", history.name
            )
    allowed = history.values("name")
    if not any(_is_name(row["name"], name, history.id, wanted) for name in allowed):
        yield Violation(
            "lost", f"{history.name} is called {row['name']} at {view.site}, not one of {allowed}: {history.describe()}", history.name
        )


def _is_name(name: str, wanted: str, id_: str, count: Counter[str]) -> bool:
    """Return whether a resource has the requested name, or the form with a suffix that Atoll gives if two sites chose the same name.

    Args:
        name: the name of the resource at a site.
        wanted: the requested name.
        id_: the id of the resource, from which the suffix is derived.
        count: the number of resources for which each name was requested.
    """
    suffix = name.removeprefix(f"{wanted}-")
    renamed = name != suffix and len(suffix) >= _SHORTEST_SUFFIX and id_.startswith(suffix)
    return name == wanted or (renamed and count[wanted] > 1)


def unowned(view: View, known: Mapping[str, ResourceHistory], before: View) -> Iterator[Violation]:
    """Yield a violation for each user, project and assignment that no request created, or whose owner does not exist.

    Args:
        view: the contents of the site now.
        known: the resources in the clients' log, by name.
        before: the contents of the site before the first request.
    """
    for type_, rows, there_before in (("user", view.users, before.users), ("project", view.projects, before.projects)):
        mine = [history for history in known.values() if history.type == type_]
        ids = {history.id for history in mine}
        unknown = {history.attempts[0].fields.get("name") for history in mine if not history.id and history.creation}
        for id_, row in rows.items():
            if id_ not in ids and id_ not in there_before and not any(_could_be(row["name"], name) for name in unknown):
                yield Violation("orphan", f"{type_} {row['name']} {id_} at {view.site}: no request created it")
    actors = view.users.keys() | view.identity.get("groups", {}).keys()
    targets = view.projects.keys() | view.identity.get("domains", {}).keys() | {"system"}
    for key in view.assignments:
        _role, actor, target, *_inherited = key.split("/")
        if actor not in actors or target not in targets:
            yield Violation("orphan", f"assignment {key} at {view.site}: its actor or target is gone")


def _could_be(name: str, wanted: str | None) -> bool:
    return wanted is not None and (name == wanted or name.startswith(f"{wanted}-"))


def grants(view: View, known: Mapping[str, ResourceHistory]) -> Iterator[Violation]:
    """Yield a violation for each granted role that is missing at a site, and each revoked role that is still granted."""
    for history in known.values():
        if history.type != "grant" or any(known[each].existence != "exists" for each in parties(history.name) if each in known):
            continue  # the deletion of a user or project ends its grants
        last = possible_last_writes([attempt for attempt in history.attempts if attempt.happened])
        allowed = {_granted(attempt) for attempt in last} | ({False} if _untouched(history) else set())
        there = history.id in view.assignments
        if allowed and there not in allowed:
            yield Violation("lost", f"{history.name} is {'' if there else 'not '}granted at {view.site}: {last[-1]}", history.name)


def _untouched(history: ResourceHistory) -> bool:
    """Return whether none of the grant's requests was acknowledged, so that the grant may still be absent, as it was at first."""
    return all(attempt.outcome != "acknowledged" for attempt in history.attempts)


def _granted(attempt: Attempt) -> bool:
    return attempt.verb == "create"


def passwords(views: Sequence[View], known: Mapping[str, ResourceHistory]) -> Iterator[Violation]:
    """Yield a violation for each user whose last password a site refuses, or whose accepted passwords differ between sites."""
    by_id: Rows = {history.id: {"history": history} for history in known.values() if history.type == "user" and history.id}
    for view in views:
        for user, accepted in view.accepted.items():
            history = by_id[user]["history"]
            if not accepted:
                yield Violation(
                    "lost", f"{view.site} doesn't accept the password of {history.name}: {history.writes('password')[-1]}", history.name
                )
            elif tuple(accepted) != tuple(views[0].accepted.get(user, ())):
                yield Violation("different", f"{view.site} and {views[0].site} accept different passwords of {history.name}", history.name)
