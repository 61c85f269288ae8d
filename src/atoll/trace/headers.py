"""Trace context on the wire: W3C's `traceparent` and `tracestate`, and the header of OSProfiler.

`read` parses the headers of an arriving request; `Incoming.sampled` is true if the sender has decided that the request is recorded. Parsing
is strict and never raises: a request with a malformed header is treated like one without it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from typing import NamedTuple

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
OSPROFILER = "X-Trace-Info"
"""The header that `openstack --os-profile KEY` sends: base64 of a JSON object with the UUIDs `base_id` and `parent_id`."""

VENDOR = "atoll"
"""The key of this project in `tracestate`. Its value is the sender, as `service@site`."""

MAX_STATE = 512
"""Greatest number of characters of `tracestate` that are passed on: W3C demands at least this many."""

_MAX_PROFILE = 2048
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_ENTRY = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_SENDER = re.compile(r"([a-z0-9._\-]{1,64})@([a-z0-9._\-]{0,64})")


class Incoming(NamedTuple):
    """The trace context of a request.

    Attributes:
        trace_id: the id of the trace, 128 bits.
        span_id: the id of the sender's span, 64 bits.
        sampled: True if the request is to be recorded.
        service: the sending service, if the sender is a process or a client of this project; else empty.
        site: the site of the sender; empty if it has none.
        state: the entries of `tracestate` of other vendors, as received.
    """

    trace_id: int
    span_id: int
    sampled: bool
    service: str = ""
    site: str = ""
    state: str = ""


def read(traceparent: str | None, tracestate: str | None = None, profile: str | None = None) -> Incoming | None:
    """Return the trace context of a request; `None` if the request has no valid one.

    Args:
        traceparent: the header `traceparent`.
        tracestate: the header `tracestate`.
        profile: the header `X-Trace-Info`, which is read only if there is no valid `traceparent`.
    """
    if traceparent:
        found = _PARENT.fullmatch(traceparent.strip(" \t"))
        if found is not None and _valid(found):
            service, site, state = _state(tracestate) if tracestate else ("", "", "")
            return Incoming(int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & 1), service, site, state)
    return _profile(profile) if profile else None


def _valid(found: re.Match[str]) -> bool:
    version, trace, span, _flags, rest = found.groups()
    # Later versions may append fields; version 00 has no further fields, and ff is forbidden.
    return version != "ff" and bool(int(trace, 16)) and bool(int(span, 16)) and not (version == "00" and rest)


def _state(text: str) -> tuple[str, str, str]:
    """Return the sender's service and site, and the entries of other vendors."""
    service = site = ""
    others: list[str] = []
    size = -1
    for entry in text.split(","):
        stripped = entry.strip(" \t")
        key, _, value = stripped.partition("=")
        if key == VENDOR:
            found = _SENDER.fullmatch(value)
            service, site = found.groups() if found else ("", "")
        elif size <= MAX_STATE and stripped and _ENTRY.fullmatch(stripped):
            others.append(stripped)
            size += 1 + len(stripped)
    if size > MAX_STATE:
        others.pop()
    return service, site, ",".join(others)


def _profile(text: str) -> Incoming | None:
    """Read the header of OSProfiler. Its signature is not checked, because any client may have its requests recorded."""
    if len(text) > _MAX_PROFILE:
        return None
    try:
        data = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
        base, parent = (uuid.UUID(data[name]).int for name in ("base_id", "parent_id"))
    except (binascii.Error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return Incoming(base, parent >> 64, True) if base and parent >> 64 else None


def traceparent(trace_id: int, span_id: int, *, sampled: bool) -> str:
    """Return the header that makes a span the parent of the receiver's span."""
    return f"00-{trace_id:032x}-{span_id:016x}-{sampled:02x}"


def tracestate(sender: str, state: str = "") -> str:
    """Return the header that names the sender, before the entries of other vendors.

    Args:
        sender: `service@site`.
        state: see `Incoming.state`.
    """
    return f"{VENDOR}={sender},{state}" if state else f"{VENDOR}={sender}"
