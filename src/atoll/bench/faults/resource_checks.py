"""Checks that each image and server exists once, at its site, can be found through every gateway, and has an owner. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from atoll.bench.faults.history import ResourceHistory
from atoll.bench.faults.view import Rows, View
from atoll.bench.faults.violation import Violation
from atoll.bench.faults.workloads.images import checksum

PATHS = {"image": ("image", "/v2/images/"), "server": ("compute", "/servers/")}
"""The service and the path of a single resource, which the resource's id completes, by type."""

NOT_FOUND = 404

UNAVAILABLE = 503
"""The status of a gateway's answer about a resource that may be at a site which the gateway can't reach."""


def rows_of(view: View, type_: str) -> Rows:
    """Return a site's resources of a type."""
    return view.images if type_ == "image" else view.servers


def kept(views: Sequence[View], known: Mapping[str, ResourceHistory]) -> Iterator[Violation]:
    """Yield a violation for each acknowledged change of an image or server that a site or a gateway does not show."""
    for history in known.values():
        if history.type not in PATHS or not history.id:
            continue
        holders = [view for view in views if history.id in rows_of(view, history.type)]
        if history.existence == "exists":
            yield from _there(history, holders, views)
        elif history.existence == "deleted":
            yield from _gone(history, holders, views)
        for view in holders if history.existence in ("exists", "unknown") else ():
            yield from (_image(history, view) if history.type == "image" else _server(history, view))


def _there(history: ResourceHistory, holders: Sequence[View], views: Sequence[View]) -> Iterator[Violation]:
    described = history.describe("create")
    if not holders:
        yield Violation("lost", f"{history.name} is at no site: {described}", history.name)
        return
    for view in views:
        # A list says which sites are missing from it, and `checker` reports these.
        lacking = any(holder.site in view.missing for holder in holders)
        if history.id not in view.listed.get(history.type, ()) and not lacking:
            yield Violation("lost", f"{history.name} is not in the list of the gateway of {view.site}: {described}", history.name)
        status = view.shown.get(PATHS[history.type][1] + history.id, 200)
        if status == UNAVAILABLE:
            yield _unavailable(history, view)
        elif status != 200:
            yield Violation("lost", f"{history.name} is not shown by the gateway of {view.site} ({status}): {described}", history.name)


def _gone(history: ResourceHistory, holders: Sequence[View], views: Sequence[View]) -> Iterator[Violation]:
    described = history.describe("delete")
    for view in holders:
        row = rows_of(view, history.type)[history.id]
        yield Violation("lost", f"{history.name} is still at {view.site} ({dict(row)}): {described}", history.name)
    for view in views:
        if history.id in view.listed.get(history.type, ()):
            yield Violation("lost", f"{history.name} is still in the list of the gateway of {view.site}: {described}", history.name)
        status = view.shown.get(PATHS[history.type][1] + history.id, NOT_FOUND)
        if status == UNAVAILABLE:
            yield _unavailable(history, view)
        elif status != NOT_FOUND:
            yield Violation("lost", f"{history.name} is still shown by the gateway of {view.site} ({status}): {described}", history.name)


def _unavailable(history: ResourceHistory, view: View) -> Violation:
    return Violation("unhealthy", f"the gateway of {view.site} does not reach a site that may have {history.name}")


def _image(history: ResourceHistory, view: View) -> Iterator[Violation]:
    uploads = [attempt for attempt in history.attempts if attempt.verb == "upload" and attempt.outcome == "acknowledged"]
    row = view.images[history.id]
    if uploads and (row["status"], row["checksum"]) != ("active", checksum(**uploads[-1].fields)):
        yield Violation("lost", f"{history.name} at {view.site} is not what was uploaded ({dict(row)}): {uploads[-1]}", history.name)


