"""Which headers go on from one connection to the next."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

from atoll.gateway.request.target import Refused

HOP = "X-Atoll-Hop"
"""Set between gateways: answer from your own services, ask no other site."""

SEEN = "X-Atoll-Seen"
"""Set between gateways: the digest of what the asking site knows of identity; see `identity.freshness`."""

GIVEN_ID = "X-Atoll-Given-Id"
"""Set by a gateway on a user's request to create something whose id that gateway has chosen."""

ACCEPTS = "X-Atoll-Accepts"
"""Set between gateways, on a request that looks at a resource: say in the answer whether the method that it names would be refused."""

REFUSAL = "X-Atoll-Refusal"
"""The answer to `ACCEPTS`: why not, for people; see `accepts`."""

STRICT = "X-Atoll-Strict"
"""Set by a client: `1` asks for lists that are whole or refused, `0` for lists of the sites that answer."""

SITE = "X-Atoll-Site"
MISSING = "X-Atoll-Missing"
SCOPE = "X-Scope"
REQUEST_ID = "X-Openstack-Request-Id"

_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"),
        *("te", "trailer", "transfer-encoding", "upgrade", "expect"),
    )
)
"""RFC 9110, section 7.6.1. `Expect` is answered by the server that the client is connected to."""

_OURS = ("x-atoll-", "x-forwarded-", "forwarded")
"""Said between gateways, and to the services behind them: never believed of a client."""

_OF_GATEWAYS = frozenset(name.lower() for name in (GIVEN_ID, ACCEPTS))
"""Those of them that a gateway may pass on to another one's, which acts by them."""

_LISTS = frozenset(
    (
        *("accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "allow", "cache-control", "connection"),
        *("content-encoding", "content-language", "expect", "if-match", "if-none-match", "keep-alive", "link", "openstack-api-version"),
        *("pragma", "prefer", "te", "trailer", "transfer-encoding", "upgrade", "vary", "via", "warning"),
    )
)
"""The fields whose values are lists, so that two of them are one list (RFC 9110, section 5.3). Any other field is said once: of two values
the gateway would read one, and the service perhaps the other."""

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
"""By these keystonemiddleware tells a service who asks; and the one that CGI takes for its proxy (CVE-2016-5385). Nobody else says them."""

_STAYS = _HOP_BY_HOP | _OF_MIDDLEWARE | {"host"}

_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,4})")
_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOST = re.compile(r"[A-Za-z0-9._\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def end_to_end(headers: Iterable[tuple[str, str]], connection: str = "") -> CIMultiDict[str]:
    """Headers without those that belong to one connection, among them those that `Connection` lists."""
    listed = {name.strip().lower() for name in connection.split(",")} if connection else ()
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        lower = name.lower()
        if lower not in _HOP_BY_HOP and lower not in listed:
            kept.add(name, value)
    return kept


def of_client(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers of a client's request that go on to a service.

    Neither those that only gateways may say, nor names with an underscore: WSGI makes `X_Forwarded_For` and `X-Forwarded-For` one
    (CWE-444).

    Raises:
        Refused: a field that has one value is there twice.
    """
    return _kept(headers, _OURS)


def of_peer(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers of another gateway's request that go on to a service.

    Raises:
        Refused: a field that has one value is there twice.
    """
    return _kept(headers, ("x-atoll-",), _OF_GATEWAYS)


def _kept(headers: Mapping[str, str], refused: tuple[str, ...], known: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    kept: CIMultiDict[str] = CIMultiDict()
    seen: set[str] = set()
    connection = headers.get("Connection", "").lower()
    listed = {name.strip() for name in connection.split(",")} if connection not in {"", "keep-alive", "close"} else ()
    for name, value in headers.items():
        lower = name.lower()
        if lower in seen:
            if lower not in _LISTS:
                raise Refused(400, f"more than one {name} header")
            if name in kept:
                kept[name] = f"{kept[name]}, {value}"
            continue
        seen.add(lower)
        if not value.isascii():
            _check_text(name, value)
        if lower in known or not (lower in _STAYS or lower in listed or "_" in lower or lower.startswith(refused)):
            kept.add(name, value)
    if "x-storage-token" in seen:  # keystonemiddleware takes it where there is no `X-Auth-Token`
        token = kept.pop("X-Storage-Token", None)
        if token is not None and "x-auth-token" not in seen:
            kept["X-Auth-Token"] = token
    return kept


def _check_text(name: str, value: str) -> None:
    """Refuse what can't be sent on: aiohttp keeps bytes that are no UTF-8 as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(400, f"the {name} header is no UTF-8") from None


def strict(headers: Mapping[str, str], otherwise: bool) -> bool:
    """Return whether a client wants its lists whole or refused.

    Args:
        headers: of the client's request.
        otherwise: the answer if they do not say it.

    Raises:
        Refused: the header has another value.
    """
    value = headers.get(STRICT)
    if value is None:
        return otherwise
    if value not in {"0", "1"}:
        raise Refused(400, f"{STRICT} is neither 0 nor 1")
    return value == "1"


def valid_host(host: str) -> bool:
    """Whether a `Host` may appear in links."""
    return bool(_HOST.fullmatch(host))


def request_id(said: str | None) -> str:
    """The client's own, if it is one; else a new one."""
    return said if said and _REQUEST_ID.fullmatch(said) else f"req-{uuid.uuid4()}"


def microversion(headers: Mapping[str, str]) -> tuple[int, int]:
    """Return Nova's microversion that a request asks for, read as Nova reads it (`microversion_parse.get_version`)."""
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
