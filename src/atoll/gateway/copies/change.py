"""Changes and deletes resources of which several sites have a copy: all copies, or none.

First the gateway asks all sites at the same time for their copy and, before a deletion, whether the copy is in use. Then one site carries
out the request alone: if that site refuses, no site carries it out. Then the others carry it out at the same time. A site that can't be
reached carries it out later (`pending`). If one of the other sites refuses, although the first one did not, the changed copies get their
old values back. Where that is impossible, as after a deletion, the answer is the refusal, and `atoll conflicts` lists the resource.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from atoll.gateway import faults
from atoll.gateway.answers import GONE, error_text
from atoll.gateway.bring.trust import MemberTrust, SpeaksFor
from atoll.gateway.copies import conditions, ownership
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.draft import of_user
from atoll.gateway.copies.in_use import InUseRefusal, question
from atoll.gateway.copies.intents import Intents
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.pending_operation import PendingOperation, resource_of, whose
from atoll.gateway.request.call import Call, Reply, Unreachable, json_reply
from atoll.gateway.request.headers import ACCEPTS, MISSING, REFUSAL
from atoll.gateway.request.requester import Requester, Requesters
from atoll.gateway.sites import Sites, StreamedReply

LOG = logging.getLogger(__name__)

Outcome = Reply | Unreachable

AnswerHere = Callable[[Call], Awaitable[Reply | StreamedReply]]
"""Makes this site's own services answer a request."""


@dataclass(frozen=True)
class ChangeContext:
    """The parts of the gateway that a change of copies needs.

    Attributes:
        conflicts: records copies that differ.
        local: sends a request to this site's services; `None` sends it without bringing the resources that the request refers to.
        may_block: returns whether a site (first argument) that reports that a resource of a project (second argument) is in use can prevent
            the change at the other sites.
    """

    conflicts: Conflicts = field(default_factory=Conflicts)
    local: AnswerHere | None = None
    may_block: SpeaksFor = MemberTrust.speaks_for


@dataclass
class _Change:
    """A request that is under way.

    Attributes:
        calls: the request for each site, nearest first.
        requester: the user who made the request; `None` if Keystone does not confirm the token.
        seen: each site's answer when it was asked for its copy.
        items: the copies, by site.
        outcomes: each site's answer to the request itself.
    """

    calls: Mapping[str, Call]
    requester: Requester | None
    seen: Mapping[str, Outcome] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def first(self) -> Call:
        """The nearest site's call, from which the properties that all calls share are read."""
        return next(iter(self.calls.values()))

    @property
    def is_whole(self) -> bool:
        """True if the request is about the resource itself, and not about something below it."""
        return _is_whole(self.first.path)

    def away(self) -> dict[str, str]:
        """Return the sites that may have a copy and could not be asked, each with the reason."""
        return {site: why for site, outcome in self.seen.items() if (why := _why_later(outcome)) is not None}

    def keep_only(self, scope: Collection[str]) -> None:
        """Leave out all sites that are not in a scope."""
        self.calls = {site: call for site, call in self.calls.items() if site in scope}
        self.seen = {site: outcome for site, outcome in self.seen.items() if site in scope}

    def done(self) -> list[str]:
        """Return the sites that have carried the request out."""
        return [site for site, outcome in self.outcomes.items() if isinstance(outcome, Reply) and outcome.ok]


