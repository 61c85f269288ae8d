"""The check of a database URL without a connection, for programs that read the URL from a file."""

from __future__ import annotations

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from atoll.stores.errors import BadURL
from atoll.stores.url import parse


def complaint_of(text: str) -> str:
    """Return the error in a database URL, in one line without the URL; empty if there is none."""
    try:
        parse(make_url(text))
    except BadURL as error:
        return str(error)
    except (ArgumentError, ValueError):
        return "expected a database URL such as redis://HOST:6379/0"
    return ""
