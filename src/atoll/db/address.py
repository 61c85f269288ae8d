"""The address of a database server, taken from its URL for messages and comparisons, which must not contain passwords."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

SOCKETS = ("socket", "unix_socket", "host")
"""URL parameters that name a Unix socket, or its directory, instead of a host: those of Redis, PyMySQL and PostgreSQL, in this order."""


def address(url: str) -> str:
    """Return the address of the server that a URL names, without user, password and parameters.

    A Redis server numbers its databases; a number other than 0 is a part of the address.

    Args:
        url: the URL of a server of Redis, MariaDB or PostgreSQL.
    """
    parts = urlsplit(url)
    found = dict(parse_qsl(parts.query))
    place = next((found[name] for name in SOCKETS if name in found), "") or unquote(parts.netloc.rpartition("@")[2])
    number = parts.path.strip("/")
    return f"{place}/{number}" if number.isdigit() and int(number) else place
