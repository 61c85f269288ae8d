"""Finds the site that has a resource.

Nothing about it is replicated: a resource that is made, used and deleted at one site costs no other site a byte. This site is asked first;
if it does not know the id, all others are at once, and what is learned is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.gateway.lists.union import Recent
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.resolve.routes import Resource, Route, is_uuid
from atoll.gateway.sites import Sites

REMEMBERED = 20_000
"""Ids; some 5 MB."""

ANSWER_S = 30.0


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        reply: the answer of whoever has it; None: nobody who answered.
        missing: who did not answer.
    """

    reply: Reply | None
    missing: tuple[str, ...]


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
    missing: list[str] = []
    second_best: Reply | None = None
    held: list[Reply] = []
    pending = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    reply = task.result()
                except Unreachable:
                    missing.append(tasks[task])
                    continue
                if reply.status < 400:
                    if not oldest:
                        return Found(reply, ())
                    held.append(reply)
                elif reply.status >= 500:
                    missing.append(tasks[task])  # it may have it, or not
                elif reply.status not in {400, 404}:
                    second_best = reply
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if held:
        return Found(min(held, key=lambda reply: (_made(reply), reply.site)), ())
    return Found(second_best, tuple(sorted(missing)))


def _made(reply: Reply) -> str:
    """When a resource was made, as the answer about it says."""
    try:
        body = reply.json()
        inner = body if "created_at" in body else next(iter(body.values()))
        return str(inner.get("created_at") or "")
    except (ValueError, AttributeError, StopIteration, TypeError):
        return ""
