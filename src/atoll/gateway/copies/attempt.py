"""Attempts one pending operation: hands it to the gateway of its site, which carries it out or says why not."""

from __future__ import annotations

import asyncio
import json

from multidict import CIMultiDict

from atoll.gateway.answers import GONE
from atoll.gateway.copies.operation import Operation
from atoll.gateway.copies.perform import Outcome, Performer
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.sites import Sites

SETTLED_S = 30.0
"""Seconds during which a request whose outcome is unknown may still come out of some buffer, after the site can be reached again."""

ANSWER_S = 60.0
"""Seconds that a site may take for an operation."""

COPIED_S = 3600.0
"""Seconds that a site may take to pull an image's data."""


_PASSING = frozenset((401, 403, 408, 423, 425, 429))
"""Refusals that are not about what is asked for. The gateway's own account may lack a right for a moment: its token has ended."""


class Later(Exception):  # noqa: N818 - no error: it is tried again
    """Not done yet.

    Args:
        why: for people.
        refused: the site could be reached and refused, so that there is no hurry.
    """

    def __init__(self, why: str, *, refused: bool = True) -> None:
        super().__init__(why)
        self.refused = refused


class Unfit(Exception):  # noqa: N818 - what the site says of it
    """The site does not carry the operation out, now or later: it does not fit who asked for it or the object that it would change."""


class Executor:
    """Has operations carried out.

    Args:
        sites: to ask.
        performer: carries out those of this site.
    """

    def __init__(self, sites: Sites, performer: Performer) -> None:
        self._sites = sites
        self._performer = performer
        self._gone_since: dict[int, float] = {}

    def forget(self, operation: Operation) -> None:
        """There will be no other try."""
        self._gone_since.pop(operation.number, None)

    async def attempt(self, operation: Operation) -> None:
        """Try once.

        Raises:
            Later: it is not done.
            Unfit: it will not be done.
        """
        try:
            outcome = await self._ask(operation)
        except Unreachable as error:
            raise Later(error.why, refused=False) from error
        if outcome.refused:
            raise Unfit(outcome.message)
        if outcome.status in GONE and operation.unsure:
            self._settle(operation)
        elif _is_final(operation, outcome.status):
            raise Unfit(f"HTTP {outcome.status}: {outcome.message}")
        elif outcome.status >= 300 and outcome.status not in GONE:
            raise Later(f"HTTP {outcome.status}: {outcome.message}", refused=not outcome.waits)

    async def _ask(self, operation: Operation) -> Outcome:
        if operation.site == self._sites.here:
            return await self._performer.perform(operation)
        headers = CIMultiDict({"Content-Type": "application/json"})
        body = json.dumps(operation.dump()).encode()
        call = Call("POST", "atoll", "/operations", "", headers, body, operation.request_id)
        reply = await self._sites.send(operation.site, call, COPIED_S if operation.copies_data else ANSWER_S)
        try:
            return Outcome.load(reply.json())
        except (ValueError, KeyError, TypeError) as error:
            # An earlier version, which knows nothing of this.
            raise Unreachable(operation.site, f"its gateway does not carry out operations (HTTP {reply.status})") from error

    def _settle(self, operation: Operation) -> None:
        """What was perhaps created is not there; it may still come."""
        now = asyncio.get_running_loop().time()
        if now - self._gone_since.setdefault(operation.number, now) < SETTLED_S:
            raise Later("it is not there, and might still come to be")


def _is_final(operation: Operation, status: int) -> bool:
    """Whether a refusal is the site's last word: a network in use, a value that is not allowed there. Others may pass.

    A server may be busy with something else (409), and what undoes a creation is tried until it is undone: somebody would pay for the rest.
    """
    if operation.unsure or status in GONE or status in _PASSING or not 400 <= status < 500:
        return False
    return operation.service != "compute" or status != 409
