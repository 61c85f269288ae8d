"""The target of a request: which service it is for. What could mean something else to a service than to us is refused here.

A proxy and the server behind it that read one request in two ways are how requests get where they must not (CWE-444, CWE-22). So nothing
is normalised: what is not plain is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

SERVICES = ("identity", "compute", "image", "network", "placement", "load-balancer")

STRICT = "/strict"
"""What a URL begins with whose lists are whole or refused, in front of a scope."""

_PLAIN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/\-]*(\?[\x21-\x7e]*)?")
"""RFC 3986, section 3.3, and a query."""

_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HIDDEN = re.compile(r"%(2e|2f|5c|0[0-9a-f]|1[0-9a-f]|7f|25|2d|5f|3[0-9]|[46][1-9a-f]|[57][0-9a])", re.IGNORECASE)
"""Escapes that become a dot, a slash, a backslash or a control character; or, decoded once, the beginning of another escape; or a letter, a
digit, `-` or `_`, which nobody needs to escape (RFC 3986, section 2.3), and by which one id would have two spellings."""


class Refused(Exception):  # noqa: N818
    """A target that is not forwarded.

    Args:
        status: HTTP status.
        message: for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Target:
    """Where a request goes.

    Attributes:
        prefix: what precedes the service's own path in the URL (`/compute`, `/strict/scope/EXPRESSION/compute`).
        service: one of `SERVICES`; empty for a path of the gateway's own.
        path: the rest, from a slash on.
        query: as it was sent.
        scope: the expression of the URL; None if there is none.
        strict: the URL asks for lists that are whole or refused.
    """

    prefix: str
    service: str
    path: str
    query: str
    scope: str | None = None
    strict: bool = False


def parse(raw: str) -> Target:
    """Take a request's target apart.

    Raises:
        Refused: it is not plain, or names no service.
    """
    if not _PLAIN.fullmatch(raw):
        raise Refused(400, "the request's target is not a plain path")
    path, _mark, query = raw.partition("?")
    if "//" in path or _ESCAPE.search(path) or any(part in {".", ".."} for part in path.split("/")):
        raise Refused(400, "the path has empty, relative or malformed parts")
    scope, prefix = None, ""
    strict = path.startswith(f"{STRICT}/")
    if strict:
        prefix, path = STRICT, path[len(STRICT) :]
    if path.startswith("/scope/"):
        expression, _slash, rest = path[7:].partition("/")
        scope, prefix, path = unquote(expression), f"{prefix}/scope/{expression}", f"/{rest}"
    if _HIDDEN.search(path):
        raise Refused(400, "the path has encoded letters, digits, dots, slashes, backslashes, percent signs or control characters")
    first, slash, rest = path[1:].partition("/")
    if first in SERVICES:
        return Target(f"{prefix}/{first}", first, f"/{rest}" if slash else "/", query, scope, strict)
    if path in {"/", "/healthcheck"} or (first == "console" and slash and not prefix):
        return Target(prefix, "", path, query, scope, strict)
    raise Refused(404, f"there is no service /{first}; there are {', '.join(SERVICES)}")
