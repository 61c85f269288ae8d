"""Access rules of application credentials that are compared with a service's own paths.

keystonemiddleware compares a rule's path with the path that the client requested (`BaseAuthProtocol.validate_allowed_request` in
keystonemiddleware/auth_token/__init__.py). Behind the gateway that path begins with the gateway's prefix, so a rule for `/v2.1/servers`
would never match. The patch replaces

- the path, by the one without the prefix, which the gateway sends in `X-Forwarded-Prefix`; a rule may still contain the prefix;
- the exemption of requests with a service token. Upstream exempts a request with any text in `X-Service-Token`, and relies on a later
  refusal of that text, which Keystone's own middleware lacks. Here the token must be a service's, and not the gateway's, whose service
  token vouches for an id in a request that is the user's own;
- the comparison (`_path_matches`), by one in linear time: upstream makes a regular expression of a path that any user may choose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from types import SimpleNamespace
from typing import Any

import webob
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _exceptions

from atoll.identifiers import GATEWAY_SERVICES, gateway_role

PREFIX = "HTTP_X_FORWARDED_PREFIX"
"""The key of the WSGI environment with the prefix that the gateway has removed. The gateway drops a client's own header of that name."""

_GATEWAYS = frozenset(map(gateway_role, GATEWAY_SERVICES))

_TOKEN = re.compile(r"(?P<part>{[^}]*}|\*(?=$|[^*]))|(?P<rest>\*\*)|(?P<literal>[^{}*])")
_PART, _REST = "part", "rest"


@lru_cache(maxsize=512)
def _tokens(pattern: str) -> tuple[str, ...]:
    """Split a rule's path into characters, path segments (`{tag}` and `*`), and arbitrary text (`**`)."""
    return tuple(found["literal"] or str(found.lastgroup) for found in _TOKEN.finditer(pattern))


def matches(path: str, pattern: str) -> bool:
    """Return whether a request's path matches a rule's.

    Args:
        path: the path of the request.
        pattern: the path of the rule: `{tag}` and `*` match one path segment each, `**` matches anything.
    """
    tokens = _tokens(pattern)
    at = _over(tokens, {0})
    for character in path:
        following: set[int] = set()
        for index in at:
            token = tokens[index] if index < len(tokens) else ""
            if token == _REST:
                following.add(index)
            elif token == _PART and character != "/":
                following |= {index, index + 1}
            elif token == character:
                following.add(index + 1)
        at = _over(tokens, following)
    return len(tokens) in at


def _over(tokens: tuple[str, ...], at: Iterable[int]) -> set[int]:
    """Add the positions that are reached without reading a character: those after each `**`."""
    reached = set(at)
    for index in tuple(reached):
        further = index
        while further < len(tokens) and tokens[further] == _REST:
            further += 1
            reached.add(further)
    return reached


def behind_prefix(upstream: Callable[..., None]) -> Callable[..., None]:
    """Wrap `validate_allowed_request`, so that it sees the service's own path.

    Args:
        upstream: upstream's method.
    """

    @wraps(upstream)
    def validate_allowed_request(self: Any, request: Any, token: dict[str, Any]) -> None:
        credential = token.get("application_credential") or {}
        rules = credential.get("access_rules")
        if rules is None:
            return upstream(self, request, token)
        prefix = request.environ.get(PREFIX, "")
        service_token = request.service_token if _of_service(self, request) else None
        seen = SimpleNamespace(method=request.method, path=_own_path(request.environ, prefix), service_token=service_token)
        more = [rule | {"path": _without(prefix, rule["path"])} for rule in rules]
        return upstream(self, seen, token | {"application_credential": credential | {"access_rules": [*rules, *more]}})

    return validate_allowed_request


def _own_path(environ: dict[str, Any], prefix: str) -> str:
    """Return the path without the prefix, which oslo.middleware has put into `SCRIPT_NAME` as it was sent, perhaps percent-encoded."""
    name = environ.get("SCRIPT_NAME", "")
    return str(webob.Request({**environ, "SCRIPT_NAME": name.removeprefix(prefix)}).path)


def _without(prefix: str, path: str) -> str:
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


def _of_service(middleware: Any, request: Any) -> bool:
    """Return whether a service other than the gateway sends the request in the user's name."""
    if not request.service_token or not request.service_token_valid:
        return False
    try:
        _data, reference = middleware._do_fetch_token(request.service_token)
    except _exceptions.InvalidToken:
        return False
    return not _GATEWAYS & set(reference.role_names)


def install() -> None:
    """Replace the path, the exemption and the comparison in this process's keystonemiddleware."""
    auth_token._path_matches = matches
    protocol = auth_token.BaseAuthProtocol
    if not hasattr(protocol.validate_allowed_request, "__wrapped__"):
        protocol.validate_allowed_request = behind_prefix(protocol.validate_allowed_request)
