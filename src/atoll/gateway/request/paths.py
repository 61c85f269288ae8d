"""Ids in paths: the one place that quotes them."""

from __future__ import annotations

import re
from urllib.parse import quote

_RELATIVE = frozenset(("", ".", ".."))
"""Quoting leaves these as they are, and a server that resolves a path would act on another resource, or on the collection."""

_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")


def segment(identifier: str) -> str:
    """Quote an id or a name as exactly one segment of a path, or as one value of a query.

    Raises:
        ValueError: no resource can have this id.
    """
    if identifier in _RELATIVE:
        raise ValueError(f"no resource has the id {identifier!r}")
    return quote(identifier, safe="")


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as OpenStack writes them."""
    return bool(_UUID.fullmatch(text))
