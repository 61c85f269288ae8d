"""The front of edge APIs: admits a request, confirms its caller, finds its operation, and answers errors in the standard's form.

All APIs share this part, so that limits, tokens, `x-correlator` and the form of errors are the same at each path.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qsl

from aiohttp import web

from atoll.gateway.edge.caller import ConfirmedCaller, confirm, token_of
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.options import Options
from atoll.gateway.request import headers as heads
from atoll.gateway.request.call import Reply, Unreachable
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites

CORRELATOR = "x-correlator"
"""Header by which client and server name a request in their logs; every answer has it."""

_CORRELATOR = re.compile(r"[a-zA-Z0-9\-_:;./<>{}]{0,256}")


@dataclass(frozen=True)
class Door:
    """The parts of the public port's server that a request needs.

    Attributes:
        admit: checks the head of the request and counts it against the limits of its client, given the token; empty for none. Returns the
            user of the token; empty if no site of the cloud has signed it.
        body: reads the body, given the greatest number of bytes.
    """

    admit: Callable[[str], Awaitable[str]]
    body: Callable[[int], Awaitable[bytes]]


class Body(Enum):
    """The rule for the JSON body of an operation's requests.

    Attributes:
        NONE: a body is refused.
        OPTIONAL: a request without a body has a meaning.
        REQUIRED: a request has a body.
        UNREAD: the body is not read, because the operation refuses every request.
    """

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"
    UNREAD = "unread"


@dataclass(frozen=True)
class Question:
    """A request of a confirmed caller for one operation.

    Attributes:
        caller: the caller.
        token: the caller's token.
        user: the user of the token, by whose number of requests a service's turns are shared; empty if no site has signed the token.
        request_id: the id of the request in the logs of all sites.
        remote: the address at the other end of the connection.
        headers: the headers of the request.
        names: the variable segments of the path, such as ids; the operation's pattern has accepted them.
        query: the parameters of the query; the operation knows each of them.
        body: the body; empty if there is none.
    """

    caller: ConfirmedCaller
    token: str
    user: str
    request_id: str
    remote: str | None
    headers: Mapping[str, str]
    names: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Upgraded:
    """An answer that takes over the connection, as a WebSocket does.

    Attributes:
        open: answers the request, and returns when the connection is no longer used.
    """

    open: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class EdgeOperation:
    """One operation of an API.

    Attributes:
        method: the HTTP method.
        path: the path; its groups become `Question.names`.
        answer: answers a request.
        body: whether a request has a body.
        most_bytes: greatest number of bytes of the body.
        query: the parameters that the query may have, each at most once.
        repeated: those of them that may occur several times; their values are joined by commas.
        show: the operation for people, in the message for a path that does not exist.
    """

    method: str
    path: re.Pattern[str]
    answer: Callable[[Question], Awaitable[Reply | Upgraded]]
    show: str
    body: Body = Body.NONE
    most_bytes: int = 0
    query: frozenset[str] = frozenset()
    repeated: frozenset[str] = frozenset()


ErrorForm = Callable[[Problem, str], Reply]
"""A function that returns an error as an answer of a site."""


class EdgeApis:
    """Edge APIs of one site's gateway, whose errors have one form.

    Args:
        options: the gateway's settings.
        sites: sends requests to this site's Keystone.
        operations: the operations of the APIs.
        form: the form of errors.
    """

    def __init__(self, options: Options, sites: Sites, operations: Sequence[EdgeOperation], form: ErrorForm = Problem.reply) -> None:
        self._site = options.site
        self._sites = sites
        self._operations = tuple(operations)
        self._form = form

    async def answer(self, request: web.BaseRequest, door: Door) -> Reply | web.StreamResponse:
        """Answer a request, valid or not.

        Args:
            request: the request.
            door: see `Door`.

        Returns:
            The answer; or the response of a connection that was upgraded, and has been used.
        """
        said = request.headers.getall(CORRELATOR, [])
        # A correlator that is not well-formed is not repeated in the answer.
        valid = len(said) < 2 and all(map(_CORRELATOR.fullmatch, said))
        correlator = said[0] if said and valid else str(uuid.uuid4())
        try:
            answer = await self._answer(request, door, valid=valid)
            if isinstance(answer, Upgraded):
                return await answer.open(request)
            reply = answer
        except Problem as problem:
            reply = self._form(problem, self._site)
        except Refused as refused:
            reply = self._form(Problem(refused.status, refused.message), self._site)
        except web.RequestPayloadError as error:
            reply = self._form(invalid(f"the body of the request is malformed: {error}"), self._site)
        except Unreachable as error:
            reply = self._form(Problem(503, str(error)), self._site)
        reply.headers[CORRELATOR] = correlator
        return reply

    async def _answer(self, request: web.BaseRequest, door: Door, *, valid: bool) -> Reply | Upgraded:
        try:
            headers = heads.of_client(request.headers)
            token = token_of(headers)
        except (Problem, Refused):
            await door.admit("")
            raise
        user = await door.admit(token)
        operation, names, query = self._find(request)
        if not valid:
            raise invalid(f"the {CORRELATOR} header is not well-formed: expected at most 256 letters, digits and -_:;./<>{{}}")
        request_id = heads.request_id(headers.get(heads.REQUEST_ID))
        caller = await confirm(self._sites, token, request_id)
        body = await _body(request, door, operation)
        return await operation.answer(Question(caller, token, user, request_id, request.remote, request.headers, names, query, body))

    def _find(self, request: web.BaseRequest) -> tuple[EdgeOperation, tuple[str, ...], Mapping[str, str]]:
        """Return the operation of a request, the variable segments of its path, and the parameters of its query.

        Raises:
            Problem: the APIs have no such operation, or it has no such parameter.
        """
        path, mark, text = request.raw_path.partition("?")
        found = [(operation, match) for operation in self._operations if (match := operation.path.fullmatch(path))]
        if not found:
            raise Problem(404, f"there is no such operation: expected {self._expected(path)}")
        for operation, match in found:
            if operation.method == request.method:
                return operation, match.groups(), _query(operation, mark, text)
        allowed = ", ".join(sorted(operation.method for operation, _match in found))
        raise Problem(405, f"unknown method for this path: expected {allowed}", headers={"Allow": allowed})

    def _expected(self, path: str) -> str:
        """Return the operations of the API to which a path belongs, for people."""
        root = path.split("/")[1]
        return ", ".join(operation.show for operation in self._operations if operation.show.split("/")[1] == root)


async def _body(request: web.BaseRequest, door: Door, operation: EdgeOperation) -> bytes:
    """Return the body of a request for an operation.

    Raises:
        Problem: there is a body where none is expected, or it is not declared as JSON.
    """
    if operation.body is Body.NONE:
        if request.body_exists:
            raise invalid("the operation has no body")
        return b""
    if operation.body is Body.UNREAD or (operation.body is Body.OPTIONAL and not request.body_exists):
        return b""
    if request.content_type != "application/json":
        raise Problem(415, "the body of the request is not declared as JSON: expected Content-Type: application/json")
    return await door.body(operation.most_bytes)


def _query(operation: EdgeOperation, mark: str, text: str) -> Mapping[str, str]:
    """Return the parameters of a query.

    Raises:
        Problem: the operation has no such parameter, or a parameter occurs twice.
    """
    if not operation.query:
        if mark:
            raise invalid("the operation has no query parameters")
        return {}
    expected = f"expected {', '.join(sorted(operation.query))}"
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError:
        raise invalid(f"the query is malformed: {expected}") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in operation.query or (name in query and name not in operation.repeated):
            raise invalid(f"the query has an unknown or a repeated parameter: {expected}")
        query[name] = f"{query[name]},{value}" if name in query else value
    return query