class Changes:
    """The changes of copies.

    Args:
        sites: sends requests to the sites.
        pending: keeps the operations that can't be carried out now.
        requesters: finds out who makes a request.
        context: see `ChangeContext`.
    """

    def __init__(self, sites: Sites, pending: Pending, requesters: Requesters, context: ChangeContext) -> None:
        self._sites = sites
        self._local = context.local or partial(sites.open, sites.here)
        self._may_block = context.may_block
        self._pending = pending
        self._requesters = requesters
        self._conflicts = context.conflicts

    async def carry_out(self, calls: Mapping[str, Call], scope: Collection[str] | None = None, recorded: Collection[str] = ()) -> Reply:
        """Have all sites that have a copy carry out the same request.

        A scope must name all sites that have a copy, since copies of one resource do not become different. A site outside the scope that
        can't be reached, or does not let the client see its copy, takes no part: it does not get the request, now or later.

        Args:
            calls: the request for each site that may have a copy, nearest first; the bodies can be sent more than once.
            scope: the sites that the client named; `None` if it named none.
            recorded: the sites that have a copy by the record of a replicated resource, whether or not they can be reached.

        Returns:
            The answer of the nearest site that carried the request out. If none did, the answer of the site that refused; 503 if a site
            that could not be asked might have a copy; else 404. `X-Atoll-Missing` names the sites outside the scope that could not be
            asked for a copy.

        Raises:
            Unreachable: there is one site, and it does not answer.
        """
        if len(calls) == 1:
            ((site, call),) = calls.items()
            return await (await self._sites.open(site, call)).read()  # a service may take its time, as for any other request of a client
        change = _Change(calls, await self._requesters.of(next(iter(calls.values()))))
        change.seen = dict(zip(calls, await asyncio.gather(*(self._look(site, call) for site, call in calls.items())), strict=True))
        change.items = {site: item for site, outcome in change.seen.items() if (item := _item(outcome)) is not None}
        if scope is None:
            return await self._among(change)
        outside = self._outside(change, scope, recorded)
        if outside is not None:
            return outside
        silent = [site for site in change.away() if site not in scope]
        change.keep_only(scope)
        reply = await self._among(change)
        if reply.ok and silent:
            reply.headers[MISSING] = ",".join(silent)
        return reply

    async def _among(self, change: _Change) -> Reply:
        """Carry a change out at its sites, after they have been asked for their copies."""
        if not _candidates(change) and not change.away():
            return await self._unseen(change)
        refusal = self._refusal(change)
        return refusal if refusal is not None else await self._apply(change)

    async def _unseen(self, change: _Change) -> Reply:
        """Send the request to the nearest site although no site shows the resource, so that the service itself gives the refusal."""
        site, call = next(iter(change.calls.items()))
        outcome = await self._ask(site, call)
        return outcome if isinstance(outcome, Reply) else faults.unreachable(call.service, [site], self._sites.here)

    def _outside(self, change: _Change, scope: Collection[str], recorded: Collection[str]) -> Reply | None:
        """Return the refusal of a change whose scope leaves out a site that has a copy; `None` if the scope leaves out none."""
        call = change.first
        name = resource_of(call.path).rpartition("/")[2]
        if not any(site in scope for site in change.calls):
            return faults.fault(call.service, 404, f"{name} is not at {' or '.join(scope)}", self._sites.here)
        # Only a client that sees one of the copies may learn of the record.
        holders = [site for site in change.calls if site in change.items or (change.items and site in recorded and _may_have(change, site))]
        if set(holders) <= set(scope):
            return None
        if set(holders).isdisjoint(scope):
            named = [outcome for site, outcome in change.seen.items() if site in scope]
            shown = next((outcome for outcome in named if isinstance(outcome, Reply)), None)
            return shown if shown is not None else faults.unreachable(call.service, scope, self._sites.here)
        where = f"{name} has copies at {' and '.join(holders)}, which are changed together"
        return faults.fault(call.service, 409, f"{where}: name all of these sites in the scope, or send no scope", self._sites.here)

    async def _look(self, site: str, call: Call) -> Outcome:
        """Ask a site for its copy as the client sees it, and whether a use of the copy there forbids the change."""
        if self._pending.waits(site, call):
            return Unreachable(site, "an earlier operation on the resource is still pending", sent=False)
        path = resource_of(call.path)
        look = call.look(path, whose(call.query))
        look.headers.popall(conditions.IF_MATCH, None)
        look.headers[ACCEPTS] = question(call)
        return await self._ask(site, look)

    def _refusal(self, change: _Change) -> Reply | None:
        """Return the answer if nothing may be changed; `None` if the change can be tried."""
        call, away = change.first, change.away()
        candidates = _candidates(change)
        if not candidates:
            return faults.unreachable(call.service, away, self._sites.here)
        wanted = conditions.wanted_revision(call)
        if wanted is not None and change.items:
            current = conditions.revision(change.items[conditions.shown(change.items, self._sites.here)])
            if current is not None and current != wanted:
                return _failed_condition(wanted, current, self._sites.here)
        # A client that may not delete the resource gets the service's refusal, and does not learn who uses it.
        if not self._may(change):
            return None
        for site in candidates:
            outcome = change.seen[site]
            if isinstance(outcome, Reply) and REFUSAL in outcome.headers and self._blocks(change, site):
                refusal = InUseRefusal.load(outcome.headers[REFUSAL])
                body = {"NeutronError": {"type": refusal.error, "message": refusal.message, "detail": ""}}
                return json_reply(409, body, site)
        return None

    @staticmethod
    def _may(change: _Change) -> bool:
        """Return whether the requester may delete the resource: as its owner or as an administrator."""
        requester = change.requester
        if requester is None or requester.is_admin:
            return requester is not None
        return all(item.get("project_id") == requester.project for item in change.items.values())

    def _blocks(self, change: _Change, site: str) -> bool:
        """Return whether a site's refusal prevents the change at the other sites: only if it may speak for the owner that they name."""
        others = [item for other, item in change.items.items() if other != site]
        owner = next((str(item.get("owner") or item.get("project_id") or "") for item in others), None)
        return owner is None or self._may_block(site, owner)

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
        """Have one site carry the request out, and write the operations of the other sites to disk, where they survive this process.

        Returns:
            The answer if no site carries the request out; else `None`.
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
            if isinstance(outcome, Reply) and _why_later(outcome) is None and outcome.status not in GONE:
                return outcome
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
            answer = await self._local(call)
            return answer if isinstance(answer, Reply) else await answer.read()
        except Unreachable as error:
            return error

    def _operation(self, change: _Change, site: str) -> PendingOperation:
        """Return the operation that a site carries out later.

        A condition on a revision number becomes a condition on the values that are changed, since each site has its own revision numbers.
        """
        call, requester = change.calls[site], change.requester
        known = change.items.get(site) or next(iter(change.items.values()), {})
        before = _before(call, known) if conditions.wanted_revision(call) is not None else {}
        return replace(
            PendingOperation.of(site, of_user(call, requester), "asked", requester), identity=self._identity(change), before=before
        )

    @staticmethod
    def _identity(change: _Change) -> Mapping[str, str]:
        """Return the fields that identify the resource."""
        site = next(iter(change.items), None)
        reply = change.seen.get(site) if site is not None else None
        return ownership.read(change.calls[site], reply) if site is not None and isinstance(reply, Reply) else {}

    async def _end(self, change: _Change, intents: Intents) -> Reply:
        """Evaluate the answers of all sites, and return the answer for the client.

        The operation of a site is dropped, or left to be carried out later. If another site's refusal prevents the change, the changed
        copies get their old values back.
        """
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
        """Return the answer of the nearest site that has carried the request out, marked with all sites that have."""
        order = [site for site in change.calls if site in change.done()]
        answer = change.outcomes[order[0]]
        assert isinstance(answer, Reply)
        return replace(answer, site=",".join(order), identity=self._identity(change))

    async def _take_back(self, change: _Change, site: str) -> bool:
        """Give a copy its old values; return `False` if that is impossible or the copy has been changed since."""
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
        said = "; ".join(f"{site} refuses: {error_text(reply)}" for site, reply in refused.items())
        why = f"{call.method} {call.path} was carried out at {' and '.join(done)}, but {said}"
        identifier = resource_of(call.path).rpartition("/")[2]
        self._conflicts.note(f"{call.service} {call.method}", identifier, [*done, *refused], why)

    def _nobody(self, change: _Change) -> Reply:
        """Return the answer if no site has carried the request out and none has refused it."""
        away = [*change.away(), *(site for site, outcome in change.outcomes.items() if isinstance(outcome, Unreachable))]
        replies = [outcome for outcome in change.outcomes.values() if isinstance(outcome, Reply)]
        failed = next((reply for reply in replies if reply.status not in GONE), None)
        if failed is not None:
            return failed
        return faults.unreachable(change.first.service, away, self._sites.here) if away else replies[0]


def _candidates(change: _Change) -> list[str]:
    """Return the sites that have a copy or do not let the client see it (access rules may allow a change and forbid a read)."""
    return [
        site
        for site, outcome in change.seen.items()
        if isinstance(outcome, Reply) and _why_later(outcome) is None and outcome.status not in GONE
    ]


def _may_have(change: _Change, site: str) -> bool:
    """Return whether a site may still have a recorded copy: its answer does not prove that the copy is gone."""
    outcome = change.seen[site]
    return isinstance(outcome, Unreachable) or outcome.status not in GONE


def _is_whole(path: str) -> bool:
    """Return whether a path is that of a resource itself, perhaps with a slash at its end, which services accept too."""
    return path.rstrip("/") == resource_of(path)


def _why_later(outcome: Outcome) -> str | None:
    """Return the reason why a site has to carry the request out later; `None` if it need not."""
    if isinstance(outcome, Unreachable):
        return outcome.why
    return f"HTTP {outcome.status}: {error_text(outcome)}" if outcome.status >= 500 else None


def _item(outcome: Outcome) -> Mapping[str, Any] | None:
    """Return the resource in an answer: Glance sends it alone, the other services under the name of its type."""
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
    """Return the values that a change replaces; empty if the resource does not show all of the fields."""
    wanted = next(iter(call.value.values()), None) if isinstance(call.value, dict) else None
    if not isinstance(wanted, dict) or not all(name in item for name in wanted):
        return {}
    return {name: item[name] for name in wanted}


def _failed_condition(wanted: int, current: int, here: str) -> Reply:
    """Return the answer of `neutron.services.revisions.revision_plugin.RevisionNumberConstraintFailed`."""
    message = f"Constrained to {wanted}, but current revision is {current}"
    return json_reply(412, {"NeutronError": {"type": "HTTPPreconditionFailed", "message": message, "detail": ""}}, here)
