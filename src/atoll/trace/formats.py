"""Traces in the formats of other viewers: OTLP's JSON, and the trace events that Chrome and Perfetto open; and OTLP's JSON read back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from atoll.trace.store import Span
from atoll.trace.tree import Trace

_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_NAMES = {number: name for name, number in _KINDS.items()}
_OWN = ("atoll.request.bytes", "atoll.response.bytes")


def to_otlp(spans: Iterable[Span]) -> dict[str, Any]:
    """Return spans as OTLP's JSON encoding of `TracesData`."""
    resources: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        resources.setdefault((span.service, span.site), []).append(span)
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes({"service.name": service, "atoll.site": site})},
                "scopeSpans": [{"scope": {"name": "atoll"}, "spans": [_otlp(span) for span in group]}],
            }
            for (service, site), group in resources.items()
        ]
    }


def _otlp(span: Span) -> dict[str, Any]:
    sizes = {name: size for name, size in zip(_OWN, (span.request, span.response), strict=True) if size is not None}
    said: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.span,
        "name": span.name,
        "kind": _KINDS.get(span.kind, 1),
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes | sizes),
        "status": {"code": 2, "message": span.error} if span.error is not None else {},
    }
    return said | ({"parentSpanId": span.parent} if span.parent else {})


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value)}


def from_otlp(data: Any) -> list[Span]:
    """Return the spans of OTLP's JSON encoding.

    Raises:
        ValueError: the data is not OTLP's JSON encoding; the message names the missing part.
    """
    try:
        return [
            _read(span, _plain(resource.get("resource", {}).get("attributes", [])))
            for resource in data["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"expected OTLP JSON: {type(error).__name__}: {error}") from None


def _read(said: dict[str, Any], resource: dict[str, Any]) -> Span:
    attributes = _plain(said.get("attributes", []))
    request, response = (attributes.pop(name, None) for name in _OWN)
    status = said.get("status") or {}
    for name, length in (("traceId", 32), ("spanId", 16)):
        if len(bytes.fromhex(said[name])) * 2 != length:
            raise ValueError(f"{name} has {len(said[name])} digits, not {length}")
    return Span(
        trace=said["traceId"].lower(),
        span=said["spanId"].lower(),
        parent=str(said.get("parentSpanId") or "").lower(),
        kind=_NAMES.get(said.get("kind", 1), "internal"),
        name=str(said["name"]),
        service=str(resource.get("service.name", "")),
        site=str(resource.get("atoll.site", "")),
        start=int(said["startTimeUnixNano"]),
        end=int(said["endTimeUnixNano"]),
        error=str(status.get("message") or "failed") if status.get("code") in {2, "STATUS_CODE_ERROR"} else None,
        request=request,
        response=response,
        attributes=attributes,
    )


def _plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: _unwrap(each["value"]) for each in attributes}


def _unwrap(value: dict[str, Any]) -> Any:
    ((kind, held),) = value.items()
    if kind == "intValue":
        return int(held)
    if kind == "arrayValue":
        return [_unwrap(each) for each in held.get("values", [])]
    return held


def to_chrome(trace: Trace) -> dict[str, Any]:
    """Return a trace as trace events: a process for each service of a site, whose overlapping spans lie in different threads."""
    places: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    busy: dict[tuple[int, int], int] = {}
    for node in sorted(trace.walk(), key=lambda each: each.start):
        name = f"{node.span.site}/{node.span.service}".strip("/")
        if name not in places:
            places[name] = len(places) + 1
            events.append({"ph": "M", "name": "process_name", "pid": places[name], "tid": 0, "args": {"name": name}})
        pid, lane = places[name], 1
        while busy.get((pid, lane), 0) > node.start:
            lane += 1
        busy[pid, lane] = node.end
        told = {"span": node.span.span, "parent": node.span.parent, "request": node.span.request, "response": node.span.response}
        events.append(
            {
                "ph": "X",
                "name": node.span.name,
                "cat": node.span.kind,
                "pid": pid,
                "tid": lane,
                "ts": (node.start - trace.start) / 1000,
                "dur": max(0, node.end - node.start) / 1000,
                "args": told | node.span.attributes | ({"error": node.span.error} if node.span.error else {}),
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"trace": trace.id}}
