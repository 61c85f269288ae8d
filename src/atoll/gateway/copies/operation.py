"""One request that a site has yet to carry out."""

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
"""Headers that say what a body means. A token is none of them: it ends sooner than this, and does not belong on a disk."""


@dataclass(frozen=True)
class Operation:
    """One request that a site has yet to carry out.

    Attributes:
        site: who.
        method: HTTP's.
        service: which of its services.
        path: from the service's root.
        query: what follows the question mark.
        headers: see `of`.
        body: None if there is none, or if `copies_data`.
        request_id: of the request that it comes from.
        unsure: it undoes something of which nobody knows whether it was done, so that "not found" may mean "not yet".
        tag: servers of this tag are meant (`pending.REPLICA_TAG`), whose ids are not known; the path is the collection's.
        about: the path of the resource, if the path does not say it: of one that is created under a known id.
        copies_data: the image's data are to be pulled from the sites that hold it.
        requester: who asked for it, when it was asked for; None if nobody knows, and then no site does it.
        identity: which object was meant, where it was carried out (`ownership`); empty if that site did not say.
        before: values that the object must still have: those that a change replaced which depended on a condition.
        error: why it waits.
        number: in the order in which they came; 0 before it is stored.
        since: when it came, in seconds since 1970.
        attempts: how often the site refused.
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
    def of(cls, site: str, call: Call, error: str, requester: Requester | None = None, *, unsure: bool = False) -> Operation:
        """A call that a site could not be asked, or has failed to carry out.

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
        """As JSON, for the site that carries it out; see `load`."""
        body = base64.b64encode(self.body).decode() if self.body is not None else None
        return asdict(self) | {"body": body, "headers": dict(self.headers), "identity": dict(self.identity), "before": dict(self.before)}

    @classmethod
    def load(cls, said: Mapping[str, Any]) -> Operation:
        """Read what another site's `dump` wrote.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is no operation.
        """
        requester = said["requester"]
        return cls(
            site=str(said["site"]),
            method=str(said["method"]),
            service=str(said["service"]),
            path=str(said["path"]),
            query=str(said["query"]),
            request_id=str(said["request_id"]),
            tag=str(said["tag"]),
            about=str(said["about"]),
            headers={name: str(said["headers"][name]) for name in _KEPT if name in said["headers"]},
            body=base64.b64decode(said["body"], validate=True) if said["body"] is not None else None,
            unsure=bool(said["unsure"]),
            copies_data=bool(said["copies_data"]),
            requester=Requester.parse(requester) if requester is not None else None,
            identity={str(name): str(value) for name, value in said["identity"].items()},
            before=dict(said.get("before", {})),
        )

    @property
    def resource(self) -> str:
        """The path of the resource that this is about: what concerns one resource is done in order."""
        return self.about or resource_of(self.path)

    def call(self, token: str) -> Call:
        """The request."""
        headers = CIMultiDict(self.headers)
        headers["X-Auth-Token"] = token
        return Call(self.method, self.service, self.path, self.query, headers, self.body, self.request_id)

    def __str__(self) -> str:
        if self.tag:
            return f"DELETE {self.service}{self.path} tagged {self.tag}"
        return f"{self.method} {self.service}{self.path}" + (" (data)" if self.copies_data else "")


def whose(query: str) -> str:
    """The query with which the object of a request has to be looked at: that of the request, if it says whose the object is."""
    return query if any(name == "user_id" for name, _value in parse_qsl(query, keep_blank_values=True)) else ""


def resource_of(path: str) -> str:
    """The path of a resource, without what it may have below: version, perhaps a project, collection and id."""
    found = _RESOURCE.match(path)
    return found[0] if found else path
