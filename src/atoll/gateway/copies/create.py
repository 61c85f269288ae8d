"""Creates something at the sites that a scope names: at all sites of one choice, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from atoll.gateway import faults
from atoll.gateway.answers import GONE, words
from atoll.gateway.copies.draft import Draft, draft, of_user
from atoll.gateway.copies.intents import Intents
from atoll.gateway.copies.operation import Operation
from atoll.gateway.copies.pending import Pending
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.requester import Requester, Requesters
from atoll.gateway.resolve.routes import Resource
from atoll.gateway.sites import Sites

_HOPELESS = (400, 401)
"""Refusals that every site would repeat: the request itself is wrong, or the user is not known."""

CreateAt = Callable[[str, Call], Awaitable[Reply]]
"""Creates something at one site, which brings along what it lacks; raises Unreachable."""

Tie = Callable[[Draft, Mapping[str, str]], None]
"""Notes that what was created at several sites, and has there these ids, belongs together."""


class Creator:
    """Creates at several sites.

    Args:
        sites: to ask.
        pending: for what could not be undone.
        create_at: see `CreateAt`.
        tie: see `Tie`.
        requesters: finds out who asks.
    """

    def __init__(self, sites: Sites, pending: Pending, create_at: CreateAt, tie: Tie, requesters: Requesters) -> None:
        self._sites = sites
        self._requesters = requesters
        self._pending = pending
        self._create_at = create_at
        self._tie = tie

    async def create(self, call: Call, resource: Resource, choices: Sequence[Sequence[str]], later: Sequence[str] = ()) -> Reply:
        """Create something at all sites of the first of several choices where that works.

        Args:
            call: the client's POST.
            resource: what is created.
            choices: of `scope.Plan`.
            later: sites that can't be reached now, and shall have it too when they can: of a resource that can be given an id.

        Returns:
            The answer of the choice's first site. If no choice works, the first that was given, or 503 if there was none.
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
                reply = await self._create_together(made, choice, later, requester)
            except Unreachable as error:
                cut[error.site] = None
                if error.sent and not made.traceable:
                    break  # it may have been created there, and could not be found to be deleted
                continue
            if reply.ok or reply.status in _HOPELESS:
                return reply
            refusal = refusal or reply
        return refusal or faults.unreachable(call.service, cut, self._sites.here)

    async def _create_together(self, made: Draft, choice: Sequence[str], later: Sequence[str], requester: Requester | None) -> Reply:
        """Create at all sites of a choice, or at none.

        Raises:
            Unreachable: a site did not answer.
        """
        there = {self._sites.here, *self._sites.reachable()}
        for site in choice:
            if site not in there:
                raise Unreachable(site, "the mesh can't reach it", sent=False)
        with Intents(self._pending) as intents:
            try:
                done = await self._create_at_all(made, choice, intents, requester)
            except _Failed as failed:
                await asyncio.gather(*(self._undo(site, delete, intents, requester) for site, delete in failed.done.items()))
                if isinstance(failed.outcome, Unreachable):
                    raise failed.outcome from None
                return failed.outcome
            if len(choice) > 1:
                self._tie(made, {site: made.id_in(done[site]) for site in choice})
            if later:
                copy = made.for_others(done[choice[0]]).copy(made.id_in(done[choice[0]]), requester)
                self._pending.add(replace(copy, site=site) for site in later)
            intents.settle(*choice)
        return replace(done[choice[0]], site=",".join(choice))

    async def _create_at_all(self, made: Draft, choice: Sequence[str], intents: Intents, requester: Requester | None) -> dict[str, Reply]:
        """Create at all sites of a choice.

        Raises:
            _Failed: a site has not done it.
        """
        # The first alone: if it refuses, which the others would do too, there is nothing to be undone.
        first, *others = choice
        intents.keep(made.removals([first], requester))
        outcome = await self._create(made, first, intents)
        if isinstance(outcome, Unreachable) or not outcome.ok:
            raise _Failed(outcome, {})
        done = {first: outcome}
        if not others:
            return done
        made = made.for_others(outcome)
        intents.keep(made.removals(choice, requester))
        outcomes = dict(zip(others, await asyncio.gather(*(self._create(made, site, intents) for site in others)), strict=True))
        done |= {site: each for site, each in outcomes.items() if isinstance(each, Reply) and each.ok}
        failure = next((each for site, each in outcomes.items() if site not in done), None)
        if failure is not None:
            raise _Failed(failure, {site: made.deletion(reply) for site, reply in done.items()})
        return done

    async def _create(self, made: Draft, site: str, intents: Intents) -> Reply | Unreachable:
        """Create at one site, and note what is to be undone if that fails."""
        outcome: Reply | Unreachable
        try:
            outcome = await self._create_at(site, made.call)
        except Unreachable as error:
            outcome, unsure, why = error, error.sent, error.why
        else:
            unsure, why = outcome.status >= 500, f"HTTP {outcome.status}"
        if unsure:
            intents.leave(site, f"may have been created: {why}")
        elif isinstance(outcome, Unreachable) or not outcome.ok:
            intents.settle(site)
        return outcome

    async def _undo(self, site: str, delete: Call, intents: Intents, requester: Requester | None) -> None:
        try:
            reply = await self._sites.send(site, delete)
        except Unreachable as error:
            why = error.why
        else:
            if reply.ok or reply.status in GONE:
                intents.settle(site)
                return
            why = f"HTTP {reply.status}: {words(reply)}"
        intents.keep({site: Operation.of(site, of_user(delete, requester), why, requester)})
        intents.leave(site, f"could not be undone: {why}")


class _Failed(Exception):  # noqa: N818 - what happened elsewhere, not an error of ours
    """Something could not be created at all sites.

    Args:
        outcome: what a site said, or that it did not answer.
        done: where it was created, and how it is deleted there.
    """

    def __init__(self, outcome: Reply | Unreachable, done: Mapping[str, Call]) -> None:
        super().__init__()
        self.outcome = outcome
        self.done = done
