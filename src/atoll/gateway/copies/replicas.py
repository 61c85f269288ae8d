"""Resources that exist at several sites: created, changed and deleted together, even at sites that are cut off at the time.

Types whose API lets the caller choose the id have the same id at all sites. Servers can't: each has an id of its own, and a record of the
replicated document ties them together; the record's key is the first site's id, which the client was given. A request about any of these
ids concerns all of them. (After scope-lang's replication, D. Espinel et al., Euro-Par 2021: a "meta-id" and the local ids.)
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.gateway import faults
from atoll.gateway.answers import GONE
from atoll.gateway.console.url import requests_console
from atoll.gateway.copies.change import ChangeContext, Changes
from atoll.gateway.copies.clashes import NameClashes
from atoll.gateway.copies.create import CreateAt, Creator
from atoll.gateway.copies.draft import Draft
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.pending_operation import PendingOperation, resource_of
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.context import Request
from atoll.gateway.request.requester import Requesters
from atoll.gateway.resolve.routes import Operation as Kind
from atoll.gateway.sites import Sites
from atoll.mesh.document import Document
from atoll.mesh.record import Change, Record

LOG = logging.getLogger(__name__)

KIND = "replica"
"""Kind of the document's records that tie replicas."""


@dataclass(frozen=True)
class ReplicaGroup:
    """Resources that are replicas of each other.

    Attributes:
        key: the id that the client was given.
        service: the service that has them.
        path: the path of the collection.
        members: the id at each site.
    """

    key: str
    service: str
    path: str
    members: Mapping[str, str]


class ReplicatedResources:
    """The replicated resources of the cloud, as one gateway sees them.

    Args:
        sites: sends requests to the sites.
        document: the replicated document, which ties replicas together.
        pending: keeps the operations that can't be carried out now.
        create_at: see `create.CreateAt`.
        context: see `ChangeContext`; by default, one whose conflicts are kept in memory.

    Attributes:
        changes: the changes of copies.
        creator: the creation at several sites.
    """

    def __init__(
        self, sites: Sites, document: Document, pending: Pending, create_at: CreateAt, context: ChangeContext | None = None
    ) -> None:
        self._sites = sites
        self._document = document
        self._pending = pending
        self._requesters = Requesters(sites)
        self.changes = Changes(sites, pending, self._requesters, context or ChangeContext())
        self.creator = Creator(sites, pending, create_at, self._tie, self._requesters)
        self._groups: dict[str, ReplicaGroup] = {}
        self._learn(frozenset((KIND, record.key) for record in document.records(KIND)))
        document.on_change(self._learn)

    def group(self, identifier: str) -> ReplicaGroup | None:
        """Return the group of replicas to which a resource belongs; `None` if it has no replicas."""
        return self._groups.get(identifier)

    def _tie(self, made: Draft, members: Mapping[str, str]) -> None:
        if made.resource.copies and made.resource.service != "image":
            return  # a change of such a resource asks all sites anyway
        fields = {"present": True, "service": made.call.service, "path": made.call.path, "members": dict(members)}
        self._document.write([Change(KIND, next(iter(members.values())), fields)])

    async def answer(self, request: Request, clashes: NameClashes | None = None) -> Reply | None:
        """Answer a request about a resource that several sites have, or may have.

        Args:
            request: any request except for a list or a creation.
            clashes: knows the names that sites have given to different resources.

        Returns:
            The answer; `None` if the request is about another resource.
        """
        route, scope = request.route, request.plan.sites if request.plan else None
        if route.id and (group := self.group(route.id)) is not None and await self._is_meant(group, request):
            return await self.relay(request.call, group, route.id, scope)
        if route.operation is not Kind.EVERYWHERE:
            return None
        if route.resource is None and scope is not None:
            return await self.everywhere(request.call, scope)  # a setting that each site has for itself
        sites: list[str] | Reply = self._sites.everywhere(request.call.service)
        if clashes is not None and await self._may_know(request, clashes):
            sites = clashes.sites_for(request.call, route, self._sites.everywhere(request.call.service), scope)
        return sites if isinstance(sites, Reply) else await self.everywhere(request.call, sites, scope)

    async def _may_know(self, request: Request, clashes: NameClashes) -> bool:
        """Return whether a client may learn that a name clashes: its own name or, if it is an administrator, any name."""
        owner = clashes.owner(request.call, request.route)
        if owner is None or (owner and owner == request.call.user):
            return True
        requester = await self._requesters.of(request.call)
        return requester is not None and (requester.is_admin or (bool(owner) and owner == requester.user))

    async def _is_meant(self, group: ReplicaGroup, request: Request) -> bool:
        """Return whether a request is about a replicated resource. Data can be sent to one site only, so the scope decides.

        An image of another owner that was created earlier may have the id of a replicated image at another site. An upload goes to that
        image if the scope contains no site of the replicas, or if this site has it: otherwise, a client that may write to both images could
        write to the wrong one.
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

    async def relay(self, call: Call, group: ReplicaGroup, asked: str, scope: Collection[str] | None = None) -> Reply:
        """Answer a request about a replicated resource: a read from one replica, a change by all.

        Args:
            call: the client's request.
            group: the replicas.
            asked: the id in the call's path: the group's key, or a member's.
            scope: see `Changes.carry_out`.
        """
        everywhere = self._sites.everywhere()
        # Further sites may have copies of an image.
        members = dict.fromkeys(everywhere, group.key) if group.service == "image" and call.repeatable else group.members
        members = {site: members[site] for site in self._sites.near_first(list(members)) if site in everywhere}
        calls = {site: call.with_(path=_with_id(call.path, asked, identifier)) for site, identifier in members.items()}
        if call.method in {"GET", "HEAD"} or requests_console(call):
            # A read with one server's own id is about that server alone.
            own = {site: each for site, each in calls.items() if members[site] == asked != group.key}
            return _renamed(await self._nearest(own or calls), members, asked)
        if not call.repeatable:
            return await self._upload(call, list(calls))
        reply = await self.changes.carry_out(calls, scope, group.members)
        whole = call.path == resource_of(call.path) and (scope is None or set(group.members) <= set(scope))
        if call.method == "DELETE" and whole and (reply.ok or reply.status in GONE):
            self._document.write([Change(KIND, group.key, {"present": False})])
        return _renamed(reply, members, asked)

    async def everywhere(self, call: Call, sites: Iterable[str], scope: Collection[str] | None = None) -> Reply:
        """Have all sites that have a copy carry a request out; see `Changes.carry_out`.

        Args:
            call: the request, with a body that can be sent more than once.
            sites: all sites that may have a copy.
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
        """Return the answer of the nearest site that has the resource."""
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
        """Send data that can be read once to the nearest site; the others pull them from there."""
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
            copied = replace(PendingOperation.of(near, call.with_(body=None), f"copied from {near}", requester), copies_data=True)
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
            group = ReplicaGroup(
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
    """Return an answer with the id that the client asked for in place of the member's own."""
    own = members.get(reply.site.split(",", 1)[0], asked)
    return reply if own == asked else replace(reply, body=reply.body.replace(own.encode(), asked.encode()))
