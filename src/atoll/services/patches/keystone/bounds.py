"""Bounds on the data that users can make Keystone store.

Identity data that one site stores is replicated to all sites. Upstream bounds the size of a request (112 KiB) and little else: it keeps
unknown fields of a trust, descriptions of any length, and any number of trusts. Where upstream has an option, Atoll sets it (`user_limit`
in `services/keystone/service.py`); this middleware adds the other bounds. It is the innermost of Keystone's own middleware
(`setup_app_middleware` in keystone/server/flask/core.py), so it knows the caller. `identity/bounds.py` bounds the replicated data, and
never accepts less than this middleware does.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from atoll.identity.bounds import FULL_MARK, MAX_DOCUMENT, MAX_LONG, MAX_RECORD_BYTES

MAX_BODY = MAX_RECORD_BYTES // 2
"""Greatest number of bytes of a request's body, unless `_BODIES` has another bound for the path."""

_BODIES = {"projects": 48 * 1024} | dict.fromkeys(
    ("OS-FEDERATION", "policies", "OS-EP-FILTER", "domains", "limits", "registered_limits"), MAX_DOCUMENT
)
"""Greatest size of a request's body, in bytes, by the first part of its path, for resources with tags or of administrators."""

_WHOLE = frozenset({"tags", "roles", "access_rules", "rules", "blob", "filters", "endpoint_group", "remote_ids"})
"""Fields that are bounded only by the greatest size of the body."""

MAX_FIELDS = 64
"""Greatest number of fields of one resource."""

TRUSTS_PER_USER = 64
ACCESS_RULES_PER_USER = 256
CREDENTIALS_PER_USER = 64
"""Greatest number of application credentials of one user, and of other credentials (EC2, TOTP and others): `user_limit` of each."""

CHANGES_PER_DAY = 2000
REVOCATIONS_PER_DAY = 200
"""Numbers of changes and of token revocations that a user who is not an administrator may make in one burst, and per day after that."""

