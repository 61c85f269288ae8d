"""A SQLAlchemy URL plugin that gives services of OpenStack what they expect of PostgreSQL's driver.

The URL is `postgresql+psycopg://…?plugin=atoll-postgresql`. Upstream was written for psycopg2, and psycopg 3 differs in two respects:

- Addresses in columns of the type INET come as objects of `ipaddress`. Here they come as text: Nova searches them for a colon, and
  Neutron parses them.
- A cursor has no `lastrowid`, which Placement reads after an INSERT. Here it is 0, as with psycopg2; Placement does not use the value.
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
        """A cursor with an attribute that psycopg2's have."""

        lastrowid = 0

    return CursorWithRowId
