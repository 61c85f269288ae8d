"""Finds the site that has a resource.

Nothing about it is replicated: a resource that is made, used and deleted at one site costs no other site a byte. This site is asked first;
if it does not know the id, all others are at once, and what is learned is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.gateway.call import Call, Reply, Unreachable
from atoll.gateway.sites import Sites
from atoll.gateway.union import Recent

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
    """Which site holds which id, as far as this gateway has seen.

    Args:
        size: how many are remembered.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self._sites: Recent[str, str] = Recent(size)

    def get(self, identifier: str) -> str | None:
        """The site of an id."""
        return self._sites.get(identifier)

    def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Remember ids, each with its site."""
        for identifier, site in pairs:
            if identifier:
                self._sites.put(identifier, site)

    def forget(self, identifier: str) -> None:
        """It is not there any more."""
        self._sites.forget((identifier,))


async def search(sites: Sites, call: Call, among: Sequence[str]) -> Found:
    """Ask several sites for the same thing at once; who has it is all that counts.

    Args:
        sites: to ask.
        call: a request that changes nothing.
        among: which sites.
    """
    tasks = {asyncio.ensure_future(sites.send(site, call, ANSWER_S)): site for site in among}
    missing: list[str] = []
    second_best: Reply | None = None
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
                    return Found(reply, ())
                if reply.status == 401 or reply.status >= 500:
                    missing.append(tasks[task])  # it may have it, or not
                elif reply.status not in {400, 404}:
                    second_best = reply
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    return Found(second_best, tuple(sorted(missing)))