_DAY_S = 24 * 3600
_MOST_USERS = 10_000
_PRIVILEGED = frozenset({"admin", "service"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

DISCARDED = 1 << 20
"""Most bytes that are read and discarded of a body that is too large; a gateway sends no larger body."""

_TITLES = {400: "Bad Request", 403: "Forbidden", 413: "Request Entity Too Large", 429: "Too Many Requests"}

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Refusal(Exception):
    """A refusal of a request, with its answer.

    Attributes:
        status: the HTTP status.
        message: one line for the user.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def answer(self, start_response: Callable[..., Any]) -> list[bytes]:
        """Start an answer in the form of Keystone's errors, and return its body."""
        title = _TITLES[self.status]
        body = json.dumps({"error": {"code": self.status, "title": title, "message": self.message}}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{self.status} {title}", [*headers, *([("Retry-After", "3600")] if self.status == 429 else [])])
        return [body]


class Budget:
    """A bucket of tokens for each user, which fills within a day."""

    def __init__(self, a_day: int, now: Callable[[], float] = time.monotonic) -> None:
        """Create a full bucket for each user.

        Args:
            a_day: the size of a bucket.
            now: returns monotonic seconds.
        """
        self._size = float(a_day)
        self._now = now
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, user: str) -> bool:
        """Take a token out of a user's bucket; return False if it is empty."""
        with self._lock:
            now = self._now()
            left, since = self._left.pop(user, (self._size, now))
            left = min(self._size, left + (now - since) * self._size / _DAY_S)
            self._left[user] = (left - 1 if left >= 1 else left, now)
            if len(self._left) > _MOST_USERS:
                self._left.popitem(last=False)
            return left >= 1


class Bounds:
    """A WSGI middleware that refuses requests beyond the bounds.

    Args:
        application: the application behind it.
        mark: a file that exists while this site's share of the space for the cloud's identity data is nearly full.
    """

    def __init__(self, application: Application, mark: Path | None = None) -> None:
        self._application = application
        self._mark = mark
        self._changes = Budget(CHANGES_PER_DAY)
        self._revocations = Budget(REVOCATIONS_PER_DAY)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or pass it on."""
        try:
            if environ["REQUEST_METHOD"] not in _READS:
                self._check(environ)
        except Refusal as refusal:
            return refusal.answer(start_response)
        return self._application(environ, start_response)

    def _check(self, environ: dict[str, Any]) -> None:
        method = environ["REQUEST_METHOD"]
        path = [part for part in environ.get("PATH_INFO", "").split("/") if part]
        path = path[1:] if path[:1] == ["v3"] else path
        if path[:1] == ["auth"] and method != "DELETE":
            return  # nothing is stored
        user, roles = _caller(environ)
        privileged = not _PRIVILEGED.isdisjoint(roles)
        body = _body(environ, _BODIES.get(path[0] if path else "", MAX_BODY))
        if method != "DELETE":
            self._check_room(privileged)
            _check_fields(path, body)
            _check_growth(method, path, body)
            _check_numbers(path, body, user)
        if user and not privileged:
            self._spend(user, revokes=path[:1] == ["auth"])

    def _check_room(self, privileged: bool) -> None:
        try:
            full = int(self._mark.read_text(encoding="ascii")) if self._mark else 0
        except (OSError, ValueError):
            return
        if full >= (95 if privileged else 75):
            raise Refusal(
                403,
                f"This site's share of the space for the cloud's identity data is {full} % full: delete a resource, or ask the operator.",
            )

    def _spend(self, user: str, *, revokes: bool) -> None:
        if revokes and not self._revocations.spend(user):
            raise Refusal(429, f"You have revoked {REVOCATIONS_PER_DAY} tokens within a day, which is the limit.")
        if not self._changes.spend(user):
            raise Refusal(429, f"You have made {CHANGES_PER_DAY} changes within a day, which is the limit.")


def _caller(environ: Mapping[str, Any]) -> tuple[str, Iterable[str]]:
    """Return the id and the roles of the caller; an empty id if the caller is unknown."""
    from keystone.common import context

    found = environ.get(context.REQUEST_CONTEXT_ENV)
    return (found.user_id or "", found.roles or ()) if found else ("", ())


def _discard(body: Any, size: int) -> None:
    """Read a body of `size` bytes to its end, so that a client that is still sending gets the answer instead of a closed connection."""
    left = min(size, DISCARDED)
    while left > 0 and (piece := body.read(min(left, 1 << 16))):
        left -= len(piece)


def _body(environ: dict[str, Any], max_bytes: int) -> Any:
    """Return the JSON of a request, which can be read again; `None` if it has none, or one that Keystone will refuse."""
    declared = environ.get("CONTENT_LENGTH") or ""
    if declared.isdigit() and int(declared) > max_bytes:
        _discard(environ["wsgi.input"], int(declared))
        raise Refusal(413, f"The request's body is larger than {max_bytes} bytes.")
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if not declared.isdigit() and not chunked:
        return None
    data = environ["wsgi.input"].read(int(declared) if declared.isdigit() else max_bytes + 1)
    if len(data) > max_bytes:
        raise Refusal(413, f"The request's body is larger than {max_bytes} bytes.")
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(data), str(len(data))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def caller_id(environ: Mapping[str, Any]) -> str:
    """Return the id of the caller; empty if the caller is unknown."""
    return _caller(environ)[0]


def fields_of(environ: dict[str, Any]) -> Mapping[str, Any]:
    """Return the fields of the resource in a request's body, which can be read again. `Bounds` must have bounded the body."""
    return _resource(_body(environ, MAX_DOCUMENT))[1]


def _resource(body: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the fields of the resource in a body."""
    if isinstance(body, dict) and len(body) == 1:
        (name, fields), *_ = body.items()
        if isinstance(fields, dict):
            return name, fields
    return "", {}


def _check_fields(path: list[str], body: Any) -> None:
    name, fields = _resource(body)
    if len(fields) > MAX_FIELDS:
        raise Refusal(400, f"The {name:.40} has {len(fields)} fields: {MAX_FIELDS} are allowed.")
    if path[:2] == ["OS-TRUST", "trusts"]:
        from keystone.trust import schema

        known = schema.trust_create_request_body["properties"]["trust"]["properties"]
        if unknown := sorted(fields.keys() - known.keys()):
            raise Refusal(400, f"A trust has no field {unknown[0]!r:.100}.")
    if path[:1] in (["OS-FEDERATION"], ["OS-EP-FILTER"], ["policies"]) or path[2:3] == ["config"]:
        return
    for field, value in fields.items():
        size = len(value) if isinstance(value, str) else len(json.dumps(value))
        if field not in _WHOLE and size > MAX_LONG:
            raise Refusal(400, f"The field {field!r:.100} of the {name:.40} has {size} characters: {MAX_LONG} are allowed.")


def _check_growth(method: str, path: list[str], body: Any) -> None:
    """Refuse a change by which repeated requests could make a resource grow without bound."""
    from keystone import exception
    from keystone.common import provider_api

    providers = provider_api.ProviderAPIs
    readers: dict[str, tuple[str, str]] = {
        "users": ("identity_api", "get_user"),
        "groups": ("identity_api", "get_group"),
        "projects": ("resource_api", "get_project"),
        "domains": ("resource_api", "get_domain"),
        "roles": ("role_api", "get_role"),
        "services": ("catalog_api", "get_service"),
        "endpoints": ("catalog_api", "get_endpoint"),
        "regions": ("catalog_api", "get_region"),
    }
    if method != "PATCH" or len(path) != 2 or path[0] not in readers:
        return
    name, fields = _resource(body)
    manager, reader = readers[path[0]]
    try:
        merged = {**getattr(getattr(providers, manager), reader)(path[1]), **fields}
    except exception.Error:
        return  # there is none
    max_bytes = _BODIES["projects"] if path[0] in {"projects", "domains"} else MAX_BODY
    if len(merged) > MAX_FIELDS or len(json.dumps(merged, default=str)) > max_bytes:
        raise Refusal(400, f"The {name:.40} would be too large: {MAX_FIELDS} fields and {max_bytes} bytes are allowed.")


def _check_numbers(path: list[str], body: Any, user: str) -> None:
    from keystone.common import provider_api

    providers = provider_api.ProviderAPIs
    if path == ["OS-TRUST", "trusts"] and user and len(providers.trust_api.list_trusts_for_trustor(user)) >= TRUSTS_PER_USER:
        raise Refusal(403, f"You have {TRUSTS_PER_USER} trusts, which is the limit: delete one.")
    rules = _resource(body)[1].get("access_rules")
    if len(path) == 3 and path[::2] == ["users", "application_credentials"] and isinstance(rules, list):
        known = providers.application_credential_api.list_access_rules_for_user(path[1])
        if len(known) + len(rules) > ACCESS_RULES_PER_USER:
            raise Refusal(403, f"You would have more than {ACCESS_RULES_PER_USER} access rules, which is the limit: delete some.")


def install(sockets: Path) -> None:
    """Put the middleware into Keystone's chain, behind the one that identifies the caller.

    Args:
        sockets: the directory of the site's sockets, where its gateway puts `FULL_MARK`.
    """
    from keystone.server.flask import core

    core._KEYSTONE_MIDDLEWARE = (*core._KEYSTONE_MIDDLEWARE, lambda application: Bounds(application, sockets / FULL_MARK))
