"""Which headers go on from one connection to the next."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

HOP = "X-Atoll-Hop"
"""Set between gateways: answer from your own services, ask no other site."""

GIVEN_ID = "X-Atoll-Given-Id"
"""Set by a gateway on a user's request to create something whose id that gateway has chosen."""

IDENTIFY = "X-Atoll-Identify"
"""Set between gateways: say in the answer which object the request was about."""

IDENTITY = "X-Atoll-Identity"
"""The answer to `IDENTIFY`, as JSON; see `ownership`."""

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

_MICROVERSION = re.compile(r"(?:compute )?([0-9]{1,3})\.([0-9]{1,4})")
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
    """What a client's headers may say to a service.

    Neither what only gateways may say, nor names with an underscore: WSGI makes `X_Forwarded_For` and `X-Forwarded-For` one (CWE-444).
    """
    kept: CIMultiDict[str] = CIMultiDict()
    connection = headers.get("Connection", "").lower()
    listed = {name.strip() for name in connection.split(",")} if connection not in {"", "keep-alive", "close"} else ()
    for name, value in headers.items():
        lower = name.lower()
        if lower not in _HOP_BY_HOP and lower != "host" and "_" not in lower and not lower.startswith(_OURS) and lower not in listed:
            kept.add(name, value)
    return kept


def valid_host(host: str) -> bool:
    """Whether a `Host` may appear in links."""
    return bool(_HOST.fullmatch(host))


def request_id(said: str | None) -> str:
    """The client's own, if it is one; else a new one."""
    return said if said and _REQUEST_ID.fullmatch(said) else f"req-{uuid.uuid4()}"


def microversion(headers: Mapping[str, str]) -> tuple[int, int]:
    """Nova's microversion that a request asks for (api-guide/source/microversions.rst in openstack/nova)."""
    text = headers.get("OpenStack-API-Version") or headers.get("X-OpenStack-Nova-API-Version", "")
    if text.removeprefix("compute ") == "latest":
        return (999, 0)
    found = _MICROVERSION.fullmatch(text.strip())
    return (int(found[1]), int(found[2])) if found else (2, 1)
