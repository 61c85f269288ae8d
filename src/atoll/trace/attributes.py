"""The names of Atoll's own attributes of spans."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

REQUEST_BYTES = "atoll.request.bytes"
RESPONSE_BYTES = "atoll.response.bytes"
PEER_SERVICE = "atoll.peer.service"
PEER_SITE = "atoll.peer.site"
FROM_OUTSIDE = "atoll.from_outside"
"""Attribute of a server's span whose request came from a program outside this project. No store has the span of that program."""

TASK = "atoll.task"
"""Attribute of a span that a thread of the request recorded: the path of the thread's task (`tasks`)."""

UNAWAITED = "atoll.unawaited"
"""Attribute, true, of the span of work that a request has queued and does not wait for, such as Neutron's events for Nova."""

Attributes = MutableMapping[str, Any]
"""The attributes of a span by name."""
