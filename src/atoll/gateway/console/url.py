"""Parses and rewrites the URLs of consoles.

    ws://GATEWAY/console/SITE/serial?token=TOKEN
    http://GATEWAY/console/vnc/vnc_lite.html?path=console/SITE/vnc?token=TOKEN

Nova makes them from `[serial_console] base_url` and `[vnc] novncproxy_base_url` of the server's site. The gateway of the client replaces
GATEWAY by its own address, so that a client that can reach only one site can open the consoles of all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit, urlunsplit

from atoll.gateway.request.call import Call, Reply

PREFIX = "/console/"
"""Prefix of all paths of consoles."""

KINDS = {"serial": ("serial", "serial"), "vnc": ("vnc", "novnc")}
"""The kinds of consoles, each with Nova's protocol and type."""

_PAGES = f"{PREFIX}vnc/"
_TOKEN = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_FIELDS = 20
_ACTIONS = (b'"os-getVNCConsole"', b'"os-getSerialConsole"')
_DEFAULT_PORT = re.compile(r":(80|443)$")


@dataclass(frozen=True)
class ConsoleAddress:
    """The site and kind of console that a path names.

    Attributes:
        site: the server's site.
        kind: one of `KINDS`.
    """

    site: str
    kind: str


def console_address(path: str) -> ConsoleAddress | None:
    """Return the site and kind that a path names; `None` if it is not the path of a console."""
    parts = path.removeprefix(PREFIX).split("/")
    return ConsoleAddress(*parts) if len(parts) == 2 and parts[1] in KINDS else None


def file_of(path: str) -> str | None:
    """Return the name of the noVNC file at a path; `None` if the path is not below noVNC's."""
    return path.removeprefix(_PAGES) if path.startswith(_PAGES) else None


def token_of(query: str) -> str | None:
    """Return the token in a query; `None` unless there is exactly one, in the form of Nova's tokens."""
    try:
        found = parse_qs(query, max_num_fields=_FIELDS).get("token", [])
    except ValueError:
        return None
    return found[0] if len(found) == 1 and _TOKEN.fullmatch(found[0]) else None


def shown(target: str) -> str:
    """Return a request's target for the log, without a console token, which would admit the reader to a guest."""
    path, _mark, query = target.partition("?")
    return f"{path}?…" if "token" in query.lower() else target


def same_origin(origins: Sequence[str], host: str) -> bool:
    """Return whether a request to open a WebSocket comes from a page of this gateway, or from a client that is not a browser.

    Any page may open WebSockets to any host; the browser only sends the page's origin with the request. Nova's proxy checks the origin too
    (nova/console/websocketproxy.py).
    """
    try:
        pages = [urlsplit(origin) for origin in origins]
    except ValueError:
        return False
    return len(pages) < 2 and all(each.scheme in {"http", "https"} and _authority(each.netloc) == _authority(host) for each in pages)


def _authority(text: str) -> str:
    return _DEFAULT_PORT.sub("", text.lower())


def requests_console(call: Call) -> bool:
    """Return whether a request asks Nova for the URL of a console."""
    if call.method != "POST" or call.service != "compute":
        return False
    last = call.path.rstrip("/").rpartition("/")[2]
    return last == "remote-consoles" or (last == "action" and isinstance(call.body, bytes) and any(each in call.body for each in _ACTIONS))


def through_gateway(reply: Reply, host: str) -> Reply:
    """Return Nova's answer with a URL that passes through the client's gateway.

    Args:
        reply: the answer to a request for which `requests_console` is true.
        host: the name or address and port by which the client reaches this gateway.
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
    """Return the token in Nova's answer to a request for which `requests_console` is true; `None` if there is none."""
    try:
        found = _TOKEN.findall(urlsplit(reply.json()["remote_console"]["url"]).query)
    except (ValueError, KeyError, TypeError):
        return None
    return found[-1] if found else None
