"""A request that a site has yet to carry out."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from multidict import CIMultiDict

from atoll.gateway.request.call import Call
from atoll.gateway.request.requester import Requester

_RESOURCE = re.compile(r"/[^/]+(?:/[0-9a-f]{32})?/[^/]+/[^/]+")

_KEPT = ("Content-Type", "Accept", "OpenStack-API-Version", "X-OpenStack-Nova-API-Version")
"""Headers that describe the format of the body. The token is not kept: it expires earlier, and must not be on a disk."""


@dataclass(frozen=True)
class PendingOperation:
    """A request that a site has yet to carry out.

    Attributes:
        site: the site.
        method: the HTTP method.
        service: the service that gets the request.
        path: the path, from the service's root.
        query: the text after the question mark.
        headers: see `of`.
        body: the body; `None` if there is none, or if `copies_data`.
        request_id: the id of the client's request.
        unsure: True if the operation undoes a creation of unknown outcome, so that "not found" may mean "not yet".
        tag: the tag (`answers.REPLICA_TAG`) of the servers concerned, if their ids are unknown; `path` is then that of the collection.
        about: for a creation under a known id, the path of the resource, which `path` does not name; else empty.
        copies_data: True if the image's data is to be pulled from the sites that hold it.
        requester: the user who made the request; `None` if unknown, in which case no site carries the operation out.
        identity: the identity of the object at the site that carried the request out (`ownership`); empty if unknown.
        before: values that the object must still have, for a change that depended on a condition.
        error: the reason why the operation waits.
        number: the operation's position in the order of arrival; 0 before it is stored.
        since: the time at which the operation was stored, in seconds since 1970.
        attempts: the number of refusals.
    """

    site: str
    method: str
    service: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    request_id: str = ""
    unsure: bool = False
    tag: str = ""
    about: str = ""
    copies_data: bool = False
    requester: Requester | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    number: int = 0
    since: float = 0.0
    attempts: int = 0

    @classmethod
    def of(cls, site: str, call: Call, error: str, requester: Requester | None = None, *, unsure: bool = False) -> PendingOperation:
        """Return the operation for a call that could not be sent to a site, or that the site has failed to carry out.

        Raises:
            ValueError: the call's body can't be kept.
        """
        if not call.repeatable:
            raise ValueError("the body is not in memory")
        headers = {name: call.headers[name] for name in _KEPT if name in call.headers}
        body = call.body if isinstance(call.body, bytes) else None
        return cls(
            site,
            call.method,
            call.service,
            call.path,
            call.query,
            headers,
            body,
            call.request_id,
            unsure=unsure,
            requester=requester,
            error=error,
        )

    def dump(self) -> dict[str, Any]:
        """Return the operation for JSON, for the site that carries it out; see `load`."""
        body = base64.b64encode(self.body).decode() if self.body is not None else None
        return asdict(self) | {"body": body, "headers": dict(self.headers), "identity": dict(self.identity), "before": dict(self.before)}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> PendingOperation:
        """Return the operation that another site's `dump` has written.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the data does not describe an operation.
        """
        requester = data["requester"]
        return cls(
            site=str(data["site"]),
            method=str(data["method"]),
            service=str(data["service"]),
            path=str(data["path"]),
            query=str(data["query"]),
            request_id=str(data["request_id"]),
            tag=str(data["tag"]),
            about=str(data["about"]),
            headers={name: str(data["headers"][name]) for name in _KEPT if name in data["headers"]},
            body=base64.b64decode(data["body"], validate=True) if data["body"] is not None else None,
            unsure=bool(data["unsure"]),
            copies_data=bool(data["copies_data"]),
            requester=Requester.parse(requester) if requester is not None else None,
            identity={str(name): str(value) for name, value in data["identity"].items()},
            before=dict(data.get("before", {})),
        )

    @property
    def resource(self) -> str:
        """The path of the resource that the operation is about; operations on one resource are carried out in order."""
        return self.about or resource_of(self.path)

    def call(self, token: str) -> Call:
        """Return the request, with a token."""
        headers = CIMultiDict(self.headers)
        headers["X-Auth-Token"] = token
        return Call(self.method, self.service, self.path, self.query, headers, self.body, self.request_id)

    def __str__(self) -> str:
        if self.tag:
            return f"DELETE {self.service}{self.path} tagged {self.tag}"
        return f"{self.method} {self.service}{self.path}" + (" (data)" if self.copies_data else "")


def whose(query: str) -> str:
    """Return the query for a GET of a request's object: the request's own query if it names the object's user, otherwise none."""
    return query if any(name == "user_id" for name, _value in parse_qsl(query, keep_blank_values=True)) else ""


def resource_of(path: str) -> str:
    """Return the path of a resource without any part below it: version, perhaps a project, collection and id."""
    found = _RESOURCE.match(path)
    return found[0] if found else path
