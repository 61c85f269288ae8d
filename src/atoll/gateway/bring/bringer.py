"""Brings the resources that a request refers to, and deletes them again if the request still fails.

The request goes to this site's service first. Only if the service refuses it, the gateway looks for the resources that the request refers
to, so that a request whose resources are all here causes no further requests.

The gateway sends two questions to the other sites: it asks their services, with the user's token, whether the user may see the resource;
and it asks their gateways for a description of it. It brings only resources that the user may see and that all reachable sites describe
alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import web
from cachetools import LRUCache

from atoll.gateway.bring import compute, implied_network, network
from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.chunks import ChunkServer
from atoll.gateway.bring.context import BringContext
from atoll.gateway.bring.default_groups import DefaultGroups
from atoll.gateway.bring.descriptions import Disagreement, agree
from atoll.gateway.bring.grants import Grants
from atoll.gateway.bring.images import ImageTransfers
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.loans import Loans
from atoll.gateway.bring.port_moves import PortMoves
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.bring.rbac_policies import RbacPolicies
from atoll.gateway.bring.references import Mention, Reference
from atoll.gateway.bring.service_client import (
    BelongsElsewhere,
    BringFailed,
    BringRefused,
    RemoteResource,
    ServiceClient,
)
from atoll.gateway.bring.site_bound import credible, is_site_bound, may_be_site_bound, refusal_text
from atoll.gateway.bring.trust import MemberTrust
from atoll.gateway.bring.undo import AbandonedCreations, BroughtResources, UndoLog
from atoll.gateway.bring.unfinished import ids_of, unfinished
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import request_id as valid_request_id
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.resolve import mentions, visibility
from atoll.gateway.sites import Sites
from atoll.identifiers import default_group

LOG = logging.getLogger(__name__)

JOIN_S = 60.0
"""Seconds after the end of a transfer during which a request that lacked the transferred resource may still join it."""

REMEMBERED = 4096
"""Number of tokens whose projects are cached."""

MOST_REFERENCES = 256
"""Greatest number of resources to which one request may refer: each is looked for at every site."""

_MAKERS = {
    kinds.FLAVOR: compute.bring_flavor,
    kinds.KEY_PAIR: compute.bring_key_pair,
    kinds.NETWORK: network.bring_network,
    kinds.SUBNET: network.bring_subnet,
    kinds.SECURITY_GROUP: network.bring_security_groups,
}


@dataclass
class _Bringing:
    """A resource being brought, for all requests of one user that need it.

    Attributes:
        task: the transfer or creation.
        undo_log: the resources that it has created at this site.
        wanted: the number of requests that have joined.
        given_up: the number of joined requests that have failed.
    """

    task: asyncio.Task[None]
    undo_log: UndoLog
    wanted: int = 0
    given_up: int = 0


class Bringer:
    """Brings resources from other sites to this site.

    Args:
        sites: sends requests to this site and the others.
        data: the gateway's directory; partial images go to `partial` in it, the ledger to `ledger.db`.
        conflicts: records disagreements; by default, in memory.
        trust: the trust in the other members.
        durable: whether the ledger survives a loss of power.

    Attributes:
        abandoned: settles the resources that were created for requests that never ended.
        images: the transfers of images.
        loans: tells other sites when a grant ends on which their own grants are based.
        moves: moves ports to this site.
        policies: decides where RBAC policies belong, and whether they may be deleted.
    """

    def __init__(
        self, sites: Sites, data: Path, conflicts: Conflicts | None = None, trust: MemberTrust | None = None, *, durable: bool = True
    ) -> None:
        trust = trust or MemberTrust()
        self._ledger = Ledger(data / "ledger.db", durable=durable)
        self._conflicts = conflicts or Conflicts()
        self.images = ImageTransfers(sites, data / "partial", ledger=self._ledger, conflicts=self._conflicts)
        holders = self.images.holders
        default_groups = DefaultGroups(sites, self._ledger, holders, self._conflicts, trust.limited)
        self._context = BringContext(holders, Grants(sites, self._ledger, holders), default_groups, trust.speaks_for)
        self._trust = trust
        self.moves = PortMoves(sites, self._ledger, holders)
        self.loans = Loans(sites, self._ledger, holders)
        self.abandoned = AbandonedCreations(sites, self._ledger)
        self.policies = RbacPolicies(sites, self._ledger, holders, trust.speaks_for)
        self._sites = sites
        self._chunks = ChunkServer(sites)
        self._projects: LRUCache[str, str] = LRUCache(REMEMBERED)
        self._bringing: dict[tuple[Reference, str], _Bringing] = {}
        self._locks: WeakValueDictionary[Reference, asyncio.Lock] = WeakValueDictionary()

    def attach(self, application: web.Application) -> None:
        """Add the handlers of other gateways' requests to the application of the peer port."""
        self._chunks.attach(application)
        self._context.holders.attach(application)
        self._context.grants.attach(application)
        self.policies.attach(application)
        visibility.attach(application, self._sites)

    async def stop(self) -> None:
        """Stop the transfers of images; the next start resumes them."""
        await self.images.stop()

    def close(self) -> None:
        """Close the ledger. No method may be called after this one."""
        self._ledger.close()

    def status(self) -> dict[str, Any]:
        """Return the transfers that are under way, for JSON."""
        return {"images": self.images.status()}

    async def ahead(self, call: Call) -> BroughtResources | None:
        """Bring the resources whose absence a service would not answer with a refusal, but with a different result.

        Args:
            call: a request that has not been sent yet.

        Returns:
            The resources that were brought; `None` if there are none.

        Raises:
            BringRefused: a resource is at another site and can't be brought.
            Unreachable: a service of this site does not answer.
        """
        if call.user == "":
            return None  # no site has signed the token, so the service refuses it
        fields = mentions.early_fields(call)
        client = ServiceClient(self._sites, call.token, call.request_id)
        brought = BroughtResources()
        try:
            if any(field.kind == kinds.SECURITY_GROUP for field in mentions.fields_of(call)):
                await self._default_group(client, call, brought)
            if self._ledger.abandoned():
                await self._bring_mentions(client, call, await unfinished(client, call, self._ledger), brought)
            if any(field.kind == kinds.NETWORK and field.implied for field in fields) and implied_network.names_none(call):
                project = await self._project(client)
                network = await implied_network.only_network(client, project) if project else None
                await self._bring_mentions(client, call, [kinds.Mention(network, fields[0])] if network else [], brought)
            # A shared Nova finds images at all sites, through the gateway; with a copy here, the next server needs no other site.
            images = self._sites.groups.shares and call.service == "compute"
            early = [each for each in mentions.mentions(call) if each.field.ahead or (images and each.field.kind == kinds.IMAGE)]
            named = early if fields or images else []
            await self._bring_mentions(client, call, await self._lacking(client, named), brought)
        except BaseException:
            await brought.undo()
            raise
        return brought or None

    async def after(self, call: Call) -> BroughtResources | None:
        """Bring the resources that a refused request refers to and this site lacks.

        Args:
            call: the request.

        Returns:
            The resources that were brought; `None` if there are none, so that the refusal stands.

        Raises:
            BelongsElsewhere: the request belongs to another site.
            BringRefused: a resource is at another site and can't be brought.
            Unreachable: a service of this site does not answer.
        """
        lacking = await self.missing(call)
        if not lacking:
            return None
        LOG.info("%s: %s %s needs %s", call.request_id, call.method, call.path, ", ".join(str(each.reference) for each in lacking))
        brought = BroughtResources()
        await self._bring_mentions(ServiceClient(self._sites, call.token, call.request_id), call, lacking, brought)
        return brought or None

    async def everywhere(self, call: Call) -> None:
        """Check that a change of a resource with copies is possible at all sites that have a copy.

        Args:
            call: the change, which each of those sites is to carry out.

        Raises:
            BringRefused: one of these sites lacks a resource that the request refers to.
        """
        named = [mention for mention in mentions.mentions(call) if mention.field.action is kinds.Action.REFUSE]
        if not named:
            return
        _check_number(named)
        client = ServiceClient(self._sites, call.token, call.request_id)
        sites = [self._sites.here, *self._sites.reachable(call.service)]
        shown = await asyncio.gather(*(client.owner_at(site, call.service, call.path) for site in sites))
        owners = {site: owner for site, owner in zip(sites, shown, strict=True) if owner is not None}
        holders = [site for site in owners if self._may_block(site, owners)]
        for mention in named:
            seen = await asyncio.gather(*(client.shows(site, mention.reference) for site in holders))
            if any(seen) and not all(seen):
                lacking, having = holders[seen.index(False)], holders[seen.index(True)]
                raise BringRefused(f"{mention.reference} is at {having} and not at {lacking}, which has a copy of the resource to change")

    def _may_block(self, site: str, owners: Mapping[str, str]) -> bool:
        """Return whether a site speaks for every project that another holder of the resource names as the owner."""
        return site == self._sites.here or all(self._trust.speaks_for(site, owner) for other, owner in owners.items() if other != site)

    async def missing(self, call: Call) -> list[Mention]:
        """Return the resources that a request refers to and this site does not show to its user.

        Raises:
            BringRefused: the request refers to too many resources.
        """
        client = ServiceClient(self._sites, call.token, call.request_id)
        try:
            return await self._lacking(client, mentions.mentions(call))
        except Unreachable as error:
            LOG.warning("%s: the resources that it refers to can't be looked up: %s", call.request_id, error)
            return []

    async def _lacking(self, client: ServiceClient, named: Sequence[Mention]) -> list[Mention]:
        """Return the mentioned resources that this site lacks, and missing ones that its own resources mention, like an image's kernel.

        Raises:
            BringRefused: there are too many references.
            Unreachable: a service of this site does not answer.
        """
        _check_number(named)
        there = await asyncio.gather(*(client.look(self._sites.here, mention.reference) for mention in named))
        inner = [each for mention, seen in zip(named, there, strict=True) if seen is not None for each in _parts(mention.reference, seen)]
        seen_inner = await asyncio.gather(*(client.look(self._sites.here, mention.reference) for mention in inner))
        lacking = [*zip(named, there, strict=True), *zip(inner, seen_inner, strict=True)]
        return list({mention.reference: mention for mention, seen in lacking if seen is None}.values())

    async def _default_group(self, client: ServiceClient, call: Call, brought: BroughtResources) -> None:
        """Give the project's group `default` the rules that it has at other sites, if the request is about to use the group."""
        project = await self._project(client)
        if not project or self._context.default_groups.known(project) or not mentions.involves_default(call, default_group(project)):
            return
        undo_log = UndoLog(client, self._ledger)
        try:
            await self._context.default_groups.adopt(project, client, undo_log, self._context, mentions.given_ids(call))
        except BringFailed as error:
            await undo_log.undo()
            raise _refusal(error, f"security group default of project {project}", self._sites.here, "another site") from error
        brought.add(undo_log.undo, undo_log.keep)

    async def _project(self, client: ServiceClient) -> str:
        """Return the id of the user's project; empty if the token has none."""
        key = hashlib.sha256(client.token.encode()).hexdigest()
        project = self._projects.get(key)
        if project is None:
            try:
                project = await client.project()
            except BringFailed:
                return ""
            self._projects[key] = project
        return project

    async def _bring_mentions(self, client: ServiceClient, call: Call, lacking: Sequence[Mention], brought: BroughtResources) -> None:
        """Bring the resources that may be brought; bring none if one is at no site, so that the service itself refuses the request.

        Raises:
            BelongsElsewhere: the request belongs to another site.
            BringRefused: a resource is at another site and can't be brought.
        """
        doubtful = [mention for mention in lacking if may_be_site_bound(mention)]
        found = await self._elsewhere(client, [each.reference for each in doubtful])
        staying = [(mention, sites) for mention, sites in zip(doubtful, found, strict=True) if is_site_bound(mention, sites)]
        for mention, sites in staying:
            if sites:
                leads = mention.field.leads and call.method == "POST" and not await self._tied(client, call)
                raise (BelongsElsewhere if leads else BringRefused)(refusal_text(mention, sites, self._sites.here))
        if staying:
            return
        added = await self.bring([mention.reference for mention in lacking], client.token, client.request_id) if lacking else None
        if added is not None:
            brought.add(added.undo, added.keep)

    async def _tied(self, client: ServiceClient, call: Call) -> bool:
        """Return whether the request refers to a resource of this site that can't be used elsewhere."""
        leading = [each.reference for each in mentions.mentions(call) if each.field.leads and each.field.action is kinds.Action.REFUSE]
        here = await asyncio.gather(*(client.look(self._sites.here, reference) for reference in leading))
        return any(each is not None for each in here)

    async def bring(self, wanted: Sequence[Reference], token: str, request_id: str | None = None) -> BroughtResources | None:
        """Bring resources from the nearest site that shows them to the user: all of them, or none.

        Args:
            wanted: the resources that this site lacks.
            token: the user's token.
            request_id: the id of the user's request.

        Returns:
            The resources, to be kept or undone. An undo keeps images, since Glance never accepts an id twice, and ports that have moved.
            `None` if a resource is at no site.

        Raises:
            BringRefused: a resource can't be brought; or no reachable site has it, and an unreachable site may have it.
        """
        client = ServiceClient(self._sites, token, valid_request_id(request_id))
        pairs = await self._places(client, wanted)
        if pairs is None:
            return None
        brought = BroughtResources()
        # Ports need their networks. Images take longest, so they are brought last, when everything else has succeeded.
        for phase in sorted({_phase(reference) for reference, _found in pairs}):
            some = [pair for pair in pairs if _phase(pair[0]) == phase]
            bringings = await asyncio.gather(*(self._join(client, reference, found) for reference, found in some))
            for (reference, _), bringing in zip(some, bringings, strict=True):
                brought.add(partial(self._give_up, (reference, token), bringing), bringing.undo_log.keep)
            outcomes = await asyncio.gather(*(asyncio.shield(bringing.task) for bringing in bringings), return_exceptions=True)
            for (reference, found), outcome in zip(some, outcomes, strict=True):
                if outcome is not None:
                    await brought.undo()
                    LOG.warning("%s: %s could not be brought: %s", client.request_id, reference, outcome)
                    raise _refusal(outcome, str(reference), self._sites.here, found[0].site) from outcome
                LOG.info("%s: %s brought from %s", client.request_id, reference, found[0].site)
        return brought

    async def _places(self, client: ServiceClient, wanted: Sequence[Reference]) -> list[tuple[Reference, list[RemoteResource]]] | None:
        """Return each resource with the sites that have it, preceded by the missing resources to which it refers, with their sites.

        Returns:
            `None` if a resource is at no site.

        Raises:
            BringRefused: a resource refers to one that can't be brought; or no reachable site has it, and an unreachable site may have it.
        """
        pairs: dict[Reference, list[RemoteResource]] = {}
        todo = list(wanted)
        while todo:
            places = await self._elsewhere(client, todo)
            found = dict(zip(todo, places, strict=True))
            if nowhere := [reference for reference, sites in found.items() if not sites]:
                self._check_away(nowhere)
                LOG.info("%s: no site that can be reached has %s", client.request_id, ", ".join(map(str, nowhere)))
                return None
            pairs |= found
            parts: dict[Reference, Mention] = {}
            for reference, sites in found.items():
                parts |= {part.reference: part for part in _parts(reference, sites[0].body)}
                if reference.kind == kinds.PORT:
                    await client.check(reference.kind, sites[0].body, sites[0].site)
                    await self.moves.check(client, sites[0])
            brought = [each for each in parts.values() if each.field.action is kinds.Action.BRING and each.reference not in pairs]
            todo = [mention.reference for mention in await self._lacking(client, brought) if mention.reference not in pairs]
        return [*reversed(pairs.items())]

    async def _elsewhere(self, client: ServiceClient, wanted: Sequence[Reference]) -> list[list[RemoteResource]]:
        """Return the other sites that have each of several resources, nearest first, without sites whose description is not credible."""
        found = await asyncio.gather(*(client.elsewhere(reference) for reference in wanted))
        return [credible(reference, sites, self._trust.speaks_for) for reference, sites in zip(wanted, found, strict=True)]

    def _check_away(self, nowhere: Sequence[Reference]) -> None:
        """Check that a resource which no reachable site has can't be at an unreachable site.

        Raises:
            BringRefused: an unreachable site may have one of the resources.
        """
        away = sorted(set(self._sites.others()) - set(self._sites.reachable()))
        if away and any(is_uuid(reference.id.lower()) for reference in nowhere):
            raise BringRefused(f"{nowhere[0]} is at no site that can be reached", 503, away)

    async def _join(self, client: ServiceClient, reference: Reference, found: list[RemoteResource]) -> _Bringing:
        key = reference, client.token
        bringing = self._bringing.get(key)
        # The resource may have been brought, and deleted since.
        if bringing is not None and bringing.task.done() and await client.look(self._sites.here, reference) is None:
            self._bringing.pop(key, None)
        bringing = self._bringing.get(key)
        if bringing is None:
            loop = asyncio.get_running_loop()
            undo_log = UndoLog(client, self._ledger)
            bringing = self._bringing[key] = _Bringing(loop.create_task(self._bring(client, reference, found, undo_log)), undo_log)
            bringing.task.add_done_callback(lambda _: loop.call_later(JOIN_S, self._forget, key, bringing))
        bringing.wanted += 1
        return bringing

    def _forget(self, key: tuple[Reference, str], bringing: _Bringing) -> None:
        if self._bringing.get(key) is bringing:
            del self._bringing[key]

    async def _give_up(self, key: tuple[Reference, str], bringing: _Bringing) -> None:
        """Count a failed request, and delete the resource once all requests that joined have failed."""
        bringing.given_up += 1
        if bringing.given_up == bringing.wanted:
            self._forget(key, bringing)
            await bringing.undo_log.undo()

    async def _bring(self, client: ServiceClient, reference: Reference, found: list[RemoteResource], undo_log: UndoLog) -> None:
        async with self._locks.setdefault(_whole(reference, found), asyncio.Lock()):
            here = await client.look(self._sites.here, reference)
            if here is not None and not ids_of(reference, here) & self._ledger.abandoned():
                return  # another user's request brought the resource
            self._agree(reference, found)
            if reference.kind == kinds.IMAGE:
                await self._bring_image(client, reference)
            elif reference.kind == kinds.PORT:
                await self.moves.move(client, found[0])
            else:
                await _MAKERS[reference.kind](client, found[0], undo_log, self._context)

    def _agree(self, reference: Reference, found: list[RemoteResource]) -> None:
        """Check that all descriptions that the user sees under an id or name describe one resource.

        Nova accepts the name of a security group, which several groups may have: then the groups of the nearest site are taken.
        """
        if reference.kind == kinds.SECURITY_GROUP:
            return
        try:
            agree(reference.kind, reference.id, {each.site: each.body for each in found})
        except Disagreement as error:
            self._conflicts.note(reference.kind, reference.id, error.sites, str(error))
            raise

    async def _bring_image(self, client: ServiceClient, reference: Reference) -> None:
        _here, elsewhere = await self._context.holders.agreed(kinds.IMAGE, reference.id, await client.project())
        await self.images.pull(reference.id, {each.site: each.body for each in elsewhere})
        await self._context.grants.ensure(client, reference, elsewhere)


