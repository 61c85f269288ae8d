"""Brings what a request refers to, and takes it away again if the request fails all the same.

The request goes to this site's service first; only if it is refused, what it refers to is looked at: so what is here costs nothing.

Two things are asked of the other sites: of their services, with the user's token, what the user may see there; of their gateways, how they
hold the thing. Only what the user may see, and all that can be reached agree about, is brought.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import web

from atoll.gateway.bring import compute, network, unnamed
from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.asking import Asker, Elsewhere, Failed, Found, Refusal, may_stay, sentence, stays
from atoll.gateway.bring.chunks import Chunks
from atoll.gateway.bring.defaults import Defaults
from atoll.gateway.bring.grants import Grants
from atoll.gateway.bring.images import Images
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.loans import Loans
from atoll.gateway.bring.means import Means
from atoll.gateway.bring.moves import Moves
from atoll.gateway.bring.policies import Policies
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.bring.references import Mention, Reference
from atoll.gateway.bring.things import Disagreement, agree
from atoll.gateway.bring.undo import Made
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.lists.union import Recent
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import request_id as valid_request_id
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.resolve import mentions, sight
from atoll.gateway.sites import Sites
from atoll.identifiers import default_group

LOG = logging.getLogger(__name__)

Undo = Callable[[], Awaitable[None]]

JOIN_S = 60.0
"""A request that was refused before something was brought may come for it so many seconds after."""

REMEMBERED = 4096
"""Tokens whose projects are remembered."""

MOST_REFERENCES = 256
"""Things to which one request may refer: each is looked for at every site."""

_MAKERS = {
    kinds.FLAVOR: compute.bring_flavor,
    kinds.KEY_PAIR: compute.bring_key_pair,
    kinds.NETWORK: network.bring_network,
    kinds.SUBNET: network.bring_subnet,
    kinds.SECURITY_GROUP: network.bring_security_groups,
}


@dataclass
class _Bringing:
    """One thing being brought, for all requests of one user that want it.

    Attributes:
        task: the work.
        made: what it has made here.
        wanted: requests that have wanted it.
        given_up: those that failed.
    """

    task: asyncio.Task[None]
    made: Made
    wanted: int = 0
    given_up: int = 0


class Bringer:
    """Brings things to this site.

    Args:
        sites: to ask.
        data: the gateway's directory; partial images go to `partial` in it, the ledger to `ledger.db`.
        conflicts: where disagreements are noted; without it, in memory.
        limited: sites whose administrators are none here (`trust: local-admin`).
        durable: whether the ledger survives a loss of power.

    Attributes:
        images: brings images.
        loans: follows what other sites granted on this site's word.
        moves: moves ports.
        policies: says where RBAC policies belong, and whether they may go.
    """

    def __init__(
        self, sites: Sites, data: Path, conflicts: Conflicts | None = None, limited: Collection[str] = (), *, durable: bool = True
    ) -> None:
        self._ledger = Ledger(data / "ledger.db", durable=durable)
        self._conflicts = conflicts or Conflicts()
        self.images = Images(sites, data / "partial", ledger=self._ledger, conflicts=self._conflicts)
        holders = self.images.holders
        defaults = Defaults(sites, self._ledger, holders, self._conflicts, limited)
        self._means = Means(holders, Grants(sites, self._ledger, holders), self._ledger, defaults)
        self.moves = Moves(sites, self._ledger, holders)
        self.loans = Loans(sites, self._ledger, holders)
        self.policies = Policies(sites, self._ledger, holders)
        self._sites = sites
        self._chunks = Chunks(sites)
        self._projects: Recent[str, str] = Recent(REMEMBERED)
        self._bringing: dict[tuple[Reference, str], _Bringing] = {}
        self._locks: WeakValueDictionary[Reference, asyncio.Lock] = WeakValueDictionary()

    def attach(self, application: web.Application) -> None:
        """Add what other gateways ask of this one to the application of the peer port."""
        self._chunks.attach(application)
        self._means.holders.attach(application)
        self._means.grants.attach(application)
        self.policies.attach(application)
        sight.attach(application, self._sites)

    async def stop(self) -> None:
        """Leave images that are on their way for the next start."""
        await self.images.stop()

    def close(self) -> None:
        """Close the ledger; nothing is asked of this any more."""
        self._ledger.close()

    def status(self) -> dict[str, Any]:
        """What is on its way, for JSON."""
        return {"images": self.images.status()}

    async def ahead(self, call: Call) -> Undo | None:
        """Bring what a service would do without, rather than refuse the request.

        Args:
            call: a request that has not been sent yet.

        Returns:
            What takes it away again; None: nothing was brought.

        Raises:
            Refusal: something is at another site and can't be brought.
            Unreachable: a service of this site does not answer.
        """
        if call.user == "":
            return None  # no site has signed the token: nothing is looked for, and the service refuses it
        fields = mentions.looks_ahead(call)
        asker = Asker(self._sites, call.token, call.request_id)
        undo: list[Undo] = []
        try:
            if any(field.kind == kinds.SECURITY_GROUP for field in mentions.fields_of(call)):
                undo += await self._default_group(asker, call)
            if any(field.kind == kinds.NETWORK and field.implied for field in fields) and unnamed.names_none(call):
                project = await self._project(asker)
                network = await unnamed.only_network(asker, project) if project else None
                undo += await self._bring_mentions(asker, call, [kinds.Mention(network, fields[0])] if network else [])
            named = [each for each in mentions.mentions(call) if each.field.ahead] if fields else []
            undo += await self._bring_mentions(asker, call, await self._lacking(asker, named))
        except BaseException:
            await _undo_all(undo)
            raise
        return partial(_undo_all, undo) if undo else None

    async def after(self, call: Call) -> Undo | None:
        """Bring what a request that was refused refers to and this site lacks.

        Args:
            call: the request.

        Returns:
            What takes it away again; None: nothing was brought, so that the refusal stands.

        Raises:
            Elsewhere: the request belongs to another site.
            Refusal: something is at another site and can't be brought.
            Unreachable: a service of this site does not answer.
        """
        lacking = await self.missing(call)
        if not lacking:
            return None
        LOG.info("%s: %s %s needs %s", call.request_id, call.method, call.path, ", ".join(str(each.reference) for each in lacking))
        undo = await self._bring_mentions(Asker(self._sites, call.token, call.request_id), call, lacking)
        return partial(_undo_all, undo) if undo else None

    async def everywhere(self, call: Call) -> None:
        """Make sure that a change of something that several sites hold is possible at all of them.

        Args:
            call: the change, which each of those sites is to carry out.

        Raises:
            Refusal: one of them lacks what the request refers to.
        """
        named = [mention for mention in mentions.mentions(call) if mention.field.action is kinds.Action.REFUSE]
        if not named:
            return
        _check_number(named)
        asker = Asker(self._sites, call.token, call.request_id)
        sites = [self._sites.here, *self._sites.reachable()]
        shown = await asyncio.gather(*(asker.shows_path(site, call.service, call.path) for site in sites))
        holders = [site for site, seen in zip(sites, shown, strict=True) if seen]
        for mention in named:
            seen = await asyncio.gather(*(asker.shows(site, mention.reference) for site in holders))
            if any(seen) and not all(seen):
                lacking, having = holders[seen.index(False)], holders[seen.index(True)]
                raise Refusal(f"{mention.reference} is at {having} and not at {lacking}, which has a copy of what is to be changed")

    async def missing(self, call: Call) -> list[Mention]:
        """Return what a request refers to and this site does not show to its user.

        Raises:
            Refusal: it refers to too many things.
        """
        asker = Asker(self._sites, call.token, call.request_id)
        try:
            return await self._lacking(asker, mentions.mentions(call))
        except Unreachable as error:
            LOG.warning("%s: what it refers to can't be looked at: %s", call.request_id, error)
            return []

    async def _lacking(self, asker: Asker, named: Sequence[Mention]) -> list[Mention]:
        """Those that this site lacks, and what those of them that it has refer to and it lacks: the kernel of an image.

        Raises:
            Refusal: there are too many.
            Unreachable: a service of this site does not answer.
        """
        _check_number(named)
        there = await asyncio.gather(*(asker.look(self._sites.here, mention.reference) for mention in named))
        inner = [each for mention, seen in zip(named, there, strict=True) if seen is not None for each in _parts(mention.reference, seen)]
        seen_inner = await asyncio.gather(*(asker.look(self._sites.here, mention.reference) for mention in inner))
        lacking = [*zip(named, there, strict=True), *zip(inner, seen_inner, strict=True)]
        return list({mention.reference: mention for mention, seen in lacking if seen is None}.values())

    async def _default_group(self, asker: Asker, call: Call) -> list[Undo]:
        """Give the project's group `default` the rules that it has elsewhere, if the request is about to use it."""
        project = await self._project(asker)
        if not project or self._means.defaults.known(project) or not mentions.involves_default(call, default_group(project)):
            return []
        made = Made(asker)
        try:
            await self._means.defaults.adopt(project, asker, made, self._means, mentions.given_ids(call))
        except Failed as error:
            await made.undo()
            raise _refusal(error, f"security group default of project {project}", self._sites.here, "another site") from error
        return [made.undo]

    async def _project(self, asker: Asker) -> str:
        """The id of the user's project; empty if the token is of none."""
        key = hashlib.sha256(asker.token.encode()).hexdigest()
        project = self._projects.get(key)
        if project is None:
            try:
                project = await asker.project()
            except Failed:
                return ""
            self._projects.put(key, project)
        return project

    async def _bring_mentions(self, asker: Asker, call: Call, lacking: Sequence[Mention]) -> list[Undo]:
        """Bring what may be brought; nothing, if something is nowhere, so that it is the service that says so.

        Raises:
            Elsewhere: the request belongs to another site.
            Refusal: something is at another site and can't be brought.
        """
        doubtful = [mention for mention in lacking if may_stay(mention)]
        found = await self._elsewhere(asker, [each.reference for each in doubtful])
        staying = [(mention, sites) for mention, sites in zip(doubtful, found, strict=True) if stays(mention, sites)]
        for mention, sites in staying:
            if sites:
                leads = mention.field.leads and call.method == "POST" and not await self._tied(asker, call)
                raise (Elsewhere if leads else Refusal)(sentence(mention, sites[0], self._sites.here))
        if staying:
            return []
        undo = await self.bring([mention.reference for mention in lacking], asker.token, asker.request_id) if lacking else None
        return [undo] if undo is not None else []

    async def _tied(self, asker: Asker, call: Call) -> bool:
        """Return whether this site has something that keeps the request here."""
        leading = [each.reference for each in mentions.mentions(call) if each.field.leads and each.field.action is kinds.Action.REFUSE]
        here = await asyncio.gather(*(asker.look(self._sites.here, reference) for reference in leading))
        return any(each is not None for each in here)

    async def bring(self, wanted: Sequence[Reference], token: str, request_id: str | None = None) -> Undo | None:
        """Bring things from the nearest site that shows them to the user: all, or none.

        Args:
            wanted: what this site lacks.
            token: of the user.
            request_id: of the user's request.

        Returns:
            What takes them away again, for when the request fails all the same. Images stay, since Glance never takes an id twice, and
            so do ports that have moved.
            None: nothing was brought, for something is nowhere.

        Raises:
            Refusal: something is at another site and can't be brought; or no site that can be reached has it, and others may.
        """
        asker = Asker(self._sites, token, valid_request_id(request_id))
        pairs = await self._places(asker, wanted)
        if pairs is None:
            return None
        joined: list[tuple[tuple[Reference, str], _Bringing]] = []

        async def undo() -> None:
            while joined:
                await self._give_up(*joined.pop())

        # Ports when their networks are there; images when all else is: they take longest, and the rest can still go wrong.
        for phase in sorted({_phase(reference) for reference, _found in pairs}):
            some = [pair for pair in pairs if _phase(pair[0]) == phase]
            bringings = await asyncio.gather(*(self._join(asker, reference, found) for reference, found in some))
            joined += [((reference, token), bringing) for (reference, _), bringing in zip(some, bringings, strict=True)]
            outcomes = await asyncio.gather(*(asyncio.shield(bringing.task) for bringing in bringings), return_exceptions=True)
            for (reference, found), outcome in zip(some, outcomes, strict=True):
                if outcome is not None:
                    await undo()
                    LOG.warning("%s: %s could not be brought: %s", asker.request_id, reference, outcome)
                    raise _refusal(outcome, str(reference), self._sites.here, found[0].site) from outcome
                LOG.info("%s: %s brought from %s", asker.request_id, reference, found[0].site)
        return undo

    async def _places(self, asker: Asker, wanted: Sequence[Reference]) -> list[tuple[Reference, list[Found]]] | None:
        """Where things are, and what they refer to and this site lacks too, which comes first; None if something is nowhere.

        Raises:
            Refusal: something refers to what can't be brought; or no site that can be reached has it, and others may.
        """
        pairs: dict[Reference, list[Found]] = {}
        todo = list(wanted)
        while todo:
            places = await self._elsewhere(asker, todo)
            found = dict(zip(todo, places, strict=True))
            if nowhere := [reference for reference, sites in found.items() if not sites]:
                self._check_away(nowhere)
                LOG.info("%s: no site that can be reached has %s", asker.request_id, ", ".join(map(str, nowhere)))
                return None
            pairs |= found
            parts: dict[Reference, Mention] = {}
            for reference, sites in found.items():
                parts |= {part.reference: part for part in _parts(reference, sites[0].body)}
                if reference.kind == kinds.PORT:
                    await asker.check(reference.kind, sites[0].body, sites[0].site)
                    await self.moves.check(asker, sites[0])
            brought = [each for each in parts.values() if each.field.action is kinds.Action.BRING and each.reference not in pairs]
            todo = [mention.reference for mention in await self._lacking(asker, brought) if mention.reference not in pairs]
        return [*reversed(pairs.items())]

    async def _elsewhere(self, asker: Asker, wanted: Sequence[Reference]) -> list[list[Found]]:
        return list(await asyncio.gather(*(asker.elsewhere(reference) for reference in wanted)))

    def _check_away(self, nowhere: Sequence[Reference]) -> None:
        """Raises Refusal if a site that can't be reached may have something: nobody knows then whether it is nowhere."""
        away = sorted(set(self._sites.others()) - set(self._sites.reachable()))
        if away and any(is_uuid(reference.id.lower()) for reference in nowhere):
            raise Refusal(f"{nowhere[0]} is at no site that can be reached", 503, away)

    async def _join(self, asker: Asker, reference: Reference, found: list[Found]) -> _Bringing:
        key = reference, asker.token
        bringing = self._bringing.get(key)
        # It may have been brought, and been deleted since.
        if bringing is not None and bringing.task.done() and await asker.look(self._sites.here, reference) is None:
            self._bringing.pop(key, None)
        bringing = self._bringing.get(key)
        if bringing is None:
            loop = asyncio.get_running_loop()
            made = Made(asker)
            bringing = self._bringing[key] = _Bringing(loop.create_task(self._bring(asker, reference, found, made)), made)
            bringing.task.add_done_callback(lambda _: loop.call_later(JOIN_S, self._forget, key, bringing))
        bringing.wanted += 1
        return bringing

    def _forget(self, key: tuple[Reference, str], bringing: _Bringing) -> None:
        if self._bringing.get(key) is bringing:
            del self._bringing[key]

    async def _give_up(self, key: tuple[Reference, str], bringing: _Bringing) -> None:
        """A request has failed: once all that wanted something have, it is taken away."""
        bringing.given_up += 1
        if bringing.given_up == bringing.wanted:
            self._forget(key, bringing)
            await bringing.made.undo()

    async def _bring(self, asker: Asker, reference: Reference, found: list[Found], made: Made) -> None:
        async with self._locks.setdefault(_whole(reference, found), asyncio.Lock()):
            if await asker.look(self._sites.here, reference) is not None:
                return  # for another user
            self._agree(reference, found)
            if reference.kind == kinds.IMAGE:
                await self._bring_image(asker, reference)
            elif reference.kind == kinds.PORT:
                await self.moves.move(asker, found[0])
            else:
                await _MAKERS[reference.kind](asker, found[0], made, self._means)

    def _agree(self, reference: Reference, found: list[Found]) -> None:
        """Make sure that all that the user sees under the id or name is the same.

        Nova takes names of security groups, which several may have: of them the nearest site's count.
        """
        if reference.kind == kinds.SECURITY_GROUP:
            return
        try:
            agree(reference.kind, reference.id, {each.site: each.body for each in found})
        except Disagreement as error:
            self._conflicts.note(reference.kind, reference.id, error.sites, str(error))
            raise

    async def _bring_image(self, asker: Asker, reference: Reference) -> None:
        _here, elsewhere = await self._means.holders.agreed(kinds.IMAGE, reference.id, await asker.project())
        await self.images.pull(reference.id, {each.site: each.body for each in elsewhere})
        await self._means.grants.ensure(asker, reference, elsewhere)


