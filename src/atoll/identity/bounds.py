"""The size limits of identity data: one table for Keystone's API, for the entries that a site publishes, and for those that it accepts.

Keystone bounds neither its TEXT columns nor, on SQLite, any other; and it keeps unknown fields in `extra`. All sites store the data of each
site. A bound here is never smaller than the one at the API (`services/patches/keystone/bounds.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from atoll.mesh.entry import CREATED, PRESENT, Json

MAX_SHORT = 256
"""Greatest number of characters of a text in a VARCHAR column."""

MAX_LONG = 4096
"""Greatest number of characters of a description, a URL, the value of an option, or the JSON of a field in `extra`."""

MAX_DOCUMENT = 64 * 1024
"""Greatest number of characters of a document by an administrator: a mapping's rules, a policy, an option of a domain's configuration."""

MAX_RECORD_BYTES = 32 * 1024
MAX_LARGE_RECORD_BYTES = 96 * 1024
"""Greatest number of bytes, in JSON, of a record with documents, and of a project, which may have 80 tags of 255 characters."""

MAX_ROWS = 64
"""Greatest number of rows in a field that holds several rows, such as the former passwords of a user."""

TOKEN_LIFETIME_S = 6 * 3600
"""Seconds for which a token is valid."""
TOKEN_GRACE_S = 2 * 24 * 3600
"""Seconds after a token's expiry during which services accept it to finish work that was begun with it."""

CLOCKS_APART_S = 24 * 3600
"""The greatest difference of two sites' clocks in seconds: the mesh refuses stamps further ahead (`clock.MAX_AHEAD_MS`)."""

KEEP_REVOCATIONS_S = TOKEN_LIFETIME_S + TOKEN_GRACE_S + 2 * CLOCKS_APART_S
"""Seconds that a revocation is kept: until every token that it may concern has expired, by the issuer's clock and by that of the site
that checks it."""

FULL_MARK = "identity-full"
"""The name of a file in the directory of a site's sockets: the fullness of the site's stream in percent, if at least `FULL_FROM`."""

FULL_FROM = 75

LONG = frozenset({"description", "url", "option_value"})
"""Columns whose values may have up to `MAX_LONG` characters."""
_DOCUMENTS = frozenset({"rules", "blob", "filters", "value"})
_LARGE = frozenset({"project", "mapping", "policy", "endpoint_group", "whitelisted_config", "sensitive_config"})


def text_fits(column: str, value: Json) -> bool:
    """Return whether a value is not too long for its column; a value that is not text always fits."""
    if not isinstance(value, str):
        return True
    return len(value) <= (MAX_DOCUMENT if column in _DOCUMENTS else MAX_LONG if column in LONG else MAX_SHORT)


def row_fits(columns: Sequence[str], row: Sequence[Json]) -> bool:
    """Return whether all values of a row fit their columns."""
    return all(text_fits(column, value) for column, value in zip(columns, row, strict=True))


def record_bytes(fields: Mapping[str, Json]) -> int:
    """Return the number of bytes of an entry with these fields."""
    return len(orjson.dumps({name: value for name, value in fields.items() if name not in {PRESENT, CREATED}}))


def max_bytes(kind: str) -> int:
    """Return the greatest number of bytes of an entry about a record of this kind."""
    return MAX_LARGE_RECORD_BYTES if kind in _LARGE else MAX_RECORD_BYTES
