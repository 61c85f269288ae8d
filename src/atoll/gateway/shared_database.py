"""The connection of this site to the server of a database that it shares with other sites.

A site that is cut off from the server can read its replicas and write nothing. Its services would try to commit for some seconds and then
fail with status 500. The gateway watches the server, and refuses changes at once, with one sentence that says why.
"""

from __future__ import annotations

import asyncio
import logging

from redis import RedisError
from sqlalchemy.engine import make_url

from atoll.gateway import faults
from atoll.gateway.connections import READS
from atoll.gateway.groups import SHARED
from atoll.gateway.options import Options
from atoll.gateway.request.call import Call, Reply
from atoll.stores import server
from atoll.stores.errors import StoreError
from atoll.stores.url import parse

LOG = logging.getLogger(__name__)

EVERY_S = 1.0
"""Seconds between two questions to the server."""

PATIENCE_S = 1.5
"""Seconds without an answer after which the server counts as unreachable."""

RETRY_S = 5
"""Seconds after which a client may try a refused change again (`Retry-After`)."""

_SIGN_IN = "/v3/auth/tokens"


class SharedDatabase:
    """The server of the database that this site shares with others.

    Args:
        options: the gateway's settings.
    """

    def __init__(self, options: Options) -> None:
        self._here = options.site
        owner = options.groups.get(options.site)
        self._with = owner if owner != options.site else ", ".join(sorted(name for name in options.groups if self._is_with(options, name)))
        self._client = server.connect(parse(make_url(options.identity_database))) if owner else None
        self._asked: asyncio.Future[bool] | None = None
        self.away = False
        """True while the server does not answer."""

    @staticmethod
    def _is_with(options: Options, name: str) -> bool:
        return name != options.site and options.groups[name] == options.groups[options.site]

    async def run(self) -> None:
        """Watch the server until cancelled; return at once if the site shares no database."""
        while self._client is not None:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> bool:
        """Ask the server, and return whether it answers in `PATIENCE_S` seconds.

        One question at a time is under way, because each occupies a thread of the gateway for seconds, and each failed request causes one.
        """
        asked = self._asked
        if asked is None or asked.done():
            asked = self._asked = asyncio.ensure_future(asyncio.to_thread(self._answers))
        done, _pending = await asyncio.wait({asked}, timeout=PATIENCE_S)
        self._note(bool(done) and asked.result())
        return not self.away

    def _answers(self) -> bool:
        try:
            return self._client is not None and bool(self._client.ping())
        except (RedisError, StoreError, OSError):
            return False

    def _note(self, answers: bool) -> None:
        if self.away == answers:
            self.away = not answers
            LOG.warning("%s", self._sentence if self.away else f"site {self._here} reaches the shared database again")

    @property
    def _sentence(self) -> str:
        return f"site {self._here} can't reach the database that it shares with {self._with}: it answers reads, and can change nothing"

    def refusal(self, call: Call) -> Reply | None:
        """Return the refusal of a change while the server is away; `None` for anything else."""
        return self._refuse(call) if self.away and _changes(call) else None

    async def explain(self, call: Call, status: int) -> Reply | None:
        """Return the refusal of a change that a service could not carry out because the server is away; `None` for any other answer.

        Args:
            call: the request.
            status: the status of the service's answer.
        """
        if self._client is None or status < 500 or not _changes(call) or await self.look():
            return None
        return self._refuse(call)

    def _refuse(self, call: Call) -> Reply:
        reply = faults.fault(call.service, 503, self._sentence, self._here)
        reply.headers["Retry-After"] = str(RETRY_S)
        return reply


def _changes(call: Call) -> bool:
    """Return whether a request changes the shared database; a sign-in only reads it."""
    if call.method in READS or call.service not in SHARED | {"identity"}:
        return False
    return not (call.method == "POST" and call.service == "identity" and call.path.rstrip("/") == _SIGN_IN)
