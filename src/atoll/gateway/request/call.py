"""A request and an answer as they go through the gateway."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from multidict import CIMultiDict

GATEWAY = "atoll"
"""The service of a call to another site's gateway itself, and the first segment of the call's path at the peer port."""


class Unreachable(Exception):
    """A site did not answer. Unless `sent` is false, it may nevertheless have carried out the request.

    Args:
        site: the site's name.
        why: the reason, as text.
        sent: False if the request certainly did not reach the site.
    """

    def __init__(self, site: str, why: str, *, sent: bool = True) -> None:
        super().__init__(f"site {site}: {why}")
        self.site = site
        self.why = why
        self.sent = sent


@dataclass(frozen=True)
class Call:
    """A request to a service of a site.

    Attributes:
        method: the HTTP method.
        service: identity, image, compute, network, placement or load-balancer; or `GATEWAY`, see `to_gateway`.
        path: the path below the service's root, as it was sent (`/v2.1/servers/ID`).
        query: the part of the URL after the question mark, as it was sent.
        headers: the headers, without those that belong to one connection.
        body: `None`, bytes, or pieces that can be read once.
        request_id: the id `req-UUID`, under which the logs of all sites name the request.
        user: the id of the user to whom a site issued the token; empty if no site issued it; `None` for the gateway's own requests.
        strict: whether the client wants complete lists or an error.
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
        """The user's token; empty if the request has none."""
        return self.headers.get("X-Auth-Token", "")

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def repeatable(self) -> bool:
        """True if the body can be sent more than once."""
        return self.body is None or isinstance(self.body, bytes)

    def json(self) -> Any:
        """Return a copy of the parsed body, which the caller may change.

        Raises:
            ValueError: the body is not JSON, or not in memory.
        """
        if not isinstance(self.body, bytes):
            raise ValueError("no JSON body")  # noqa: TRY004 - callers treat it as a body that is not JSON
        return _loads(self.body)

    @cached_property
    def value(self) -> Any:
        """The body, parsed once, which no caller may change; `None` if the body is not JSON."""
        try:
            return self.json()
        except ValueError:
            return None

    def look(self, path: str, query: str = "") -> Call:
        """Return a request of the same client that reads another path of the same service."""
        return self.with_(method="GET", path=path, query=query, body=None)

    def with_(self, **changes: Any) -> Call:
        """Return a copy with some attributes changed; `json` sets the body.

        The headers are copied, without `Content-Length` if the body changes.

        Raises:
            ValueError: the new body is nested too deeply.
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


def to_gateway(method: str, path: str, *, query: str = "", headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Call:
    """Return a call to another site's gateway itself, instead of one of that site's services.

    Args:
        method: the HTTP method.
        path: the path at the peer port, below `/atoll/` (`/atoll/identity`).
        query: the part after the question mark.
        headers: the headers; no token by default.
        body: the body.
    """
    below = path.removeprefix(f"/{GATEWAY}")
    return Call(method, GATEWAY, below, query, CIMultiDict(headers or {}), body, f"req-{uuid.uuid4()}")


@dataclass(frozen=True)
class Reply:
    """An answer whose body is in memory.

    Attributes:
        status: the HTTP status.
        headers: the headers, without those that belong to one connection.
        body: the body, as received.
        site: the site that answered; the sites, joined by commas, of a merged answer.
        identity: the fields that identify a resource that several sites have changed (`copies.ownership`); empty for all other answers.
    """

    status: int
    headers: CIMultiDict[str]
    body: bytes
    site: str
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if the status is a success (2xx)."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the parsed body.

        Raises:
            ValueError: the body is not JSON.
        """
        return _loads(self.body)


_DEEP = "the JSON is nested too deeply"


def _loads(body: bytes) -> Any:
    """Parse a body as JSON.

    Raises:
        ValueError: the body is not JSON, or nested so deeply that Python can't parse it.
    """
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError(_DEEP) from None


def json_reply(status: int, body: Any, site: str) -> Reply:
    """Return an answer of the gateway's own with a JSON body."""
    return Reply(status, CIMultiDict({"Content-Type": "application/json"}), json.dumps(body).encode(), site)
