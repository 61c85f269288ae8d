"""A trace as one HTML page that needs no network: waterfall, sequence diagram, map of sites, and the table of operations."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from atoll.trace import analysis
from atoll.trace.tree import Node, Trace

_TEMPLATE = Path(__file__).with_name("page.html")


def row(trace: Trace, node: Node) -> dict[str, Any]:
    """Return the fields that the page shows of a span, ready for `json.dumps`."""
    span = node.span
    return {
        "id": span.span,
        "parent": node.parent.span.span if node.parent is not None else "",
        "kind": span.kind,
        "protocol": analysis.protocol(span),
        "name": span.name,
        "place": node.place,
        "site": span.site,
        "start_ms": round((node.start - trace.start) / 1e6, 3),
        "ms": round((span.end - span.start) / 1e6, 3),
        "request": span.request,
        "response": span.response,
        "error": span.error,
        "attributes": span.attributes,
    }


def render(trace: Trace) -> str:
    """Return the HTML page of a trace."""
    critical: dict[str, float] = {}
    for root in trace.roots:
        for segment in analysis.critical_path(root):
            name = segment.node.span.span
            critical[name] = round(critical.get(name, 0.0) + (segment.end - segment.start) / 1e6, 3)
    totals = analysis.totals(trace)
    data = {
        "totals": totals,
        "spans": [row(trace, node) for node in trace.walk()],
        "operations": [asdict(each) for each in analysis.operations(trace)],
        "links": [asdict(each) for each in analysis.links(trace)],
        "critical": critical,
    }
    # Escaped, because a text of the trace must not end the script element.
    text = (
        json.dumps(_finite(data), separators=(",", ":")).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )
    parts = {"@TITLE@": escape(totals["name"]), "@DATA@": text}
    # Both are replaced in one pass, because a name may itself be `@DATA@`.
    return re.sub("|".join(parts), lambda found: parts[found[0]], _TEMPLATE.read_text(encoding="utf-8"))


def _finite(data: Any) -> Any:
    """Return the data with each number that JSON can't represent, such as NaN from another program's file, as a text."""
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return data if not isinstance(data, float) or math.isfinite(data) else str(data)
