"""The same resource at several sites: made together, changed together, deleted together, also at those that are cut off at the time.

Types whose API lets the caller choose the id have the same id at all sites. Servers can't: each has an id of its own, and a record of the
replicated document ties them together; its key is the id that the client was given, that of the first site. A request about any of
these ids concerns all of them. (After scope-lang's replication, D. Espinel et al., Euro-Par 2021: a "meta-id" and the local ids.)
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.gateway import faults
from atoll.gateway.answers import GONE
from atoll.gateway.console.url import asked_for
from atoll.gateway.copies.change import Changes
from atoll.gateway.copies.clashes import Clashes
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.create import CreateAt, Creator
from atoll.gateway.copies.draft import Draft
from atoll.gateway.copies.operation import Operation, resource_of
from atoll.gateway.copies.pending import Pending
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.context import Request
from atoll.gateway.request.requester import Requesters
from atoll.gateway.resolve.routes import Operation as Kind
from atoll.gateway.sites import Sites
from atoll.mesh.document import Document
from atoll.mesh.record import Change, Record

LOG = logging.getLogger(__name__)

KIND = "replica"
"""Of the document's records."""


@dataclass(frozen=True)
class Group:
    """Resources that are replicas of each other.

    Attributes:
        key: the id that the client was given.
        service: whose they are.
        path: of the collection.
        members: the id at each site.
    """

    key: str
    service: str
    path: str
    members: Mapping[str, str]


