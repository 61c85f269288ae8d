"""The URLs of consoles.

    ws://GATEWAY/console/SITE/serial?token=TOKEN
    http://GATEWAY/console/vnc/vnc_lite.html?path=console/SITE/vnc?token=TOKEN

Nova makes them, from `[serial_console] base_url` and `[vnc] novncproxy_base_url` of the site that has the server. The gateway that the
client speaks to puts itself in the place of GATEWAY, so that a client that can reach one site only reaches the consoles of all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit, urlunsplit

from atoll.gateway.request.call import Call, Reply

PREFIX = "/console/"
"""Of all paths that have to do with consoles."""

KINDS = {"serial": ("serial", "serial"), "vnc": ("vnc", "novnc")}
"""The consoles that there are: for Nova, a protocol and a type."""

_PAGES = f"{PREFIX}vnc/"
_TOKEN = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_FIELDS = 20
_ACTIONS = (b'"os-getVNCConsole"', b'"os-getSerialConsole"')
_DEFAULT_PORT = re.compile(r":(80|443)$")


@dataclass(frozen=True)
class Door:
    """What a WebSocket can be opened at.

    Attributes:
        site: which has the server.
        kind: of `KINDS`.
    """

    site: str
    kind: str


def door(path: str) -> Door | None:
    """What a path means; None if it is none of a WebSocket."""
    parts = path.removeprefix(PREFIX).split("/")
    return Door(*parts) if len(parts) == 2 and parts[1] in KINDS else None


def file_of(path: str) -> str | None:
    """Which of noVNC's files a path means; None if it is none of these."""
    return path.removeprefix(_PAGES) if path.startswith(_PAGES) else None


def token_of(query: str) -> str | None:
    """The token in a query; None if there is none, or not exactly one that could be Nova's."""
    try:
        found = parse_qs(query, max_num_fields=_FIELDS).get("token", [])
    except ValueError:
        return None
    return found[0] if len(found) == 1 and _TOKEN.fullmatch(found[0]) else None


def shown(target: str) -> str:
    """A request's target as it may be logged: who reads a token is let in to a guest."""
    path, _mark, query = target.partition("?")
    return f"{path}?…" if "token" in query.lower() else target


def same_origin(origins: Sequence[str], host: str) -> bool:
    """Whether a WebSocket is asked for by a page of this gateway, or by no browser (as nova/console/websocketproxy.py).

    Any page may open WebSockets to anywhere; the browser only says which page it was.
    """
    try:
        pages = [urlsplit(origin) for origin in origins]
    except ValueError:
        return False
    return len(pages) < 2 and all(each.scheme in {"http", "https"} and _authority(each.netloc) == _authority(host) for each in pages)


def _authority(text: str) -> str:
    return _DEFAULT_PORT.sub("", text.lower())


def asked_for(call: Call) -> bool:
    """Whether a request has Nova make the URL of a console."""
    if call.method != "POST" or call.service != "compute":
        return False
    last = call.path.rstrip("/").rpartition("/")[2]
    return last == "remote-consoles" or (last == "action" and isinstance(call.body, bytes) and any(each in call.body for each in _ACTIONS))


def led_here(reply: Reply, host: str) -> Reply:
    """Nova's answer with a URL that leads through the gateway that the client speaks to.

    Args:
        reply: to what `asked_for` is true of.
        host: this gateway, as the client calls it: name or address, and port.
    """
    try:
        answer = reply.json()
        console = answer["remote_console" if "remote_console" in answer else "console"]
        parts = urlsplit(console["url"])
        console["url"] = urlunsplit(parts._replace(netloc=host))
    except (ValueError, KeyError, TypeError):
        return reply
    return replace(reply, body=json.dumps(answer).encode()) if parts.path.startswith(PREFIX) else reply


def new_token(reply: Reply) -> str | None:
    """The token in Nova's answer to what `asked_for` is true of; None if there is none."""
    try:
        found = _TOKEN.findall(urlsplit(reply.json()["remote_console"]["url"]).query)
    except (ValueError, KeyError, TypeError):
        return None
    return found[-1] if found else None
