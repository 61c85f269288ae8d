"""Analyses a trace: its calls by operation, with duplicate and mergeable calls; the traffic between places; the critical path.

A *place* is `SITE/ROLE`, as in `Node.place`: a service of a site, or a part of Nova.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from atoll.trace.store import Span
from atoll.trace.tree import Node, Trace

CALLS = frozenset(("client", "producer"))
_READS = frozenset(("GET", "HEAD", "SELECT"))


def callee(node: Node) -> str:
    """Return the place to which a call went: that of the receiver's span; without one, the place that the caller recorded, or `SITE/?`."""
    for child in node.children:
        if child.span.kind in {"server", "consumer"}:
            return child.place
    attributes = node.span.attributes
    if "db.namespace" in attributes:
        return f"{node.span.site}/{attributes['db.namespace']}"
    peer = attributes.get("atoll.peer.service") or attributes.get("messaging.destination.name")
    peer = peer or attributes.get("server.address") or attributes.get("db.system.name") or "?"
    return f"{attributes.get('atoll.peer.site') or node.span.site}/{peer}"


def protocol(span: Span) -> str:
    """Return the protocol of a call: `http`, `rpc`, `sql`, `ovsdb`, `libvirt` or `other`."""
    attributes = span.attributes
    if "http.request.method" in attributes:
        return "http"
    if "db.system.name" in attributes:
        return "ovsdb" if attributes["db.system.name"] == "ovsdb" else "sql"
    if attributes.get("rpc.system") == "libvirt":
        return "libvirt"
    return "rpc" if "messaging.destination.name" in attributes else "other"


def identity(span: Span) -> str:
    """Return a key that is equal for two equal calls: the request with all ids, or a digest of the statement.

    If neither was recorded, the key is the id of the span, so that the call equals no other.
    """
    attributes = span.attributes
    if "http.request.method" in attributes:
        return f"{attributes['http.request.method']} {attributes.get('url.path', '')}?{attributes.get('url.query', '')}"
    return str(attributes.get("atoll.db.digest") or span.span)


def may_merge(span: Span) -> bool:
    """Return whether one call could replace several calls like this one, because it reads data or saves one object."""
    attributes = span.attributes
    verb = attributes.get("http.request.method") or attributes.get("db.operation.name")
    return verb in _READS or (verb is None and span.name.endswith((".save", ".refresh", "get_by_instance_uuid")))


