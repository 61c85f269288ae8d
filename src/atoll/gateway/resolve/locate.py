"""Finds the site that holds a resource.

Locations are not replicated: a resource that is created, used and deleted at one site causes no traffic to other sites. The gateway asks
its own site first, then all others at the same time, and remembers the site that answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cachetools import TTLCache

from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.resolve import visibility
from atoll.gateway.resolve.routes import Resource, Route
from atoll.gateway.sites import Sites

REMEMBERED = 20_000
"""Number of ids that are remembered; about 8 MB."""

REMEMBERED_S = 86_400.0
"""Seconds for which the site of an id is remembered after the last answer that proved it.

The former site of a server that was handed off names the new one for longer (`handoffs.journal.KEPT_S`). So no gateway remembers the former
site when that site no longer knows about the hand-off."""

ANSWER_S = 30.0
"""Seconds that a site has to answer a search."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        reply: the answer of a site that holds the resource, or a refusal that is valid for the whole cloud; `None` if no site holds it.
        missing: the sites that did not answer, or could not.
        holds: whether the site of `reply` holds the resource; `reply` may be a refusal if the token's access rules forbid the request.
        reason: the 503 of a gateway of `missing` that names the reason, for example a token that it can't prove.
    """

    reply: Reply | None
    missing: tuple[str, ...]
    holds: bool = False
    reason: Reply | None = None


class Locations:
    """The sites of the resources that this gateway has seen.

    Ids of different types of resources are kept apart, because a user may choose an image's id, even one that equals the id of another
    user's server.

    Args:
        size: the number of ids that are remembered.
        clock: monotonic seconds.
    """

    def __init__(self, size: int = REMEMBERED, clock: Callable[[], float] = time.monotonic) -> None:
        self._sites: TTLCache[tuple[str, str, str], str] = TTLCache(size, REMEMBERED_S, clock)

    def get(self, resource: Resource, identifier: str) -> str | None:
        """Return the site that holds a resource; `None` if it is unknown."""
        return self._sites.get((resource.service, resource.key, identifier))

    def learn(self, resource: Resource, pairs: Iterable[tuple[str, str]]) -> None:
        """Remember ids of one type of resource, each with its site; names are ignored, because several users may use the same."""
        for identifier, site in pairs:
            if is_uuid(identifier) or (identifier and resource.identity == ("id",)):
                self._sites[(resource.service, resource.key, identifier)] = site


def proves(route: Route, status: int) -> bool:
    """Return whether an answer proves that its site holds the resource of the request.

    Only a success proves it. A refusal may have other reasons, and any user can cause one. The success of a request for a child of the
    resource proves it for Nova alone, which looks up the resource first.

    Args:
        route: the route of the request.
        status: the HTTP status of the answer.
    """
    resource = route.resource
    if resource is None or not 200 <= status < 300 or (route.child and resource.service != "compute"):
        return False
    return is_uuid(route.id) or resource.identity == ("id",)


async def search(sites: Sites, call: Call, among: Sequence[str], *, oldest: bool = False) -> SearchResult:
    """Ask several sites for a resource at the same time.

    Args:
        sites: sends requests to the sites of the cloud.
        call: a request that changes nothing.
        among: the sites to ask.
        oldest: wait for all sites, and return the copy that was created first; otherwise, return the first answer.
    """
    tasks = {asyncio.ensure_future(sites.send(site, call, ANSWER_S)): site for site in among}
    answers = _Answers()
    pending = set(tasks)
    try:
        while pending and (oldest or not answers.held):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                answers.note(tasks[task], task)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if answers.held:
        return SearchResult(min(answers.held, key=lambda reply: (_made(reply), reply.site)) if oldest else answers.held[0], (), holds=True)
    if answers.refusals and (refused := await _refusing(sites, call, answers.refusals)) is not None:
        return refused
    if answers.reason is not None:
        named = answers.reason.headers[MISSING].split(",")
        answers.reason.headers[MISSING] = ",".join(sorted({*answers.missing, *named}))
    return SearchResult(answers.second_best, tuple(sorted(answers.missing)), reason=answers.reason)


@dataclass
class _Answers:
    """The answers to a search so far.

    Attributes:
        held: the answers of the sites that hold the resource.
        refusals: by site, refusals that do not reveal whether the site holds the resource.
        missing: the sites that do not answer, or fail, and may hold the resource.
        second_best: any other refusal.
        reason: the 503 in which a site's gateway gives a reason of its own, which the client gets instead of the message that the site
            can't be reached.
    """

    held: list[Reply] = field(default_factory=list)
    refusals: dict[str, Reply] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    second_best: Reply | None = None
    reason: Reply | None = None

    def note(self, site: str, task: asyncio.Future[Reply]) -> None:
        """Add the answer of a site."""
        try:
            reply = task.result()
        except Unreachable:
            self.missing.append(site)
            return
        if reply.status < 400:
            self.held.append(reply)
        elif reply.status in visibility.REFUSALS:
            self.refusals[site] = reply
        elif reply.status >= 500:
            self.missing.append(site)
            if MISSING in reply.headers:
                self.reason = reply
        elif reply.status not in {400, 404}:
            self.second_best = reply


def _made(reply: Reply) -> str:
    """Return the creation time of a resource in an answer; empty if the answer has none."""
    try:
        body = reply.json()
        inner = body if "created_at" in body else next(iter(body.values()))
        return str(inner.get("created_at") or "")
    except (ValueError, AttributeError, StopIteration, TypeError):
        return ""


async def _refusing(sites: Sites, call: Call, refusals: Mapping[str, Reply]) -> SearchResult | None:
    """Return the refusal of a site that holds the resource, or one that the token's access rules do not explain; `None` without either.

    Args:
        sites: sends requests to the sites of the cloud.
        call: the refused request.
        refusals: the refusals by site.
    """
    views = await asyncio.gather(
        *(visibility.view(sites, site, call.token, call.service, call.target) for site in refusals), return_exceptions=True
    )
    for reply, view in zip(refusals.values(), views, strict=True):
        if isinstance(view, Reply) and view.status == 200:
            return SearchResult(reply, (), holds=True)
    stands = (reply for reply, view in zip(refusals.values(), views, strict=True) if isinstance(view, Reply) and view.status == 403)
    standing = next(stands, None)
    return SearchResult(standing, ()) if standing is not None else None


async def holders(sites: Sites, call: Call, among: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which of several sites hold a resource, and which did not answer.

    Args:
        sites: sends requests to the sites of the cloud.
        call: a request that reads the resource with the user's rights.
        among: the sites to ask.

    Returns:
        The sites that hold the resource, and those that did not answer, both in the order of `among`.
    """
    found = await asyncio.gather(*(search(sites, call, [site]) for site in among))
    have = [site for site, each in zip(among, found, strict=True) if each.holds]
    return have, [site for site, each in zip(among, found, strict=True) if each.missing]
