"""Finds the site that has a resource.

Nothing about it is replicated: a resource that is made, used and deleted at one site costs no other site a byte. This site is asked first;
if it does not know the id, all others are at once, and what is learned is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from atoll.gateway.lists.union import Recent
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.resolve import sight
from atoll.gateway.resolve.routes import Resource, Route
from atoll.gateway.sites import Sites

REMEMBERED = 20_000
"""Ids; some 5 MB."""

ANSWER_S = 30.0


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        reply: the answer of whoever has it, or a refusal that stands for the whole cloud; None: nobody who answered.
        missing: who did not answer.
        holds: True if the site of the answer has it. The answer may be a refusal, if the token's access rules forbid to look.
    """

    reply: Reply | None
    missing: tuple[str, ...]
    holds: bool = False


class Locations:
    """The sites of the resources that this gateway has seen.

    An id counts for one type of resource: any member of a project may choose the id of an image, which may be that of another's server.

    Args:
        size: how many are remembered.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self._sites: Recent[tuple[str, str, str], str] = Recent(size)

    def get(self, resource: Resource, identifier: str) -> str | None:
        """Return the site that holds a resource; `None` if it is not known."""
        return self._sites.get((resource.service, resource.key, identifier))

    def learn(self, resource: Resource, pairs: Iterable[tuple[str, str]]) -> None:
        """Remember ids of one type of resource, each with its site; names are ignored, which several users may have."""
        for identifier, site in pairs:
            if is_uuid(identifier) or (identifier and resource.identity == ("id",)):
                self._sites.put((resource.service, resource.key, identifier), site)


def proves(route: Route, status: int) -> bool:
    """Return whether an answer proves that the site that gave it holds the resource of the request.

    Only a success does. A refusal may be about the caller, the request or the site's load, and anybody can cause one.
    The success of a request below a resource proves it for Nova alone, which looks for the resource first.

    Args:
        route: of the request.
        status: HTTP status of the answer.
    """
    resource = route.resource
    if resource is None or not 200 <= status < 300 or (route.child and resource.service != "compute"):
        return False
    return is_uuid(route.id) or resource.identity == ("id",)


async def search(sites: Sites, call: Call, among: Sequence[str], *, oldest: bool = False) -> Found:
    """Ask several sites for the same thing at once; who has it is all that counts.

    Args:
        sites: to ask.
        call: a request that changes nothing.
        among: which sites.
        oldest: several may have a copy: wait for all, and take the one that was made first. Else the first answer counts.
    """
    tasks = {asyncio.ensure_future(sites.send(site, call, ANSWER_S)): site for site in among}
    heard = _Heard()
    pending = set(tasks)
    try:
        while pending and (oldest or not heard.held):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                heard.note(tasks[task], task)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if heard.held:
        return Found(min(heard.held, key=lambda reply: (_made(reply), reply.site)) if oldest else heard.held[0], (), holds=True)
    if heard.refusals and (refused := await _refusing(sites, call, heard.refusals)) is not None:
        return refused
    return Found(heard.second_best, tuple(sorted(heard.missing)))


@dataclass
class _Heard:
    """What the sites have answered so far.

    Attributes:
        held: answers of those that have it.
        refusals: by site, refusals that say nothing about whether it is there.
        missing: those that do not answer, or fail: they may have it, or not.
        second_best: another refusal.
    """

    held: list[Reply] = field(default_factory=list)
    refusals: dict[str, Reply] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    second_best: Reply | None = None

    def note(self, site: str, task: asyncio.Future[Reply]) -> None:
        """Add an answer."""
        try:
            reply = task.result()
        except Unreachable:
            self.missing.append(site)
            return
        if reply.status < 400:
            self.held.append(reply)
        elif reply.status in sight.REFUSALS:
            self.refusals[site] = reply
        elif reply.status >= 500:
            self.missing.append(site)
        elif reply.status not in {400, 404}:
            self.second_best = reply


def _made(reply: Reply) -> str:
    """When a resource was made, as the answer about it says."""
    try:
        body = reply.json()
        inner = body if "created_at" in body else next(iter(body.values()))
        return str(inner.get("created_at") or "")
    except (ValueError, AttributeError, StopIteration, TypeError):
        return ""


async def _refusing(sites: Sites, call: Call, refusals: Mapping[str, Reply]) -> Found | None:
    """Return the site that refuses and has it: a refusal for the token's access rules does not say so, any other stands.

    Args:
        sites: to ask.
        call: the request that was refused.
        refusals: by site.
    """
    views = await asyncio.gather(
        *(sight.see(sites, site, call.token, call.service, call.target) for site in refusals), return_exceptions=True
    )
    for reply, view in zip(refusals.values(), views, strict=True):
        if isinstance(view, Reply) and view.status == 200:
            return Found(reply, (), holds=True)
    stands = (reply for reply, view in zip(refusals.values(), views, strict=True) if isinstance(view, Reply) and view.status == 403)
    standing = next(stands, None)
    return Found(standing, ()) if standing is not None else None


async def holders(sites: Sites, call: Call, among: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ask several sites which of them show a thing to the user.

    Args:
        sites: to ask.
        call: a request that changes nothing.
        among: which sites.

    Returns:
        The sites that have it, and those that did not say, both in the order of `among`.
    """
    found = await asyncio.gather(*(search(sites, call, [site]) for site in among))
    have = [site for site, each in zip(among, found, strict=True) if each.holds]
    return have, [site for site, each in zip(among, found, strict=True) if each.missing]
