"""The errors of CAMARA's APIs: a JSON object with `status`, `code` and `message`, and the header `x-correlator`."""

from __future__ import annotations

from http import HTTPStatus

from atoll.gateway.request.call import Reply, json_reply

_CODES = {
    HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
    HTTPStatus.UNAUTHORIZED: "UNAUTHENTICATED",
    HTTPStatus.FORBIDDEN: "PERMISSION_DENIED",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    HTTPStatus.TOO_MANY_REQUESTS: "TOO_MANY_REQUESTS",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
}
"""The usual code of each status. Any other refusal of the gateway concerns the size or the time of a body: `400`."""

_HEADERS = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", "Bearer"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("Allow", "POST"),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After", "1"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After", "1"),
}


class Problem(Exception):
    """A request that is answered by an error.

    Args:
        status: the HTTP status.
        message: the error, as one sentence.
        code: the standard's name of the error; by default the usual one of the status.
    """

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status if status in _CODES or code else HTTPStatus.BAD_REQUEST.value
        self.code = code or _CODES[HTTPStatus(self.status)]
        self.message = message

    def reply(self, site: str) -> Reply:
        """Return the error as an answer of a site."""
        reply = json_reply(self.status, {"status": self.status, "code": self.code, "message": self.message}, site)
        if (header := _HEADERS.get(HTTPStatus(self.status))) is not None:
            reply.headers[header[0]] = header[1]
        return reply


def invalid(message: str) -> Problem:
    """Return the error for a request that the standard's schema does not allow."""
    return Problem(400, message)
