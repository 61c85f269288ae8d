"""Decides which headers of a request or an answer are passed on."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

from atoll.gateway.request.target import Refused

HOP = "X-Atoll-Hop"
"""Set by a gateway on its requests to another gateway, which then answers from its own services alone."""

SEEN = "X-Atoll-Seen"
"""Set by a gateway on its requests to another gateway: the digest of its identity data; see `identity.freshness`."""

GIVEN_ID = "X-Atoll-Given-Id"
"""Set by a gateway on a user's request to create a resource whose id that gateway has chosen."""

ACCEPTS = "X-Atoll-Accepts"
"""Set by a gateway on a request that reads a resource: a method; the answer then also says whether the method would be refused."""

REFUSAL = "X-Atoll-Refusal"
"""Set in the answer to a request with `ACCEPTS`: the reason why the method would be refused; see `copies.in_use`."""

STRICT = "X-Atoll-Strict"
"""Set by a client: `1` asks for complete lists or an error, `0` for lists of the sites that answer."""

SITE = "X-Atoll-Site"
"""Set in answers: the sites that answered, joined by commas."""

MISSING = "X-Atoll-Missing"
"""Set in answers: the sites that should have answered and did not, joined by commas."""

MOVED = "X-Atoll-Moved"
"""Set by a gateway in its 404 for a server that it has handed off: the site that the server went to."""

SCOPE = "X-Scope"
"""Set by a client: the scope of the request."""

REQUEST_ID = "X-Openstack-Request-Id"
"""Set by clients and gateways: the id by which the logs of all sites name the request."""

_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"),
        *("te", "trailer", "transfer-encoding", "upgrade", "expect"),
    )
)
"""Headers that belong to one connection (RFC 9110, section 7.6.1). The gateway itself answers `Expect`."""

_OURS = ("x-atoll-", "x-forwarded-", "forwarded")
"""Prefixes of headers that only gateways may set; a client's headers with these prefixes are dropped."""

_OF_GATEWAYS = frozenset(name.lower() for name in (GIVEN_ID, ACCEPTS))
"""The headers with a prefix of `_OURS` that are kept in a request of another gateway."""

_LISTS = frozenset(
    (
        *("accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "allow", "cache-control", "connection"),
        *("content-encoding", "content-language", "expect", "if-match", "if-none-match", "keep-alive", "link", "openstack-api-version"),
        *("pragma", "prefer", "te", "tracestate", "trailer", "transfer-encoding", "upgrade", "vary", "via", "warning"),
    )
)
"""Headers whose values are lists, so that repeated headers form one list (RFC 9110, section 5.3).

Any other header may occur only once: of two values, the gateway might read one and the service the other."""

_OF_MIDDLEWARE = frozenset(
    (
        *("x-identity-status", "x-service-identity-status", "x-is-admin-project", "openstack-system-scope", "x-service-catalog"),
        *("x-role", "x-user", "x-tenant", "x-tenant-id", "x-tenant-name"),
        *(
            f"x{prefix}-{each}"
            for prefix in ("", "-service")
            for each in (
                *("domain-id", "domain-name", "project-id", "project-name", "project-domain-id", "project-domain-name", "roles"),
                *("user-id", "user-name", "user-domain-id", "user-domain-name"),
            )
        ),
        "proxy",
    )
)
"""Headers by which keystonemiddleware names the user to a service, and `Proxy`, which CGI takes for its own proxy (CVE-2016-5385).

They are dropped from every request."""

_STAYS = _HOP_BY_HOP | _OF_MIDDLEWARE | {"host"}

_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,4})")
_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOST = re.compile(r"[A-Za-z0-9._\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def end_to_end(headers: Iterable[tuple[str, str]], connection: str = "") -> CIMultiDict[str]:
    """Return headers without those that belong to one connection, including those that the header `Connection` lists."""
    listed = {name.strip().lower() for name in connection.split(",")} if connection else ()
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        lower = name.lower()
        if lower not in _HOP_BY_HOP and lower not in listed:
            kept.add(name, value)
    return kept


def of_client(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers of a client's request that are passed on to a service.

    Headers that only gateways may set are dropped, and so are names with an underscore: WSGI takes `X_Forwarded_For` and `X-Forwarded-For`
    for the same header (CWE-444).

    Raises:
        Refused: a header that has a single value occurs twice.
    """
    return _kept(headers, _OURS)


def of_peer(headers: Mapping[str, str], service: str) -> CIMultiDict[str]:
    """Return the headers of another gateway's request that are passed on to a service.

    No gateway chooses an id at another site's Nova: there, ids are those of servers that arrive by a hand-off.

    Raises:
        Refused: a header that has a single value occurs twice.
    """
    kept = _kept(headers, ("x-atoll-",), _OF_GATEWAYS)
    if service == "compute":
        kept.popall(GIVEN_ID, None)
    return kept


def _kept(headers: Mapping[str, str], refused: tuple[str, ...], known: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    kept: CIMultiDict[str] = CIMultiDict()
    seen: set[str] = set()
    connection = headers.get("Connection", "").lower()
    listed = {name.strip() for name in connection.split(",")} if connection not in {"", "keep-alive", "close"} else ()
    for name, value in headers.items():
        lower = name.lower()
        if lower in seen:
            if lower not in _LISTS:
                raise Refused(400, f"the request has more than one {name} header")
            if name in kept:
                kept[name] = f"{kept[name]}, {value}"
            continue
        seen.add(lower)
        if not value.isascii():
            _check_text(name, value)
        if lower in known or not (lower in _STAYS or lower in listed or "_" in lower or lower.startswith(refused)):
            kept.add(name, value)
    if "x-storage-token" in seen:  # keystonemiddleware reads `X-Storage-Token` if there is no `X-Auth-Token`
        token = kept.pop("X-Storage-Token", None)
        if token is not None and "x-auth-token" not in seen:
            kept["X-Auth-Token"] = token
    return kept


def _check_text(name: str, value: str) -> None:
    """Refuse a value that can't be passed on because it is not UTF-8; aiohttp keeps such bytes as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(400, f"the {name} header is not valid UTF-8") from None


def strict(headers: Mapping[str, str], otherwise: bool) -> bool:
    """Return whether a client wants complete lists or an error.

    Args:
        headers: the headers of the client's request.
        otherwise: the value if the client does not set the header.

    Raises:
        Refused: the value of the header is neither 0 nor 1.
    """
    value = headers.get(STRICT)
    if value is None:
        return otherwise
    if value not in {"0", "1"}:
        raise Refused(400, f"the {STRICT} header is {value!r:.40}: expected 0 or 1")
    return value == "1"


def valid_host(host: str) -> bool:
    """Return whether the value of a `Host` header may appear in links."""
    return bool(_HOST.fullmatch(host))


def request_id(given: str | None) -> str:
    """Return the request id that a client sent if it is well-formed; otherwise a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4()}"


def microversion(headers: Mapping[str, str]) -> tuple[int, int]:
    """Return the microversion of Nova that a request asks for, as Nova reads it (`microversion_parse.get_version`)."""
    for part in reversed(headers.get("OpenStack-API-Version", "").split(",")):
        service, _space, version = part.strip().partition(" ")
        if service.lower() == "compute" and version.strip():
            return _version(version.strip())
    return _version(headers.get("X-OpenStack-Nova-API-Version", "").rpartition(",")[2].strip())


def _version(text: str) -> tuple[int, int]:
    if text == "latest":
        return (999, 0)
    found = _VERSION.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else (2, 1)
