"""The errors of edge APIs: CAMARA's JSON object with `status`, `code` and `message`, or the problem details of ETSI's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from multidict import CIMultiDict

from atoll.gateway.answers import error_text
from atoll.gateway.request.call import Reply, json_reply

LONGEST_MESSAGE = 512
"""Greatest number of characters of a message that the standards accept."""

_CODES = {
    HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
    HTTPStatus.UNAUTHORIZED: "UNAUTHENTICATED",
    HTTPStatus.FORBIDDEN: "PERMISSION_DENIED",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.CONFLICT: "ABORTED",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    HTTPStatus.TOO_MANY_REQUESTS: "TOO_MANY_REQUESTS",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL",
    HTTPStatus.NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
}
"""The usual code of each status. Any other refusal of the gateway concerns the size or the time of a body: `400`."""

_HEADERS = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", "Bearer"),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After", "1"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After", "1"),
}

_QUOTA = "Quota exceeded"
"""First words of Nova's 403 for a request that a quota forbids (nova/exception.py)."""


class Problem(Exception):
    """A request that is answered by an error.

    Args:
        status: the HTTP status.
        message: the error, as one sentence.
        code: the standard's name of the error; by default the usual one of the status.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status if status in _CODES or code else HTTPStatus.BAD_REQUEST.value
        self.code = code or _CODES[HTTPStatus(self.status)]
        self.message = message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 1]}…"
        self.headers = dict(headers or {})

    def reply(self, site: str) -> Reply:
        """Return the error as an answer of a site."""
        reply = json_reply(self.status, {"status": self.status, "code": self.code, "message": self.message}, site)
        if (header := _HEADERS.get(HTTPStatus(self.status))) is not None:
            reply.headers[header[0]] = header[1]
        reply.headers.update(self.headers)
        return reply


def problem_details(problem: Problem, site: str) -> Reply:
    """Return an error in the form of ETSI's APIs, a problem details object (RFC 9457), as an answer of a site."""
    body = {"title": problem.code, "status": problem.status, "detail": problem.message}
    reply = problem.reply(site)
    headers = CIMultiDict(reply.headers)
    headers["Content-Type"] = "application/problem+json"
    return Reply(problem.status, headers, json.dumps(body).encode(), site)


def invalid(message: str) -> Problem:
    """Return the error for a request that the standard's schema does not allow."""
    return Problem(400, message)


def undecided(error: Exception) -> bool:
    """Return whether an error leaves a service's decision open: the service or its site does not answer, fails, or is busy."""
    return not isinstance(error, Problem) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def of_service(reply: Reply) -> Problem:
    """Return the error for a service's refusal of a request that the gateway has sent with the caller's token."""
    message = error_text(reply) or f"HTTP {reply.status}"
    if reply.status == HTTPStatus.FORBIDDEN and message.startswith(_QUOTA):
        return Problem(429, message, "QUOTA_EXCEEDED")
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem(503 if reply.status == HTTPStatus.SERVICE_UNAVAILABLE else 500, message)
    return Problem(reply.status, message)