def _server(history: ResourceHistory, view: View) -> Iterator[Violation]:
    row, names = view.servers[history.id], history.values("name")
    if row["name"] not in names:
        yield Violation(
            "lost", f"{history.name} is called {row['name']} at {view.site}, not one of {names}: {history.describe()}", history.name
        )
    creation = history.creation
    asked = (creation.fields["zone"] or creation.site) if creation else view.site
    if asked != view.site:
        yield Violation("lost", f"{history.name} is at {view.site}, not at {asked}: {creation}", history.name)


def twice(views: Sequence[View], before: Sequence[View]) -> Iterator[Violation]:
    """Yield a violation for each resource that is at two sites, except copied images, or that occurs twice in a list."""
    brought = {id_ for view in before for id_ in view.images}
    for type_ in PATHS:
        holders = Counter(id_ for view in views for id_ in rows_of(view, type_))
        for id_, count in holders.items():
            if count > 1 and id_ not in brought:
                where = ", ".join(view.site for view in views if id_ in rows_of(view, type_))
                yield Violation("duplicated", f"{type_} {id_} is at {where}")
        made = {(id_, row["name"]) for view in views for id_, row in rows_of(view, type_).items() if id_ not in brought}
        for name, count in Counter(name for _id, name in made).items():
            if count > 1:
                yield Violation("duplicated", f"{count} {type_}s are called {name}: one was requested")
        for view in views:
            for id_, count in Counter(view.listed.get(type_, ())).items():
                if count > 1:
                    yield Violation("duplicated", f"{type_} {id_} is {count} times in the list of the gateway of {view.site}")


def unowned(view: View, known: Mapping[str, ResourceHistory], before: Sequence[View]) -> Iterator[Violation]:
    """Yield a violation for each resource of a site that no request created, or that has no owner.

    Args:
        view: the contents of the site now.
        known: the resources in the clients' log, by name.
        before: the contents of all sites before the first request.
    """
    for type_ in PATHS:
        mine = [history for history in known.values() if history.type == type_]
        ids = {history.id for history in mine} | {id_ for each in before for id_ in rows_of(each, type_)}
        unknown = {history.name for history in mine if not history.id and history.creation}
        for id_, row in rows_of(view, type_).items():
            # Clients give resources their names in the schedule.
            if id_ not in ids and row["name"] not in unknown:
                yield Violation("orphan", f"{type_} {row['name']} {id_} at {view.site}: no request created it")
    yield from _without_owner(view)
    yield from _without_server(view, before)


def _without_owner(view: View) -> Iterator[Violation]:
    owners = [("image", id_, row["owner"]) for id_, row in view.images.items()]
    owners += [("server", id_, row["tenant_id"]) for id_, row in view.servers.items()]
    for type_, id_, project in owners:
        if project not in view.projects:
            yield Violation("orphan", f"{type_} {id_} at {view.site}: its project {project} is gone")
    for id_, row in view.servers.items():
        if row["user_id"] not in view.users:
            yield Violation("orphan", f"server {id_} at {view.site}: its user {row['user_id']} is gone")


def _without_server(view: View, before: Sequence[View]) -> Iterator[Violation]:
    for id_, row in view.ports.items():
        if not row["device_owner"].startswith("network:") and row["device_id"] not in view.servers:
            yield Violation("orphan", f"port {id_} at {view.site}: its server {row['device_id'] or '(none)'} is gone")
    for consumer in view.allocations:
        if consumer not in view.servers:
            yield Violation("orphan", f"allocation of {consumer} at {view.site}: the server is gone")
    networks = {id_ for each in before for id_ in each.networks}
    for id_, row in view.networks.items():
        if id_ not in networks:
            yield Violation("orphan", f"network {row['name']} {id_} at {view.site}: no request created it")


def unfinished(view: View) -> Iterator[Violation]:
    """Yield a violation for each server with a task that no process carries out any more."""
    for id_, row in view.servers.items():
        if row["task"] or (row["status"] == "BUILD"):
            yield Violation("unhealthy", f"server {row['name']} {id_} at {view.site} is {row['status']}, {row['task'] or 'no task'}")
