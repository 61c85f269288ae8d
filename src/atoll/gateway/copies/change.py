"""Changes and deletes what several sites have a copy of: all copies, or none.

First all sites are asked at once whether they have a copy, what it is like, and, before a deletion, whether it is in use there. Then one of
them carries the request out, alone: what it refuses, nobody does. Then the others do, at once. A site that can't be reached does it later
(`pending`). If one of the others refuses all the same, the copies that were changed are changed back; where that can't be, as after a
deletion, the answer says so and `atoll conflicts` shows it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from atoll.gateway import faults
from atoll.gateway.answers import GONE, words
from atoll.gateway.copies import conditions, ownership
from atoll.gateway.copies.accepts import Refusal, question
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.draft import of_user
from atoll.gateway.copies.intents import Intents
from atoll.gateway.copies.operation import Operation, resource_of, whose
from atoll.gateway.copies.pending import Pending
from atoll.gateway.request.call import Call, Reply, Unreachable, json_reply
from atoll.gateway.request.headers import ACCEPTS, REFUSAL
from atoll.gateway.request.requester import Requester, Requesters
from atoll.gateway.sites import Sites, Upstream

LOG = logging.getLogger(__name__)

Outcome = Reply | Unreachable


@dataclass
class _Change:
    """One request under way.

    Attributes:
        calls: what each site is asked, nearest first.
        requester: who asks; `None` if Keystone does not say.
        seen: what each site answered when it was asked for its copy.
        items: the copies.
        outcomes: what each site answered to the request itself.
    """

    calls: Mapping[str, Call]
    requester: Requester | None
    seen: Mapping[str, Outcome] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def first(self) -> Call:
        """The nearest site's call, for what all have in common."""
        return next(iter(self.calls.values()))

    @property
    def is_whole(self) -> bool:
        """Whether the request is about the resource itself, and not about something below it."""
        return _is_whole(self.first.path)

    def away(self) -> dict[str, str]:
        """The sites that may have a copy and could not be asked, each with the reason."""
        return {site: why for site, outcome in self.seen.items() if (why := _why_later(outcome)) is not None}

    def done(self) -> list[str]:
        """The sites that have carried it out."""
        return [site for site, outcome in self.outcomes.items() if isinstance(outcome, Reply) and outcome.ok]


