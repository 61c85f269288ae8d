"""Deliver a pending operation to the gateway of its site, which carries it out or refuses it."""

from __future__ import annotations

import asyncio
import json

from multidict import CIMultiDict

from atoll.gateway.answers import GONE
from atoll.gateway.copies.pending_operation import PendingOperation
from atoll.gateway.copies.perform import Outcome, Performer
from atoll.gateway.request.call import GATEWAY, Call, Unreachable
from atoll.gateway.sites import Sites
from atoll.trace import propagation

SETTLED_S = 30.0
"""Seconds after a site is reachable again during which an earlier request of unknown outcome may still arrive from a buffer."""

ANSWER_S = 60.0
"""Seconds to wait for a site's answer to an operation."""

COPIED_S = 3600.0
"""Seconds to wait for a site to pull an image's data."""


_PASSING = frozenset((401, 403, 408, 423, 425, 429))
"""Statuses of refusals that may be temporary. The gateway's own account may briefly lack a right, when its token expires."""


class RetryLater(Exception):
    """The operation is not done yet.

    Args:
        why: the reason, as text.
        refused: `True` if the site was reached and refused the operation, so that the next attempt waits longer.
    """

    def __init__(self, why: str, *, refused: bool = True) -> None:
        super().__init__(why)
        self.refused = refused


class PermanentlyRefused(Exception):
    """The site will never carry out the operation: the requester has no right to it, or its object has been replaced or changed."""


class Deliverer:
    """The attempts to have operations carried out.

    Args:
        sites: sends requests to the sites.
        performer: carries out the operations of this site.
    """

    def __init__(self, sites: Sites, performer: Performer) -> None:
        self._sites = sites
        self._performer = performer
        self._gone_since: dict[int, float] = {}

    def forget(self, operation: PendingOperation) -> None:
        """Forget an operation that is not attempted again."""
        self._gone_since.pop(operation.number, None)

    async def attempt(self, operation: PendingOperation) -> None:
        """Attempt an operation once at its site.

        Raises:
            RetryLater: the operation is not done yet.
            PermanentlyRefused: the operation will never be done.
        """
        try:
            with propagation.work(f"deliver {operation.service} {operation.method}"):
                outcome = await self._ask(operation)
        except Unreachable as error:
            raise RetryLater(error.why, refused=False) from error
        if outcome.refused:
            raise PermanentlyRefused(outcome.message)
        if outcome.status in GONE and operation.unsure:
            self._settle(operation)
        elif _is_final(operation, outcome.status):
            raise PermanentlyRefused(f"HTTP {outcome.status}: {outcome.message}")
        elif outcome.status >= 300 and outcome.status not in GONE:
            raise RetryLater(f"HTTP {outcome.status}: {outcome.message}", refused=not outcome.waits)

    async def _ask(self, operation: PendingOperation) -> Outcome:
        if operation.site == self._sites.here:
            return await self._performer.perform(operation)
        headers = CIMultiDict({"Content-Type": "application/json"})
        body = json.dumps(operation.dump()).encode()
        call = Call("POST", GATEWAY, "/operations", "", headers, body, operation.request_id)
        reply = await self._sites.send(operation.site, call, COPIED_S if operation.copies_data else ANSWER_S)
        try:
            return Outcome.load(reply.json())
        except (ValueError, KeyError, TypeError) as error:
            # A gateway of an earlier version has no such path.
            raise Unreachable(operation.site, f"its gateway does not carry out operations (HTTP {reply.status})") from error

    def _settle(self, operation: PendingOperation) -> None:
        """Wait `SETTLED_S` for a resource whose creation had no answer and that the site does not have.

        Raises:
            RetryLater: the resource may still be created.
        """
        now = asyncio.get_running_loop().time()
        if now - self._gone_since.setdefault(operation.number, now) < SETTLED_S:
            raise RetryLater("the resource does not exist, and may still be created")


def _is_final(operation: PendingOperation, status: int) -> bool:
    """Return whether a refusal is the site's final one, such as for a network in use or an invalid value.

    A refusal about a server may be temporary, because the server may be busy (409). The undoing of a creation is retried until it succeeds,
    because the project would otherwise pay for the resources that are left.
    """
    if operation.unsure or status in GONE or status in _PASSING or not 400 <= status < 500:
        return False
    return operation.service != "compute" or status != 409