class Replicas:
    """The replicas of the cloud, as one gateway sees them.

    Args:
        sites: to ask.
        document: where it is written down what belongs together.
        pending: for what can't be done now.
        create_at: see `create.CreateAt`.
        conflicts: where it is noted that copies differ; without it, in memory.

    Attributes:
        changes: changes copies.
        creator: creates at several sites.
    """

    def __init__(self, sites: Sites, document: Document, pending: Pending, create_at: CreateAt, conflicts: Conflicts | None = None) -> None:
        self._sites = sites
        self._document = document
        self._pending = pending
        self._requesters = Requesters(sites)
        self.changes = Changes(sites, pending, self._requesters, conflicts or Conflicts())
        self.creator = Creator(sites, pending, create_at, self._tie, self._requesters)
        self._groups: dict[str, Group] = {}
        self._learn(frozenset((KIND, record.key) for record in document.records(KIND)))
        document.on_change(self._learn)

    def group(self, identifier: str) -> Group | None:
        """What a resource is a replica of; None if it stands for itself."""
        return self._groups.get(identifier)

    def _tie(self, made: Draft, members: Mapping[str, str]) -> None:
        if made.resource.copies and made.resource.service != "image":
            return  # whoever changes such a thing asks all sites anyway
        fields = {"present": True, "service": made.call.service, "path": made.call.path, "members": dict(members)}
        self._document.write([Change(KIND, next(iter(members.values())), fields)])

    async def answer(self, request: Request, clashes: Clashes | None = None) -> Reply | None:
        """Answer a request about what several sites have, or may have.

        Args:
            request: any but a list or a creation.
            clashes: knows names that sites have given to different things.

        Returns:
            The answer; `None` if it is about something else.
        """
        route, scope = request.route, request.plan.sites if request.plan else None
        if route.id and (group := self.group(route.id)) is not None and await self._is_meant(group, request):
            return await self.relay(request.call, group, route.id, scope)
        if route.operation is not Kind.EVERYWHERE:
            return None
        if route.resource is None and scope is not None:
            return await self.everywhere(request.call, scope)  # a setting, which each site has for itself
        sites: list[str] | Reply = self._sites.everywhere()
        if clashes is not None and await self._may_know(request, clashes):
            sites = clashes.sites_for(request.call, route, self._sites.everywhere(), scope)
        return sites if isinstance(sites, Reply) else await self.everywhere(request.call, sites, scope)

    async def _may_know(self, request: Request, clashes: Clashes) -> bool:
        """Return whether a client may know that sites have given a name to different things: its own name, or any as an administrator."""
        owner = clashes.owner(request.call, request.route)
        if owner is None or (owner and owner == request.call.user):
            return True
        requester = await self._requesters.of(request.call)
        return requester is not None and (requester.is_admin or (bool(owner) and owner == requester.user))

    async def _is_meant(self, group: Group, request: Request) -> bool:
        """Return whether a request is about a replicated resource. Data can be sent to one site only, so they go by the scope.

        An image of another owner may have the id of a replicated one at another site, from earlier times. An upload is about that image if
        the scope leads to none of the replicas, or if this site has it: whoever may write to both would else fill the wrong one.
        """
        if request.call.repeatable:
            return True
        if not any(site in group.members for site in request.among):
            return False
        here = self._sites.here
        if here in group.members or here not in request.among:
            return True
        call = request.call
        look = call.with_(method="GET", path=resource_of(call.path), query="", body=None)
        return (await self._sites.send(here, look)).status in GONE

    async def relay(self, call: Call, group: Group, asked: str, scope: Collection[str] | None = None) -> Reply:
        """Answer a request about a replicated resource: what reads from one of them, what changes to all.

        Args:
            call: the client's.
            group: what it is about.
            asked: the id in the call's path: the group's key, or a member's.
            scope: see `Changes.carry_out`.
        """
        everywhere = self._sites.everywhere()
        # Of an image, further sites may have made copies.
        members = dict.fromkeys(everywhere, group.key) if group.service == "image" and call.repeatable else group.members
        members = {site: members[site] for site in self._sites.near_first(list(members)) if site in everywhere}
        calls = {site: call.with_(path=_with_id(call.path, asked, identifier)) for site, identifier in members.items()}
        if call.method in {"GET", "HEAD"} or asked_for(call):
            # Whoever names one of several servers by its own id means that one.
            own = {site: each for site, each in calls.items() if members[site] == asked != group.key}
            return _renamed(await self._nearest(own or calls), members, asked)
        if not call.repeatable:
            return await self._upload(call, list(calls))
        reply = await self.changes.carry_out(calls, scope)
        if call.method == "DELETE" and call.path == resource_of(call.path) and (reply.ok or reply.status in GONE):
            self._document.write([Change(KIND, group.key, {"present": False})])
        return _renamed(reply, members, asked)

    async def everywhere(self, call: Call, sites: Iterable[str], scope: Collection[str] | None = None) -> Reply:
        """Have all sites that have a copy do the same; see `Changes.carry_out`.

        Args:
            call: with a body that can be sent more than once.
            sites: all that may hold what it is about. A site that has no such thing has nothing to do.
            scope: see `Changes.carry_out`.
        """
        return await self.changes.carry_out(dict.fromkeys(self._sites.near_first(list(sites)), call), scope)

    def _best_refusal(self, service: str, outcomes: Mapping[str, Reply | Unreachable]) -> Reply:
        replies = [outcome for outcome in outcomes.values() if isinstance(outcome, Reply)]
        cut = [site for site, outcome in outcomes.items() if isinstance(outcome, Unreachable)]
        refused = next((reply for reply in replies if reply.status not in GONE), None)
        if refused is not None:
            return refused
        return faults.unreachable(service, cut, self._sites.here) if cut else replies[0]

    async def _nearest(self, calls: Mapping[str, Call]) -> Reply:
        """The answer of the nearest site that has it."""
        outcomes: dict[str, Reply | Unreachable] = {}
        for site, call in calls.items():
            try:
                outcomes[site] = reply = await self._sites.send(site, call)
            except Unreachable as error:
                outcomes[site] = error
            else:
                if reply.status not in GONE and reply.status < 500:
                    return reply
        return self._best_refusal(next(iter(calls.values())).service, outcomes)

    async def _upload(self, call: Call, sites: Sequence[str]) -> Reply:
        """Send data that can be read once to the nearest site; the others get them from there."""
        there = {self._sites.here, *self._sites.reachable()}
        near = next((site for site in sites if site in there), None)
        if near is None:
            return faults.unreachable(call.service, sites, self._sites.here)
        try:
            upstream = await self._sites.open(near, call)
            reply: Reply = await upstream.read()
        except Unreachable:
            return faults.unreachable(call.service, [near], self._sites.here)
        if reply.ok:
            requester = await self._requesters.of(call)
            copied = replace(Operation.of(near, call.with_(body=None), f"copied from {near}", requester), copies_data=True)
            self._pending.add(replace(copied, site=site) for site in sites if site != near)
        return reply

    def _learn(self, touched: frozenset[tuple[str, str]]) -> None:
        for kind, key in touched:
            if kind == KIND:
                self._forget(key)
                record = self._document.record(KIND, key)
                if record is not None and record.present:
                    self._remember(record)

    def _remember(self, record: Record) -> None:
        fields: Mapping[str, Any] = record.fields
        try:
            group = Group(
                record.key, str(fields["service"]), str(fields["path"]), {str(site): str(each) for site, each in fields["members"].items()}
            )
        except (KeyError, AttributeError):
            LOG.warning("the record of the replica %s is incomplete", record.key)
            return
        self._groups |= dict.fromkeys((group.key, *group.members.values()), group)

    def _forget(self, key: str) -> None:
        group = self._groups.get(key)
        if group is not None and group.key == key:
            for identifier in {key, *group.members.values()}:
                del self._groups[identifier]


def _with_id(path: str, asked: str, identifier: str) -> str:
    return "/".join(identifier if part == asked else part for part in path.split("/"))


def _renamed(reply: Reply, members: Mapping[str, str], asked: str) -> Reply:
    """An answer that speaks of the id that was asked for."""
    own = members.get(reply.site.split(",", 1)[0], asked)
    return reply if own == asked else replace(reply, body=reply.body.replace(own.encode(), asked.encode()))
