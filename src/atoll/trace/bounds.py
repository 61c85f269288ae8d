"""Limits on the texts in spans, because clients may send names and attributes of any length and content.

`recorder` applies these functions to the name and the attributes of each span that it begins. A text that is too long is cut, and ends with
a digest of the whole text, so that long texts that differ only at their ends still differ. Unpaired surrogates are replaced, because
neither the store nor a receiver of OTLP accepts a batch that contains one.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from opentelemetry.sdk.trace import SpanLimits

MAX_NAME = 200
"""Greatest number of characters of a span's name."""

MAX_TEXT = 1000
"""Greatest number of characters of an attribute's value."""

MAX_ITEM = 100
"""Greatest number of characters of a text in a list."""

MAX_ITEMS = 50
"""Greatest number of items of a list."""

LIMITS = SpanLimits(max_span_attributes=64, max_span_attribute_length=MAX_TEXT, max_events=16, max_links=16)
"""OpenTelemetry's own limits, for spans that other instrumentation makes."""

Digest = Callable[[bytes], str]


def text(value: str, most: int, digest: Digest) -> str:
    """Return a text in valid Unicode, cut to at most `most` characters.

    Args:
        value: any text.
        most: the greatest number of characters.
        digest: a function that returns a short text, equal for equal values.
    """
    if len(value) <= most:
        return value if value.isascii() else value.encode(errors="replace").decode()
    told = digest(value.encode(errors="replace"))
    return f"{value[: most - len(told) - 1].encode(errors='replace').decode()}…{told}"


def bound(attributes: MutableMapping[str, Any], digest: Digest) -> None:
    """Shorten attributes' values that are too long, in place, and replace numbers of more than 63 bits with texts.

    Args:
        attributes: the attributes of a span.
        digest: see `text`.
    """
    for name, value in attributes.items():
        if isinstance(value, str):
            if len(value) > MAX_TEXT or not value.isascii():
                attributes[name] = text(value, MAX_TEXT, digest)
        elif isinstance(value, list | tuple):
            attributes[name] = [text(each, MAX_ITEM, digest) if isinstance(each, str) else each for each in value[:MAX_ITEMS]]
        elif isinstance(value, int) and value.bit_length() > 63:
            attributes[name] = text(hex(value), MAX_ITEM, digest)
