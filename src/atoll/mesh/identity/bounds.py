"""How large identity may be: one table of bounds, for what Keystone's API takes, what a site publishes, and what it takes from others.

Keystone bounds neither its TEXT columns nor, on SQLite, any other; and what it does not know it keeps in `extra`. Whatever one site stores,
all sites store. A bound here is never smaller than the one at the API (`services/keystone_bounds.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from atoll.mesh.record import CREATED, PRESENT, Json

MAX_SHORT = 256
"""Characters of a text in a VARCHAR column."""

MAX_LONG = 4096
"""Characters of a description, an URL, the value of an option, the JSON of a field in `extra`."""

MAX_DOCUMENT = 64 * 1024
"""Characters of a document that an administrator writes: the rules of a mapping, a policy, an option of a domain's configuration."""

MAX_RECORD_BYTES = 32 * 1024
MAX_LARGE_RECORD_BYTES = 96 * 1024
"""Bytes of a record's entry, in JSON. The larger bound is for records with documents, and for projects: 80 tags of 255 characters."""

MAX_ROWS = 64
"""Rows of a field that holds several: the former passwords of a user."""

TOKEN_LIFETIME_S = 6 * 3600
TOKEN_GRACE_S = 2 * 24 * 3600
"""How long a token is good, and how much longer it is for services that finish what was begun with it."""

CLOCKS_APART_S = 24 * 3600
"""Clocks of sites are at most so far apart: the mesh believes no one who is further ahead (`clock.MAX_AHEAD_MS`)."""

KEEP_REVOCATIONS_S = TOKEN_LIFETIME_S + TOKEN_GRACE_S + 2 * CLOCKS_APART_S
"""A revocation ends when every token that it could concern has expired, by the issuer's clock and by that of whoever checks it."""

FULL_MARK = "identity-full"
"""The name of a file among a site's sockets: how full the site's stream is, in percent, once that is `FULL_FROM` or more."""

FULL_FROM = 75

_LONG = frozenset({"description", "url", "option_value"})
_DOCUMENTS = frozenset({"rules", "blob", "filters", "value"})
_LARGE = frozenset({"project", "mapping", "policy", "endpoint_group", "whitelisted_config", "sensitive_config"})


def text_fits(column: str, value: Json) -> bool:
    """Whether a value is not too long for its column; what is no text is."""
    if not isinstance(value, str):
        return True
    return len(value) <= (MAX_DOCUMENT if column in _DOCUMENTS else MAX_LONG if column in _LONG else MAX_SHORT)


def row_fits(columns: Sequence[str], row: Sequence[Json]) -> bool:
    """The same of all values of a row."""
    return all(text_fits(column, value) for column, value in zip(columns, row, strict=True))


def record_bytes(fields: Mapping[str, Json]) -> int:
    """Bytes of an entry with these fields."""
    return len(orjson.dumps({name: value for name, value in fields.items() if name not in {PRESENT, CREATED}}))


def max_bytes(kind: str) -> int:
    """The bound of a record's entry, by its kind."""
    return MAX_LARGE_RECORD_BYTES if kind in _LARGE else MAX_RECORD_BYTES