class Changes:
    """Carries out changes of copies.

    Args:
        sites: to ask.
        pending: for what can't be done now.
        requesters: finds out who asks.
        conflicts: where it is noted that copies differ.

    Attributes:
        local: has this site's own services answer; by default without bringing what a request refers to.
        may_block: tells whether a site (the first argument) that says that a thing of a project (the second) is in use there keeps the
            other sites from changing it; by default, each site does.
    """

    def __init__(self, sites: Sites, pending: Pending, requesters: Requesters, conflicts: Conflicts) -> None:
        self._sites = sites
        self.local: Callable[[Call], Awaitable[Reply | Upstream]] = partial(sites.open, sites.here)
        self.may_block: Callable[[str, str], bool] = lambda _site, _project: True
        self._pending = pending
        self._requesters = requesters
        self._conflicts = conflicts

    async def carry_out(self, calls: Mapping[str, Call], scope: Collection[str] | None = None) -> Reply:
        """Have all sites that have a copy do the same.

        Args:
            calls: what each site that may have a copy is asked, nearest first; the bodies can be sent more than once.
            scope: the sites that the client named, which must be all that have a copy: copies of one thing don't become different.

        Returns:
            The answer of the nearest site that did it. If none did, that of the site that refused; 503 if a site that could not be asked
            might have a copy; else 404.

        Raises:
            Unreachable: there is one site, and it does not answer.
        """
        if len(calls) == 1:
            ((site, call),) = calls.items()
            return await self._sites.send(site, call)
        change = _Change(calls, await self._requesters.of(next(iter(calls.values()))))
        change.seen = dict(zip(calls, await asyncio.gather(*(self._look(site, call) for site, call in calls.items())), strict=True))
        change.items = {site: item for site, outcome in change.seen.items() if (item := _item(outcome)) is not None}
        if not _candidates(change) and not change.away():
            return await self._unseen(change)
        refusal = self._outside(change, scope) or self._refusal(change)
        return refusal if refusal is not None else await self._apply(change)

    async def _unseen(self, change: _Change) -> Reply:
        """Ask the nearest service about something that no site shows to the client: it may refuse the request before it looks."""
        site, call = next(iter(change.calls.items()))
        outcome = await self._ask(site, call)
        return outcome if isinstance(outcome, Reply) else faults.unreachable(call.service, [site], self._sites.here)

    def _outside(self, change: _Change, scope: Collection[str] | None) -> Reply | None:
        """The answer to a change of something that a scope leaves out, whole or in part."""
        call, holders = change.first, list(change.items)
        if scope is None or set(holders) <= set(scope):
            return None
        if set(holders).isdisjoint(scope):
            named = [outcome for site, outcome in change.seen.items() if site in scope]
            shown = next((outcome for outcome in named if isinstance(outcome, Reply)), None)
            return shown if shown is not None else faults.unreachable(call.service, scope, self._sites.here)
        where = f"{resource_of(call.path).rpartition('/')[2]} has copies at {' and '.join(holders)}, which are changed together"
        return faults.fault(call.service, 409, f"{where}: name all of these sites in the scope, or send no scope", self._sites.here)

    async def _look(self, site: str, call: Call) -> Outcome:
        """Ask a site for its copy, as the client sees it; and whether a use of it there keeps it from being changed."""
        if self._pending.waits(site, call):
            return Unreachable(site, "something else about it has to be done first", sent=False)
        path = resource_of(call.path)
        look = call.look(path, whose(call.query))
        look.headers.popall(conditions.IF_MATCH, None)
        look.headers[ACCEPTS] = question(call)
        return await self._ask(site, look)

    def _refusal(self, change: _Change) -> Reply | None:
        """What is answered without anything being changed; `None` if the change can be tried."""
        call, away = change.first, change.away()
        candidates = _candidates(change)
        if not candidates:
            return faults.unreachable(call.service, away, self._sites.here)
        wanted = conditions.wanted_revision(call)
        if wanted is not None and change.items:
            current = conditions.revision(change.items[conditions.shown(change.items, self._sites.here)])
            if current is not None and current != wanted:
                return _failed_condition(wanted, current, self._sites.here)
        # Whoever may not delete it learns that from the service, and not who uses it.
        if not self._may(change):
            return None
        for site in candidates:
            outcome = change.seen[site]
            if isinstance(outcome, Reply) and REFUSAL in outcome.headers and self._blocks(change, site):
                refusal = Refusal.load(outcome.headers[REFUSAL])
                body = {"NeutronError": {"type": refusal.error, "message": refusal.message, "detail": ""}}
                return json_reply(409, body, site)
        return None

    @staticmethod
    def _may(change: _Change) -> bool:
        """Whether the requester may delete the resource: its owner, or an administrator."""
        requester = change.requester
        if requester is None or requester.is_admin:
            return requester is not None
        return all(item.get("project_id") == requester.project for item in change.items.values())

    def _blocks(self, change: _Change, site: str) -> bool:
        """True if a site's refusal keeps the others from doing what is asked for, by what they say of the thing's owner."""
        others = [item for other, item in change.items.items() if other != site]
        owner = next((str(item.get("owner") or item.get("project_id") or "") for item in others), None)
        return owner is None or self.may_block(site, owner)

    async def _apply(self, change: _Change) -> Reply:
        with Intents(self._pending) as intents:
            candidates = sorted(_candidates(change), key=lambda site: not self._blocks(change, site))
            refused = await self._begin(change, candidates, intents)
            if refused is not None:
                return refused
            rest = [site for site in candidates if site not in change.outcomes]
            asked = await asyncio.gather(*(self._ask(site, self._conditional(change, site)) for site in rest))
            change.outcomes |= dict(zip(rest, asked, strict=True))
            return await self._end(change, intents)

    async def _begin(self, change: _Change, candidates: Sequence[str], intents: Intents) -> Reply | None:
        """Have one site do it; what has to be done elsewhere is on disk then, whatever becomes of this process.

        Returns:
            The answer if no site does it.
        """
        for site in self._in_order(change, candidates):
            change.outcomes[site] = outcome = await self._ask(site, self._conditional(change, site))
            if isinstance(outcome, Reply) and outcome.ok:
                intents.settle(site)
                others = {other for other in change.calls if other != site and (other in candidates or other in change.away())}
                intents.keep({other: [self._operation(change, other)] for other in change.calls if other in others})
                for other, why in change.away().items():
                    intents.leave(other, why)
                return None
            if _why_later(outcome) is None and outcome.status not in GONE:  # type: ignore[union-attr]
                return outcome if isinstance(outcome, Reply) else None
        return self._nobody(change)

    def _in_order(self, change: _Change, candidates: Sequence[str]) -> Sequence[str]:
        if conditions.wanted_revision(change.first) is None or not change.items:
            return candidates
        first = conditions.oldest(change.items)
        return [first, *(site for site in candidates if site != first)]

    def _conditional(self, change: _Change, site: str) -> Call:
        call = change.calls[site]
        if conditions.wanted_revision(call) is None or site not in change.items:
            return call
        return conditions.conditional(call, change.items[site])

    async def _ask(self, site: str, call: Call) -> Outcome:
        try:
            if site != self._sites.here:
                return await self._sites.send(site, call)
            answer = await self.local(call)
            return answer if isinstance(answer, Reply) else await answer.read()
        except Unreachable as error:
            return error

    def _operation(self, change: _Change, site: str) -> Operation:
        """What a site has to do later. A condition becomes one on the values that are changed: its numbers are its own."""
        call, requester = change.calls[site], change.requester
        known = change.items.get(site) or next(iter(change.items.values()), {})
        before = _before(call, known) if conditions.wanted_revision(call) is not None else {}
        return replace(Operation.of(site, of_user(call, requester), "asked", requester), identity=self._meant(change), before=before)

    @staticmethod
    def _meant(change: _Change) -> Mapping[str, str]:
        """What identifies the resource."""
        site = next(iter(change.items), None)
        reply = change.seen.get(site) if site is not None else None
        return ownership.read(change.calls[site], reply) if site is not None and isinstance(reply, Reply) else {}

    async def _end(self, change: _Change, intents: Intents) -> Reply:
        """Settle what every site has answered."""
        done, refused = change.done(), {}
        for site, outcome in change.outcomes.items():
            why = _why_later(outcome)
            if why is not None:
                intents.leave(site, why)
                continue
            intents.settle(site)
            if isinstance(outcome, Reply) and not outcome.ok and outcome.status not in GONE:
                refused[site] = outcome
        if not refused:
            return self._done(change)
        blocking = [site for site in refused if self._blocks(change, site)]
        left = [site for site in done if not blocking or not await self._take_back(change, site)]
        if not left:
            intents.settle(*change.away())  # nothing has changed
        else:
            self._note(change, left, refused)
        return refused[blocking[0]] if blocking else self._done(change)

    def _done(self, change: _Change) -> Reply:
        """The answer of the nearest site that has done it, in the name of all that have."""
        order = [site for site in change.calls if site in change.done()]
        answer = change.outcomes[order[0]]
        assert isinstance(answer, Reply)
        return replace(answer, site=",".join(order), identity=self._meant(change))

    async def _take_back(self, change: _Change, site: str) -> bool:
        """Give a copy its old values; `False` if that can't be, or somebody has changed it since."""
        call, outcome, item = change.calls[site], change.outcomes[site], change.items.get(site)
        before = _before(call, item) if item is not None and call.method in {"PUT", "PATCH"} and change.is_whole else {}
        if not before or call.service != "network":
            return False
        name = next(iter(call.value))
        now = _item(outcome)
        back = call.with_(json={name: before})
        back.headers.popall(conditions.IF_MATCH, None)
        answer = await self._ask(site, conditions.conditional(back, now or {}))
        return isinstance(answer, Reply) and answer.ok

    def _note(self, change: _Change, done: Sequence[str], refused: Mapping[str, Reply]) -> None:
        call = change.first
        said = "; ".join(f"{site} refuses: {words(reply)}" for site, reply in refused.items())
        why = f"{call.method} {call.path} was carried out at {' and '.join(done)}, but {said}"
        identifier = resource_of(call.path).rpartition("/")[2]
        self._conflicts.note(f"{call.service} {call.method}", identifier, [*done, *refused], why)

    def _nobody(self, change: _Change) -> Reply:
        """The answer if no site has done it, and none has refused it."""
        away = [*change.away(), *(site for site, outcome in change.outcomes.items() if isinstance(outcome, Unreachable))]
        replies = [outcome for outcome in change.outcomes.values() if isinstance(outcome, Reply)]
        failed = next((reply for reply in replies if reply.status not in GONE), None)
        if failed is not None:
            return failed
        return faults.unreachable(change.first.service, away, self._sites.here) if away else replies[0]