@dataclass
class Operation:
    """All calls of one kind by one caller.

    Attributes:
        caller, callee: the places of the two ends.
        protocol: the protocol of the calls, as `protocol` returns it.
        name: the name of the operation.
        count: the number of calls.
        ms: the duration of all calls together, in milliseconds.
        request_bytes, response_bytes: the bytes of all requests and of all answers; unknown sizes count as 0.
        errors: the number of calls that failed.
        duplicates: the number of calls for which `may_merge` is true and that repeat an earlier call exactly.
        duplicate_ms: the duration of the duplicates, in milliseconds.
        mergeable: the number of other calls for which `may_merge` is true, without the first: one call with several ids could replace all.
        mergeable_ms: the duration of the mergeable calls, in milliseconds.
        spans: ids of the calls, in the order in which they began.
    """

    caller: str
    callee: str
    protocol: str
    name: str
    count: int = 0
    ms: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    errors: int = 0
    duplicates: int = 0
    duplicate_ms: float = 0.0
    mergeable: int = 0
    mergeable_ms: float = 0.0
    spans: list[str] = field(default_factory=list)

    def add(self, other: Operation) -> None:
        """Add the counts of the same operation in another trace."""
        for name in ("count", "ms", "request_bytes", "response_bytes", "errors", "duplicates", "duplicate_ms", "mergeable", "mergeable_ms"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.spans += other.spans


def operations(trace: Trace) -> list[Operation]:
    """Return the operations of a trace, in descending order of their total duration."""
    found: dict[tuple[str, str, str, str], Operation] = {}
    seen: dict[tuple[str, str, str, str], Counter[str]] = {}
    for node in sorted((each for each in trace.walk() if each.span.kind in CALLS), key=lambda each: each.start):
        span = node.span
        key = (node.place, callee(node), protocol(span), span.name)
        operation = found.setdefault(key, Operation(*key))
        ms = (span.end - span.start) / 1e6
        operation.count += 1
        operation.ms += ms
        operation.request_bytes += span.request or 0
        operation.response_bytes += span.response or 0
        operation.errors += span.error is not None
        operation.spans.append(span.span)
        if may_merge(span):
            earlier = seen.setdefault(key, Counter())
            asked = identity(span)
            if earlier[asked]:
                operation.duplicates += 1
                operation.duplicate_ms += ms
            elif earlier:
                operation.mergeable += 1
                operation.mergeable_ms += ms
            earlier[asked] += 1
    return sorted(found.values(), key=lambda each: -each.ms)


@dataclass
class Link:
    """The traffic between two places, in the direction of the calls.

    Attributes:
        caller, callee: the places of the two ends.
        messages: the number of calls.
        request_bytes, response_bytes: the bytes of all requests and of all answers.
        ms: the duration of all calls together, in milliseconds.
        far: True if the places are at different sites.
    """

    caller: str
    callee: str
    messages: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    ms: float = 0.0
    far: bool = False


def links(trace: Trace) -> list[Link]:
    """Return the traffic of a trace by pairs of places, in descending order of messages; a database statement counts as a message."""
    found: dict[tuple[str, str], Link] = {}
    for operation in operations(trace):
        key = operation.caller, operation.callee
        link = found.setdefault(key, Link(*key, far=key[0].partition("/")[0] != key[1].partition("/")[0]))
        link.messages += operation.count
        link.request_bytes += operation.request_bytes
        link.response_bytes += operation.response_bytes
        link.ms += operation.ms
    return sorted(found.values(), key=lambda each: -each.messages)


def totals(trace: Trace) -> dict[str, Any]:
    """Return the figures of a whole trace, ready for `json.dumps`: its names, times, and numbers of spans, calls, bytes and errors."""
    every = [node.span for node in trace.walk()]
    calls = [span for span in every if span.kind in CALLS]
    by_protocol = Counter(map(protocol, calls))
    table = operations(trace)
    return {
        "trace": trace.id,
        "name": trace.roots[0].span.name,
        "service": trace.roots[0].span.service,
        "sites": sorted({span.site for span in every if span.site}),
        "start_ns": trace.start,
        "answered_ms": round((trace.answered - trace.start) / 1e6, 3),
        "complete_ms": round((trace.end - trace.start) / 1e6, 3),
        "spans": len(every),
        "roots": len(trace.roots),
        "orphans": trace.orphans,
        "errors": sum(span.error is not None for span in every),
        "calls": dict(sorted(by_protocol.items())),
        "bytes": sum((span.request or 0) + (span.response or 0) for span in calls if protocol(span) in {"http", "rpc"}),
        "duplicates": sum(each.duplicates for each in table),
        "mergeable": sum(each.mergeable for each in table),
    }


@dataclass(frozen=True)
class Segment:
    """A part of the critical path: an interval in which the operation waited for the work of one span.

    Attributes:
        node: the span that did the work.
        start, end: nanoseconds since 1970.
    """

    node: Node
    start: int
    end: int


def critical_path(root: Node) -> list[Segment]:
    """Return the chain of work that decided when the last span below a root ended, in order of time, without gaps."""
    latest: dict[int, int] = {}
    for node in reversed(list(root.walk())):
        latest[id(node)] = max([node.end, *(latest[id(child)] for child in node.children)])
    segments: list[Segment] = []
    waiting = [(root, root.start, latest[id(root)])]
    while waiting:
        node, begin, end = waiting.pop()
        child = max(
            (each for each in node.children if each.start < end and latest[id(each)] > begin and each.start >= begin),
            key=lambda each: (min(end, latest[id(each)]), each.start),
            default=None,
        )
        if child is None or child.start >= min(end, latest[id(child)]):
            segments.append(Segment(node, begin, end))
            continue
        until = min(end, latest[id(child)])
        if end > until:
            segments.append(Segment(node, until, end))
        waiting += [(node, begin, child.start), (child, child.start, until)]
    return sorted((each for each in segments if each.end > each.start), key=lambda each: each.start)
