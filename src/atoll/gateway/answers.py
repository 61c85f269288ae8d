"""The meaning of services' answers to the gateway, and the search for servers whose creation was not answered."""

from __future__ import annotations

import re
from urllib.parse import quote

from atoll.gateway.request.call import Reply

GONE = (404, 410)
"""Statuses of an answer about a resource that does not exist: its deletion is complete, and its change is not needed."""

REPLICA_TAG = "atoll_replica"
"""Key in a server's metadata. Its value identifies a server whose creation was not answered."""


def query_by_name(name: str) -> str:
    """Return the query that lists the servers of all projects with a name; the caller finds the one with a tag among them."""
    return f"all_tenants=1&name={quote('^' + re.escape(name) + '$', safe='')}"


def error_text(reply: Reply) -> str:
    """Return the message of an error answer, in one line."""
    try:
        body = reply.json()
        inner = next(iter(body.values())) if isinstance(body, dict) else body
        text = inner.get("message", inner) if isinstance(inner, dict) else inner
    except (ValueError, StopIteration):
        text = reply.body.decode(errors="replace")
    return " ".join(str(text).split())[:200]
