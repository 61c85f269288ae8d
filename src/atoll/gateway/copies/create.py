"""Creates resources at the sites that a scope names: at all sites of one of its choices, or at none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from atoll.gateway import faults
from atoll.gateway.answers import GONE, error_text
from atoll.gateway.copies.draft import Draft, draft, of_user
from atoll.gateway.copies.intents import Intents
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.pending_operation import PendingOperation
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.requester import Requester, Requesters
from atoll.gateway.resolve.routes import Resource
from atoll.gateway.sites import Sites

_HOPELESS = (400, 401)
"""Statuses of refusals that every site would repeat: the request is invalid, or the user is unknown."""

CreateAt = Callable[[str, Call, Resource], Awaitable[Reply]]
"""A function that creates a resource at one site, which first brings the resources that it lacks; raises `Unreachable`."""

Tie = Callable[[Draft, Mapping[str, str]], None]
"""A function that records that resources at several sites, given by their id at each site, are replicas of each other."""

Parts = Mapping[str, Sequence[int]]
"""For a request that creates several resources, by site: the indexes of those to create there. A site without an entry creates all."""


class Creator:
    """The creation of resources at several sites.

    Args:
        sites: sends requests to the sites.
        pending: keeps the deletions that could not be carried out.
        create_at: see `CreateAt`.
        tie: see `Tie`.
        requesters: finds out who makes a request.
    """

    def __init__(self, sites: Sites, pending: Pending, create_at: CreateAt, tie: Tie, requesters: Requesters) -> None:
        self._sites = sites
        self._requesters = requesters
        self._pending = pending
        self._create_at = create_at
        self._tie = tie

    async def create(
        self,
        call: Call,
        resource: Resource,
        choices: Sequence[Sequence[str]],
        later: Sequence[str] = (),
        parts: Parts = MappingProxyType({}),
    ) -> Reply:
        """Try several choices of sites in turn, until the resource could be created at all sites of a choice.

        Args:
            call: the client's POST.
            resource: the type of the resource.
            choices: the choices of sites, from `scope.Plan`.
            later: sites that can't be reached now and are to create the resource once they can be reached; only for a resource that can be
                given an id.
            parts: see `Parts`. The first site of a choice creates all resources.

        Returns:
            The answer of the choice's first site. If no choice succeeds, the first refusal, or 503 if there was none.
        """
        traced = len(choices) > 1 or len(choices[0]) > 1 or bool(later)
        requester = await self._requesters.of(call) if traced else None
        refusal: Reply | None = None
        cut: dict[str, None] = {}
        for choice in choices:
            try:
                made = draft(call, resource, several=len(choice) > 1 or bool(later), traced=traced)
            except ValueError as error:
                return faults.fault(call.service, 400, str(error), self._sites.here)
            try:
                reply = await self._create_together(_Together(made, choice, later, parts, requester))
            except Unreachable as error:
                cut[error.site] = None
                if error.sent and not made.traceable:
                    break  # the site may have created the resource, and the gateway could not find it to delete it
                continue
            if reply.ok or reply.status in _HOPELESS:
                return reply
            refusal = refusal or reply
        return refusal or faults.unreachable(call.service, cut, self._sites.here)

    async def _create_together(self, asked: _Together) -> Reply:
        """Create a resource at all sites of a choice, or at none.

        Raises:
            Unreachable: a site did not answer.
        """
        made, choice, requester = asked.made, asked.sites, asked.requester
        there = {self._sites.here, *self._sites.reachable()}
        for site in choice:
            if site not in there:
                raise Unreachable(site, "the mesh can't reach it", sent=False)
        with Intents(self._pending) as intents:
            try:
                done = await self._create_at_all(asked, intents)
            except _Failed as failed:
                await asyncio.gather(*(self._undo(site, deletions, intents, requester) for site, deletions in failed.done.items()))
                if isinstance(failed.outcome, Unreachable):
                    raise failed.outcome from None
                return failed.outcome
            if len(choice) > 1 and made.single:
                self._tie(made, {site: made.ids_in(done[site])[0] for site in choice})
            if asked.later:
                self._leave(asked, done[choice[0]])
            intents.settle(*choice)
        return replace(done[choice[0]], site=",".join(choice))

    def _leave(self, asked: _Together, first: Reply) -> None:
        """Record the creation at unreachable sites as pending operations."""
        for each in asked.made.for_others(first).one_by_one():
            copy = each.copy(each.ids[0], asked.requester)
            self._pending.add(replace(copy, site=site) for site in asked.later)

    async def _create_at_all(self, asked: _Together, intents: Intents) -> dict[str, Reply]:
        """Create a resource at all sites of a choice.

        Raises:
            _Failed: a site has not created it.
        """
        # The first site alone: if it refuses, the others would refuse too, and nothing has to be undone.
        made, requester = asked.made, asked.requester
        first, *others = asked.sites
        intents.keep(made.removals([first], requester))
        outcome = await self._create(made, first, intents)
        if isinstance(outcome, Unreachable) or not outcome.ok:
            raise _Failed(outcome, {})
        done = {first: outcome}
        if not others:
            return done
        made = made.for_others(outcome)
        drafts = {site: made.only(asked.parts[site]) if site in asked.parts else made for site in others}
        for site, each in {first: made, **drafts}.items():
            intents.keep(each.removals([site], requester))
        created = await asyncio.gather(*(self._create(drafts[site], site, intents) for site in others))
        outcomes = dict(zip(others, created, strict=True))
        done |= {site: each for site, each in outcomes.items() if isinstance(each, Reply) and each.ok}
        failure = next((each for site, each in outcomes.items() if site not in done), None)
        if failure is not None:
            raise _Failed(failure, {site: made.deletions(reply) for site, reply in done.items()})
        return done

    async def _create(self, made: Draft, site: str, intents: Intents) -> Reply | Unreachable:
        """Create a resource at one site, and record the deletion that follows if another site fails."""
        outcome: Reply | Unreachable
        try:
            outcome = await self._create_at(site, made.call, made.resource)
        except Unreachable as error:
            outcome, unsure, why = error, error.sent, error.why
        else:
            unsure, why = outcome.status >= 500, f"HTTP {outcome.status}"
        if unsure:
            intents.leave(site, f"the resource may have been created: {why}")
        elif isinstance(outcome, Unreachable) or not outcome.ok:
            intents.settle(site)
        return outcome

    async def _undo(self, site: str, deletions: Sequence[Call], intents: Intents, requester: Requester | None) -> None:
        """Delete the resources created at a site; record a pending operation for each that can't be deleted now."""
        left: list[tuple[Call, str]] = []
        for delete in deletions:
            try:
                reply = await self._sites.send(site, delete)
            except Unreachable as error:
                left.append((delete, error.why))
            else:
                if not reply.ok and reply.status not in GONE:
                    left.append((delete, f"HTTP {reply.status}: {error_text(reply)}"))
        if not left:
            intents.settle(site)
            return
        intents.keep({site: [PendingOperation.of(site, of_user(delete, requester), why, requester) for delete, why in left]})
        intents.leave(site, f"the creation could not be undone: {left[0][1]}")


@dataclass(frozen=True)
class _Together:
    """A creation at several sites at the same time.

    Attributes:
        made: the prepared creation of the resource.
        sites: the sites; the first is asked first.
        later: see `Creator.create`.
        parts: see `Parts`.
        requester: the user who made the request.
    """

    made: Draft
    sites: Sequence[str]
    later: Sequence[str]
    parts: Parts
    requester: Requester | None


class _Failed(Exception):
    """A resource could not be created at all sites.

    Args:
        outcome: the refusal of a site, or the error that it did not answer.
        done: the deletions of the resource at the sites that created it.
    """

    def __init__(self, outcome: Reply | Unreachable, done: Mapping[str, Sequence[Call]]) -> None:
        super().__init__()
        self.outcome = outcome
        self.done = done
