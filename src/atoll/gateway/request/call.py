"""What goes through the gateway: one request, and one answer held in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from multidict import CIMultiDict


class Unreachable(Exception):  # noqa: N818 - what it says, not that it is an error
    """A site did not answer. What was asked of it may have happened all the same, unless it could not even be connected to.

    Args:
        site: its name.
        why: for people.
        sent: False if the request certainly did not reach it.
    """

    def __init__(self, site: str, why: str, *, sent: bool = True) -> None:
        super().__init__(f"site {site}: {why}")
        self.site = site
        self.why = why
        self.sent = sent


@dataclass(frozen=True)
class Call:
    """A request for one of a site's services.

    Attributes:
        method: GET, POST, …
        service: identity, image, compute, network or placement.
        path: from the service's root, as it was sent (`/v2.1/servers/ID`).
        query: what follows the question mark, as it was sent.
        headers: without those that belong to one connection.
        body: None, bytes, or pieces that can be read once.
        request_id: `req-UUID`, by which the logs of all sites tell what belongs together.
        user: the id of the user that a site has issued the token to; empty if none has; `None` for a request of the gateway's own.
        strict: the client wants lists whole or refused.
    """

    method: str
    service: str
    path: str
    query: str
    headers: CIMultiDict[str]
    body: bytes | AsyncIterator[bytes] | None
    request_id: str
    user: str | None = None
    strict: bool = False

    @property
    def token(self) -> str:
        """The user's token; empty if there is none."""
        return self.headers.get("X-Auth-Token", "")

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent more than once."""
        return self.body is None or isinstance(self.body, bytes)

    def json(self) -> Any:
        """A copy of the body's value, which may be changed.

        Raises:
            ValueError: it is not JSON, or not in memory.
        """
        if not isinstance(self.body, bytes):
            raise ValueError("no JSON body")  # noqa: TRY004 - as for a body that is none
        return _loads(self.body)

    @cached_property
    def value(self) -> Any:
        """The body's value, parsed once; not to be changed. `None` if there is no JSON."""
        try:
            return self.json()
        except ValueError:
            return None

    def look(self, path: str, query: str = "") -> Call:
        """Return a request of the same client that reads a path of the same service."""
        return self.with_(method="GET", path=path, query=query, body=None)

    def with_(self, **changes: Any) -> Call:
        """A copy with some attributes changed; `json` sets the body. The headers are copied, but for the length of another body.

        Raises:
            ValueError: what is to be the body is nested too deeply.
        """
        headers = CIMultiDict(changes.pop("headers", self.headers))
        if "json" in changes:
            try:
                changes["body"] = json.dumps(changes.pop("json")).encode()
            except RecursionError:
                raise ValueError(_DEEP) from None
            headers["Content-Type"] = "application/json"
        if "body" in changes:
            headers.popall("Content-Length", None)
        return replace(self, headers=headers, **changes)


@dataclass(frozen=True)
class Reply:
    """An answer, whole.

    Attributes:
        status: HTTP status.
        headers: without those that belong to one connection.
        body: as received.
        site: which site answered; several, joined by commas, if the answer is made of theirs.
        identity: which resource several sites have changed (`copies.ownership`); empty if that does not matter.
    """

    status: int
    headers: CIMultiDict[str]
    body: bytes
    site: str
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body.

        Raises:
            ValueError: it is not JSON.
        """
        return _loads(self.body)


_DEEP = "JSON that is nested too deeply"


def _loads(body: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is not JSON, or nested so deeply that Python can't read it.
    """
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError(_DEEP) from None


def json_reply(status: int, body: Any, site: str) -> Reply:
    """An answer made here."""
    return Reply(status, CIMultiDict({"Content-Type": "application/json"}), json.dumps(body).encode(), site)
