"""A SQLAlchemy URL plugin that makes the driver psycopg 3 behave as OpenStack's services expect of a driver for PostgreSQL.

The URL is `postgresql+psycopg://…?plugin=atoll-postgresql`. Upstream was written for psycopg2, from which psycopg 3 differs in two
respects:

- psycopg 3 returns addresses in columns of the type INET as objects of `ipaddress`. With the plugin it returns text, because Nova searches
  them for a colon, and Neutron parses them.
- A cursor of psycopg 3 has no `lastrowid`, which Placement reads after an INSERT. With the plugin it is 0, as with psycopg2; Placement does
  not use the value.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import URL, CreateEnginePlugin


class PostgreSQLPlugin(CreateEnginePlugin):
    """The entry point `atoll-postgresql` of `sqlalchemy.plugins`."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)
        kwargs["native_inet_types"] = False
        kwargs.setdefault("connect_args", {})["cursor_factory"] = _cursor_factory()

    def update_url(self, url: URL) -> URL:
        """Return the URL as it is: the plugin has no parameters."""
        return url


def _cursor_factory() -> type[Any]:
    from psycopg import Cursor

    class CursorWithRowId(Cursor[Any]):
        """A cursor with the attribute `lastrowid`, which cursors of psycopg2 have."""

        lastrowid = 0

    return CursorWithRowId
