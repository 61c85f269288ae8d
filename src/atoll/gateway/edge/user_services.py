"""Sends requests to OpenStack's services with the caller's own token, through the gateway, as if the client had sent them itself.

The services of the cloud decide what the caller may do; these APIs grant nothing. The gateway finds the sites that a request concerns,
brings missing resources to them, and merges the lists of all sites.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from multidict import CIMultiDict

from atoll.gateway.edge.front import Question
from atoll.gateway.edge.problem import of_service
from atoll.gateway.local import Answer
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import MISSING, REQUEST_ID

PAGE = 1000
"""Number of items of a page of a list."""

MOST_PAGES = 64
"""Greatest number of pages that are read of one list."""

_PATCH = "application/openstack-images-v2.1-json-patch"
"""The media type of a change of an image; no other request of these APIs is a PATCH."""

GatewayAnswer = Callable[[Call], Awaitable[Answer]]
"""The gateway's answer to a client's request."""


@dataclass
class Listed:
    """The items of a list of all sites.

    Attributes:
        items: the items.
        missing: the sites that did not answer, joined by commas; empty for none.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    missing: str = ""


class UserServices:
    """The services of the cloud, as a caller of an edge API may use them.

    Args:
        answer: answers a client's request.
        here: the name of this site.
        strict: whether a list that lacks a site is refused (the operator's choice, `lists` of the YAML).
    """

    def __init__(self, answer: GatewayAnswer, here: str, *, strict: bool = False) -> None:
        self._answer = answer
        self._here = here
        self._strict = strict

    async def send(self, question: Question, method: str, service: str, target: str, body: Any = None) -> Reply:
        """Return the cloud's answer to a request with the caller's token, also a refusal.

        Args:
            question: the request of the caller.
            method: the HTTP method.
            service: compute or image.
            target: the path below the service's root, and the query; ids in it are quoted.
            body: the body, sent as JSON; `None` for none.

        Raises:
            Unreachable: a site that the request needs does not answer.
        """
        path, _mark, query = target.partition("?")
        headers = CIMultiDict({"X-Auth-Token": question.token, "Accept": "application/json", REQUEST_ID: question.request_id})
        call = Call(method, service, path, query, headers, None, question.request_id, question.user, self._strict)
        if body is not None:
            call = call.with_(json=body)
            call.headers["Content-Type"] = _PATCH if method == "PATCH" else "application/json"
        answer = await self._answer(call)
        return answer if isinstance(answer, Reply) else await answer.read()

    async def show(self, question: Question, service: str, path: str, key: str = "") -> dict[str, Any] | None:
        """Return a resource as the caller sees it; `None` if the caller sees no such resource.

        Args:
            question: the request of the caller.
            service: compute or image.
            path: the path of the resource.
            key: the property of the answer that holds the resource; empty if the answer is the resource.

        Raises:
            Problem: the service refuses the request for another reason.
            Unreachable: a site that the request needs does not answer.
        """
        reply = await self.send(question, "GET", service, path)
        if reply.status == 404:
            return None
        found = self.expect(reply)
        shown = found.get(key) if key else found
        if not isinstance(shown, dict):
            raise self._malformed()
        return shown

    async def list(self, question: Question, service: str, path: str, key: str, query: Mapping[str, str] | None = None) -> Listed:
        """Return all items of a list of all sites that the caller sees.

        Args:
            question: the request of the caller.
            service: compute or image.
            path: the path of the list.
            key: the property of the answer that holds the items.
            query: the filters.

        Raises:
            Problem: the service refuses the request.
            Unreachable: a site that the request needs does not answer.
        """
        listed, marker = Listed(), ""
        for _page in range(MOST_PAGES):
            parameters = {**(query or {}), "limit": str(PAGE)} | ({"marker": marker} if marker else {})
            reply = await self.send(question, "GET", service, f"{path}?{urlencode(parameters)}")
            body = self.expect(reply)
            items = body.get(key)
            if not isinstance(items, list) or not all(isinstance(item, dict) and isinstance(item.get("id"), str) for item in items):
                raise self._malformed()
            listed.items += items
            listed.missing = listed.missing or reply.headers.get(MISSING, "")
            if not items or not ("next" in body or f"{key}_links" in body):
                return listed
            marker = items[-1]["id"]
        raise Unreachable(self._here, f"the list has more than {MOST_PAGES * PAGE} items")

    def expect(self, reply: Reply) -> dict[str, Any]:
        """Return the body of a service's success; an empty object if it has none.

        Raises:
            Problem: the service refuses the request.
            Unreachable: the answer is malformed.
        """
        if not reply.ok:
            raise of_service(reply)
        try:
            body = reply.json() if reply.body else {}
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._malformed()
        return body

    def _malformed(self) -> Unreachable:
        return Unreachable(self._here, "a service's answer is malformed")