def _check_number(named: Sequence[Mention]) -> None:
    """Check that a request does not refer to too many resources.

    Raises:
        BringRefused: the request refers to too many.
    """
    if len(named) > MOST_REFERENCES:
        raise BringRefused(f"a request may refer to at most {MOST_REFERENCES} resources, and this one refers to {len(named)}", 400)


def _parts(reference: Reference, body: Any) -> list[Mention]:
    """Return the references of an image or a port to other resources; none for other kinds, whose references need not be brought."""
    return kinds.named_by(reference.kind, body) if reference.kind in {kinds.IMAGE, kinds.PORT} else []


def _whole(reference: Reference, found: Sequence[RemoteResource]) -> Reference:
    """Return the resource that is locked while a reference is brought: the resource itself; for a subnet, its network."""
    if reference.kind == kinds.SUBNET:
        return Reference(kinds.NETWORK, str(found[0].body["network_id"]))
    return reference


def _phase(reference: Reference) -> int:
    return {kinds.PORT: 1, kinds.IMAGE: 2}.get(reference.kind, 0)


def _refusal(error: BaseException, what: str, here: str, site: str) -> BaseException:
    """Return the refusal of a request for which a resource could not be brought; an unexpected error is returned as it is."""
    if isinstance(error, BringRefused):
        return error
    start = f"{what} is at {site} and can't be brought to {here}"
    if isinstance(error, Disagreement):
        return BringRefused(f"{start}: sites hold different resources under this id; `atoll conflicts` lists them for operators")
    if isinstance(error, Unreachable):
        return BringRefused(f"{start}: {error}", 503)
    if isinstance(error, BringFailed | PullFailed | OSError | ValueError):
        return BringRefused(f"{start}: {error}")
    return error