def _check_number(named: Sequence[Mention]) -> None:
    """Raises Refusal if a request refers to too many things."""
    if len(named) > MOST_REFERENCES:
        raise Refusal(f"one request may refer to {MOST_REFERENCES} things, and this one refers to {len(named)}", 400)


def _parts(reference: Reference, body: Any) -> list[Mention]:
    """Return the references of an image or a port that is to be used."""
    return kinds.named_by(reference.kind, body) if reference.kind in {kinds.IMAGE, kinds.PORT} else []


def _whole(reference: Reference, found: Sequence[Found]) -> Reference:
    """Return the whole that one request at a time makes: of a subnet, its network."""
    if reference.kind == kinds.SUBNET:
        return Reference(kinds.NETWORK, str(found[0].body["network_id"]))
    return reference


def _phase(reference: Reference) -> int:
    return {kinds.PORT: 1, kinds.IMAGE: 2}.get(reference.kind, 0)


def _refusal(error: BaseException, what: str, here: str, site: str) -> BaseException:
    """The refusal of a request for which something could not be brought; any other error as it is."""
    if isinstance(error, Refusal):
        return error
    start = f"{what} is at {site} and can't be brought to {here}"
    if isinstance(error, Disagreement):
        return Refusal(f"{start}: sites hold different things under this id, which their operators are told")
    if isinstance(error, Unreachable):
        return Refusal(f"{start}: {error}", 503)
    if isinstance(error, Failed | PullFailed | OSError | ValueError):
        return Refusal(f"{start}: {error}")
    return error


async def _undo_all(undo: list[Undo]) -> None:
    while undo:
        await undo.pop()()