def _candidates(change: _Change) -> list[str]:
    """The sites that have a copy, or don't let the client see whether they have one (an access rule may allow a change alone)."""
    return [site for site, outcome in change.seen.items() if _why_later(outcome) is None and outcome.status not in GONE]  # type: ignore[union-attr]


def _is_whole(path: str) -> bool:
    """Whether a path is that of a resource itself; services take it with a slash at its end too."""
    return path.rstrip("/") == resource_of(path)


def _why_later(outcome: Outcome) -> str | None:
    """Why a site has to do later what another did; `None` if it need not."""
    if isinstance(outcome, Unreachable):
        return outcome.why
    return f"HTTP {outcome.status}: {words(outcome)}" if outcome.status >= 500 else None


def _item(outcome: Outcome) -> Mapping[str, Any] | None:
    """The resource in an answer; Glance's stand alone, all others under their name."""
    if not isinstance(outcome, Reply) or not outcome.ok or not outcome.body:
        return None
    try:
        body = outcome.json()
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    inner = next(iter(body.values()), None)
    return inner if len(body) == 1 and isinstance(inner, dict) else body


def _before(call: Call, item: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a change replaces: of the fields that it names, those that the resource shows; nothing if it does not show all."""
    wanted = next(iter(call.value.values()), None) if isinstance(call.value, dict) else None
    if not isinstance(wanted, dict) or not all(name in item for name in wanted):
        return {}
    return {name: item[name] for name in wanted}


def _failed_condition(wanted: int, current: int, here: str) -> Reply:
    """As `neutron.services.revisions.revision_plugin.RevisionNumberConstraintFailed` is answered."""
    message = f"Constrained to {wanted}, but current revision is {current}"
    return json_reply(412, {"NeutronError": {"type": "HTTPPreconditionFailed", "message": message, "detail": ""}}, here)
