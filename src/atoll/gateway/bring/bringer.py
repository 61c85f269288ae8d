"""Brings what a request refers to, and takes it away again if the request fails all the same.

The request goes to this site's service first; only if it is refused, what it refers to is looked at: so what is here costs nothing.

Two things are asked of the other sites: of their services, with the user's token, what the user may see there; of their gateways, how they
hold the thing. Only what the user may see, and all that can be reached agree about, is brought.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import web

from atoll.gateway.bring import compute, network
from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.asking import Asker, Failed, Found
from atoll.gateway.bring.chunks import Chunks
from atoll.gateway.bring.grants import Grants
from atoll.gateway.bring.images import Images
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.loans import Loans
from atoll.gateway.bring.means import Means
from atoll.gateway.bring.policies import Policies
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.bring.references import Reference, references
from atoll.gateway.bring.things import Disagreement, agree
from atoll.gateway.bring.undo import Made
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import request_id as valid_request_id
from atoll.gateway.resolve import sight
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

Undo = Callable[[], Awaitable[None]]

JOIN_S = 60.0
"""A request that was refused before something was brought may come for it so many seconds after."""

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

    Attributes:
        images: brings images.
        loans: follows what other sites granted on this site's word.
        policies: says where RBAC policies belong, and whether they may go.
    """

    def __init__(self, sites: Sites, data: Path, conflicts: Conflicts | None = None) -> None:
        self._ledger = Ledger(data / "ledger.db")
        self._conflicts = conflicts or Conflicts()
        self.images = Images(sites, data / "partial", ledger=self._ledger, conflicts=self._conflicts)
        holders = self.images.holders
        self._means = Means(holders, Grants(sites, self._ledger, holders), self._ledger)
        self.loans = Loans(sites, self._ledger, holders)
        self.policies = Policies(sites, self._ledger, holders)
        self._sites = sites
        self._chunks = Chunks(sites)
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

    async def missing(self, call: Call) -> list[Reference]:
        """What a request that was refused refers to and this site does not show to its user."""
        asker = Asker(self._sites, call.token, call.request_id)
        named = references(call)
        try:
            there = await asyncio.gather(*(asker.look(self._sites.here, reference) for reference in named))
        except Unreachable as error:
            LOG.warning("%s: what it refers to can't be looked at: %s", call.request_id, error)
            return []
        return [reference for reference, seen in zip(named, there, strict=True) if seen is None]

    async def bring(self, wanted: Sequence[Reference], token: str, request_id: str | None = None) -> Undo | None:
        """Bring things from the nearest site that shows them to the user: all, or none.

        Args:
            wanted: of `missing`.
            token: of the user.
            request_id: of the user's request.

        Returns:
            What takes them away again, for when the request fails all the same; images stay, since Glance never takes an id twice.
            None: nothing was brought, for something is nowhere, or could not be brought.
        """
        asker = Asker(self._sites, token, valid_request_id(request_id))
        places = await asyncio.gather(*(asker.elsewhere(reference) for reference in wanted))
        nowhere = [str(reference) for reference, found in zip(wanted, places, strict=True) if not found]
        if nowhere:
            LOG.info("%s: no site that can be reached has %s", asker.request_id, ", ".join(nowhere))
            return None
        joined: list[tuple[tuple[Reference, str], _Bringing]] = []

        async def undo() -> None:
            while joined:
                await self._give_up(*joined.pop())

        pairs = list(zip(wanted, places, strict=True))
        # The images when all else is there: they take longest, and the rest can still go wrong.
        for images in (False, True):
            some = [pair for pair in pairs if (pair[0].kind == kinds.IMAGE) == images]
            bringings = await asyncio.gather(*(self._join(asker, reference, found) for reference, found in some))
            joined += [((reference, token), bringing) for (reference, _), bringing in zip(some, bringings, strict=True)]
            outcomes = await asyncio.gather(*(asyncio.shield(bringing.task) for bringing in bringings), return_exceptions=True)
            told = [_told(asker, *pair, outcome) for pair, outcome in zip(some, outcomes, strict=True)]
            if not all(told):
                await undo()
                return None
        return undo

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
        async with self._locks.setdefault(reference, asyncio.Lock()):
            if await asker.look(self._sites.here, reference) is not None:
                return  # for another user
            self._agree(reference, found)
            if reference.kind == kinds.IMAGE:
                await self._bring_image(asker, reference)
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


def _told(asker: Asker, reference: Reference, found: list[Found], outcome: BaseException | None) -> bool:
    """Whether it was brought; which goes into the log."""
    if outcome is None:
        LOG.info("%s: %s brought from %s", asker.request_id, reference, found[0].site)
        return True
    if not isinstance(outcome, Failed | PullFailed | Unreachable | OSError | ValueError):
        raise outcome
    LOG.warning("%s: %s could not be brought: %s", asker.request_id, reference, outcome)
    return False
