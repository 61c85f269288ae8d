"""Resources that the gateway creates at its own site for a request, and their deletion if the request fails.

Each creation is written to the ledger before the service is asked. Its entry is removed when the request has succeeded or the resource has
been deleted. If the gateway dies in between, the next process finds the entry and *settles* it: it deletes the resource unless something
uses it. The gateway must not delete a resource that another client created. So an entry is made only if the resource did not exist when the
gateway looked for it, and the resource is deleted only if its lasting fields are those of the creation.

Until it is settled, such a resource may lack parts: a network its subnets, a security group its rules. So a request that needs the resource
goes on with the creation: it adds the missing parts, and takes over the entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from atoll.gateway.answers import GONE
from atoll.gateway.bring.descriptions import differences
from atoll.gateway.bring.ledger import CopyCreation, Ledger
from atoll.gateway.bring.references import KEY_PAIR
from atoll.gateway.bring.service_client import MAKE_S, ServiceClient, ServiceRefused
from atoll.gateway.request.call import Reply, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

SETTLE_AFTER_S = 60.0
"""Seconds from the start of the gateway until it settles the creations of its predecessor: a service may still be working on the requests
for which the resources were created."""

LOOK_EVERY_S = 10.0
"""Seconds between two attempts to settle creations."""

_IN_USE = 409


class UndoLog:
    """The resources that the gateway has created at this site for one reference.

    Args:
        client: the client with which the request creates resources.
        ledger: keeps the creations until they are settled.
    """

    def __init__(self, client: ServiceClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._made: list[CopyCreation] = []

    async def create(self, creation: CopyCreation, path: str, body: Any, *, absent: bool, exists: bool = False) -> Any:
        """Create a resource with the gateway's own account, so that `undo` deletes it.

        Args:
            creation: the resource, and how it is deleted.
            path: the path to which the request is posted.
            body: the body of the request, sent as JSON.
            absent: whether the site had no such resource when it was looked for.
            exists: whether the resource may exist already.

        Returns:
            The resource in the service's form, to which the caller adds all parts that it lacks; `None` if the resource existed and was
            not left unfinished by an earlier request.

        Raises:
            ServiceRefused: the service refuses.
            Unreachable: the service does not answer. If it nevertheless created the resource, the resource is deleted later.
        """
        left = self._ledger.abandoned_creation(creation.kind, creation.id)
        if left is not None and not absent:
            return await self._go_on_with(left)
        entry = self.begin(creation) if absent else None
        try:
            answer = await self._client.make("POST", creation.service, path, body, exists=exists)
        except BaseException as error:
            self.fail(entry, error)
            raise
        self.end(creation, entry, created=answer is not None)
        if left is not None and answer is not None:
            self._ledger.end_creation(left)  # it was never carried out, or its resource is gone
        return answer

    async def _go_on_with(self, left: CopyCreation) -> Any:
        """Take over a creation that an earlier request left, and return its resource; `None` if the resource is another one."""
        shown = await _shown(self._client, left)
        if not shown.ok or differences(left.kind, next(iter(shown.json().values())), left.lasting):
            return None
        LOG.info("%s: %s may lack parts since an earlier request: adding them", self._client.request_id, left.target)
        self._ledger.resume_creation(left)
        self._made.append(left)
        _note_copy(self._ledger, left)
        return shown.json()

    def begin(self, creation: CopyCreation) -> CopyCreation:
        """Record that a resource which this site lacks is about to be created; `fail` or `end` must follow."""
        return self._ledger.begin_creation(creation)

    def fail(self, entry: CopyCreation | None, error: BaseException) -> None:
        """Record that a creation has failed; if its outcome is unknown, mark it to be settled later."""
        if entry is None:
            return
        if isinstance(error, ServiceRefused) and error.status < 500:
            self._ledger.end_creation(entry)
        else:
            self._ledger.abandon_creation(entry)

    def end(self, creation: CopyCreation, entry: CopyCreation | None, *, created: bool) -> None:
        """Record the outcome of a creation.

        Args:
            creation: the resource.
            entry: the result of `begin`; `None` if the resource seemed to exist.
            created: whether the service has created it; otherwise it existed.
        """
        if not created:
            if entry is not None:
                self._ledger.end_creation(entry)
            return
        self._made.append(entry or self._ledger.begin_creation(creation))
        _note_copy(self._ledger, creation)

    def keep(self) -> None:
        """Keep the resources: a request that needs them has succeeded."""
        while self._made:
            self._ledger.end_creation(self._made.pop())

    async def undo(self) -> None:
        """Delete the resources, the latest first, except those that another request has begun to use; retry failed deletions later."""
        while self._made:
            creation = self._made.pop()
            why = await _delete(self._client, creation, self._ledger)
            if why:
                LOG.warning("%s: %s can't be deleted now: %s", self._client.request_id, creation.target, why)
                self._ledger.abandon_creation(creation)


class BroughtResources:
    """The resources that were brought for one request: kept if the request succeeds, deleted if it fails."""

    def __init__(self) -> None:
        self._parts: list[tuple[Callable[[], Awaitable[None]], Callable[[], None]]] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, undo: Callable[[], Awaitable[None]], keep: Callable[[], None]) -> None:
        """Add resources, given the function that deletes them and the function that keeps them."""
        self._parts.append((undo, keep))

    def keep(self) -> None:
        """Keep the resources: the request has succeeded."""
        while self._parts:
            self._parts.pop()[1]()

    async def undo(self) -> None:
        """Delete the resources, the latest first: the request has failed."""
        while self._parts:
            await self._parts.pop()[0]()


class AbandonedCreations:
    """The creations whose request never ended, or whose deletion failed.

    Args:
        sites: sends requests to this site's services.
        ledger: the record of the creations.
    """

    def __init__(self, sites: Sites, ledger: Ledger) -> None:
        self._sites = sites
        self._ledger = ledger

    async def run(self) -> None:
        """Settle the creations, until cancelled."""
        await asyncio.sleep(SETTLE_AFTER_S)
        while True:
            await self.settle()
            await asyncio.sleep(LOOK_EVERY_S)

    async def settle(self) -> None:
        """Try once to settle each creation, the latest first."""
        for creation in reversed(self._ledger.abandoned_creations()):
            try:
                why = await self._settle(creation)
            except Unreachable as error:
                why = str(error)
            if why:
                LOG.warning("%s was created for a request that never ended, and can't be settled now: %s", creation.target, why)

    async def _settle(self, creation: CopyCreation) -> str:
        """Delete an unused resource; return the reason why its creation can't be settled now, or an empty string if it is settled.

        Raises:
            Unreachable: the service does not answer.
        """
        client = ServiceClient(self._sites, await self._sites.own_token(creation.service), request_id(None))
        shown = await _shown(client, creation)
        if shown.status in GONE:
            _forget_copy(self._ledger, creation)
        elif not shown.ok:
            return f"HTTP {shown.status}"
        elif different := differences(creation.kind, next(iter(shown.json().values())), creation.lasting):
            LOG.warning("%s is not what was to be created, and stays: it differs in %s", creation.target, ", ".join(different))
            self._ledger.end_creation(creation)
        elif (creation.kind, creation.id) in self._ledger.abandoned():  # no request has gone on with it meanwhile
            return await _delete(client, creation, self._ledger)
        return ""


async def _shown(client: ServiceClient, creation: CopyCreation) -> Reply:
    """Return the answer of this site's service to a question of the gateway's own account for a resource.

    Raises:
        Unreachable: the service does not answer.
    """
    token = await client.sites.own_token(creation.service)
    return await client.sites.send(client.sites.here, client.call("GET", creation.service, creation.target, token), MAKE_S)


async def _delete(client: ServiceClient, creation: CopyCreation, ledger: Ledger) -> str:
    """Delete a resource and its ledger entry.

    Returns:
        The reason why the resource can't be deleted now; empty if it is deleted or in use.
    """
    try:
        call = client.call("DELETE", creation.service, creation.target, await client.sites.own_token(creation.service))
        reply = await client.sites.send(client.sites.here, call)
    except Unreachable as error:
        return str(error)
    if reply.ok or reply.status in GONE:
        _forget_copy(ledger, creation)
    elif reply.status == _IN_USE:
        _note_copy(ledger, creation)
        ledger.end_creation(creation)
    else:
        return f"HTTP {reply.status}"
    return ""


def _note_copy(ledger: Ledger, creation: CopyCreation) -> None:
    """Record that this site's resource is a copy, unless it is a key pair, which is the user's own at each site."""
    if creation.kind != KEY_PAIR:
        ledger.bring(creation.kind, creation.id, creation.source)


def _forget_copy(ledger: Ledger, creation: CopyCreation) -> None:
    """Forget a copy that does not exist any more, and its entry."""
    if creation.kind != KEY_PAIR:
        ledger.forget(creation.kind, creation.id)
    ledger.end_creation(creation)
