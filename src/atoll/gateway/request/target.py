"""Parses the target of a request, and refuses targets that a service might interpret differently from the gateway.

A request that a proxy and the server behind it interpret differently can reach resources that it must not (CWE-444, CWE-22). So the gateway
normalises no target: it refuses a target that is not plain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

SERVICES = ("identity", "compute", "image", "network", "placement", "load-balancer")
"""First segments of the paths of services."""

STRICT = "/strict"
"""First segment of a URL, before a scope, that asks for complete lists or an error."""

_PLAIN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/\-]*(\?[\x21-\x7e]*)?")
"""A path (RFC 3986, section 3.3) with an optional query."""

_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HIDDEN = re.compile(r"%(2e|2f|5c|0[0-9a-f]|1[0-9a-f]|7f|25|2d|5f|3[0-9]|[46][1-9a-f]|[57][0-9a])", re.IGNORECASE)
"""Escapes of a dot, slash, backslash, percent sign or control character, and of letters, digits, `-` and `_`.

No client needs to escape letters, digits, `-` and `_` (RFC 3986, section 2.3), and with escapes one id would have two spellings."""


_INTERNAL = re.compile(r"(expanded[-_](ports|networks)|port[-_]group[-_]names)(\..*)?")
"""Collections of Neutron that only its site's Nova uses. Through a gateway they would be ports and networks under another name, and escape
the gateway's rules for copies."""


class Refused(Exception):
    """The gateway itself refuses a request.

    Args:
        status: the HTTP status.
        message: the reason, as one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Target:
    """The parsed target of a request.

    Attributes:
        prefix: the part of the URL before the service's own path (`/compute`, `/strict/scope/EXPRESSION/compute`).
        service: one of `SERVICES`; empty for a path of the gateway's own.
        path: the service's own path, which begins with a slash.
        query: the part after the question mark, as it was sent.
        scope: the scope in the URL; `None` if there is none.
        strict: whether the URL asks for complete lists or an error.
    """

    prefix: str
    service: str
    path: str
    query: str
    scope: str | None = None
    strict: bool = False


def parse(raw: str, *, of_service: bool = False) -> Target:
    """Parse the target of a request.

    Args:
        raw: the target as it was sent.
        of_service: whether a service of this site sent the request; it may use collections that no client may use.

    Raises:
        Refused: the target is not plain, names no service, or names a collection that only services use.
    """
    if not _PLAIN.fullmatch(raw):
        raise Refused(400, "the target of the request is not a plain path (expected /SERVICE/PATH?QUERY in unescaped ASCII)")
    path, _mark, query = raw.partition("?")
    if "//" in path or _ESCAPE.search(path) or any(part in {".", ".."} for part in path.split("/")):
        raise Refused(400, "the path has empty or relative segments, or malformed escapes")
    scope, prefix = None, ""
    strict = path.startswith(f"{STRICT}/")
    if strict:
        prefix, path = STRICT, path[len(STRICT) :]
    if path.startswith("/scope/"):
        expression, _slash, rest = path[7:].partition("/")
        scope, prefix, path = unquote(expression), f"{prefix}/scope/{expression}", f"/{rest}"
    if _HIDDEN.search(path):
        raise Refused(
            400,
            "the path has escaped letters, digits, dots, slashes, backslashes, percent signs or control characters",
        )
    first, slash, rest = path[1:].partition("/")
    if first == "network" and not of_service and _is_internal(rest):
        raise Refused(
            404,
            "the collections expanded-ports, expanded-networks and port-group-names are for the services of a site: use ports and networks",
        )
    if first in SERVICES:
        return Target(f"{prefix}/{first}", first, f"/{rest}" if slash else "/", query, scope, strict)
    if path in {"/", "/healthcheck"} or (first == "console" and slash and not prefix):
        return Target(prefix, "", path, query, scope, strict)
    raise Refused(404, f"there is no service /{first:.40}: expected one of {', '.join(SERVICES)}")


def _is_internal(path: str) -> bool:
    """Return whether a path of Neutron is below a collection that only services use; False for its description below `extensions`."""
    # A collection may stand behind a prefix, such as `fwaas`.
    collections = path.split("/")[1:3]
    return collections[:1] != ["extensions"] and any(_INTERNAL.fullmatch(part) for part in collections)
