"""Quotes ids in paths; no other module does."""

from __future__ import annotations

import re
from urllib.parse import quote

_RELATIVE = frozenset(("", ".", ".."))
"""Segments that quoting does not change. A server that resolves such a path would act on the collection or another resource."""

_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")


def segment(identifier: str) -> str:
    """Return an id or a name, quoted as exactly one segment of a path or one value of a query.

    Raises:
        ValueError: no resource can have this id.
    """
    if identifier in _RELATIVE:
        raise ValueError(f"no resource has the id {identifier!r}")
    return quote(identifier, safe="")


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID as OpenStack writes it, with or without hyphens."""
    return bool(_UUID.fullmatch(text))
