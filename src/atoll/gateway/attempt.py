"""One try to have a site do what waits for it."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote

from atoll.gateway.call import Reply, Unreachable
from atoll.gateway.operation import Operation
from atoll.gateway.sites import Sites

SETTLED_S = 30.0
"""Seconds during which a request whose outcome is unknown may still come out of some buffer, after the site can be reached again."""

REPLICA_TAG = "atoll_replica"
"""Key in a server's metadata: by its value a server is found whose creation was not answered."""

GONE = (404, 410)
"""Statuses that say that there is no such thing: what should be deleted is, and what should be changed needs no change."""


class Later(Exception):  # noqa: N818 - no error: it is tried again
    """Not done yet.

    Args:
        why: for people.
        refused: the site could be reached and refused, so that there is no hurry.
    """

    def __init__(self, why: str, *, refused: bool = True) -> None:
        super().__init__(why)
        self.refused = refused


class Executor:
    """Carries out operations.

    Args:
        sites: to ask.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._gone_since: dict[int, float] = {}

    def forget(self, operation: Operation) -> None:
        """There will be no other try."""
        self._gone_since.pop(operation.number, None)

    async def attempt(self, operation: Operation) -> None:
        """Try once.

        Raises:
            Later: it is not done.
        """
        try:
            token = await self._sites.admin_token()
            if operation.tag:
                await self._delete_tagged(operation, token)
            elif operation.copies_data:
                await self._copy_data(operation, token)
            else:
                reply = await self._sites.send(operation.site, operation.call(token))
                self._judge(operation, reply)
        except Unreachable as error:
            raise Later(error.why, refused=False) from error

    def _judge(self, operation: Operation, reply: Reply) -> None:
        if reply.status in GONE and operation.unsure:
            self._settle(operation)
        elif not reply.ok and reply.status not in GONE:
            raise Later(f"HTTP {reply.status}: {words(reply)}")

    def _settle(self, operation: Operation) -> None:
        """What was perhaps created is not there; it may still come."""
        now = asyncio.get_running_loop().time()
        if now - self._gone_since.setdefault(operation.number, now) < SETTLED_S:
            raise Later("it is not there, and might still come to be")

    async def _delete_tagged(self, operation: Operation, token: str) -> None:
        """Delete servers whose ids are not known, by their tag."""
        asked = operation.call(token).with_(method="GET", path=f"{operation.path}/detail")
        reply = await self._sites.send(operation.site, asked)
        self._judge(operation, reply)
        servers = reply.json()["servers"] if reply.ok else []
        found = [server["id"] for server in servers if server["metadata"].get(REPLICA_TAG) == operation.tag]
        for identifier in found:
            delete = operation.call(token).with_(path=f"{operation.path}/{identifier}", query="")
            self._judge(operation, await self._sites.send(operation.site, delete))
        if not found:
            self._settle(operation)

    async def _copy_data(self, operation: Operation, token: str) -> None:
        """Send an image's data from another site that has them."""
        there = await self._sites.send(operation.site, operation.call(token).with_(method="GET", path=operation.resource, query=""))
        if there.status in GONE or (there.ok and there.json()["status"] not in {"queued", "importing"}):
            return
        others = [site for site in self._sites.everywhere() if site != operation.site]
        get = operation.call(token).with_(method="GET")
        for site in self._sites.near_first(others):
            try:
                source = await self._sites.open(site, get)
            except Unreachable:
                continue
            try:
                if source.status == 200:
                    put = operation.call(token).with_(body=source.pieces())
                    self._judge(operation, await (await self._sites.open(operation.site, put)).read())
                    return
            finally:
                source.close()
        raise Later("no site that can be reached has the data", refused=False)


def find_tagged(name: str) -> str:
    """The query that lists the servers of a name, of all projects."""
    return f"all_tenants=1&name={quote('^' + re.escape(name) + '$', safe='')}"


def words(reply: Reply) -> str:
    """What an error says, in one line."""
    try:
        body = reply.json()
        inner = next(iter(body.values())) if isinstance(body, dict) else body
        text = inner.get("message", inner) if isinstance(inner, dict) else inner
    except (ValueError, StopIteration):
        text = reply.body.decode(errors="replace")
    return " ".join(str(text).split())[:200]
