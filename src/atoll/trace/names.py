"""Names of operations without the ids of their resources, so that equal operations have equal names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MAX_STATEMENT = 1000
"""Greatest number of characters of a statement that are recorded."""

_ID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}|[0-9]+|[0-9a-fA-F]{24,64}|req-[0-9a-f\-]{36}|.{41,}")
_PREFIX = re.compile(r"^/(?:identity|image|compute|network|placement|metadata)(?=/|$)")
_VERB = re.compile(r"\s*([A-Za-z]+)")
_TABLE = {
    verb: re.compile(rf"\b{word}\s+([\w.\"`]+)", re.IGNORECASE)
    for verb, word in {"SELECT": "FROM", "DELETE": "FROM", "INSERT": "INTO", "REPLACE": "INTO", "UPDATE": "UPDATE"}.items()
}
_LITERAL = re.compile(r"""'(?:[^']|'')*(?:'|$)|(?<![\w.:$?%@"`])\d(?:[eE][+-]|[\w.])*""")
"""A text in quotes, even without the closing quote, or a number that is not part of a name or a placeholder."""
_SECRET_SEGMENT = re.compile(r"(os-console-auth-tokens/|/temp-url/)[^/?]+")
_SECRET_VALUE = re.compile(r"((?:token|secret|password|signature|key)(?:=|%(?:25)*3d))[^&;]+", re.IGNORECASE)
"""A secret parameter, even if it is escaped within another value, like the token in a console's URL. Matching takes linear time."""


def http(method: str, path: str) -> str:
    """Return the name of an HTTP request: its method, and its path with `{id}` for each id.

    Args:
        method: the HTTP method of the request.
        path: the path of the request, without the query.
    """
    return f"{method} {route(path)}"


def route(path: str) -> str:
    """Return a path with `{id}` for each segment that is an id or a number."""
    return "/".join("{id}" if _ID.fullmatch(segment) else segment for segment in path.split("/")) or "/"


def plain(path: str) -> str:
    """Return a path as the service behind a gateway sees it: without the segment that names the service."""
    return _PREFIX.sub("", path, count=1) or "/"


def safe_path(path: str) -> str:
    """Return a path without the secrets that upstream puts into paths: tokens of consoles."""
    return _SECRET_SEGMENT.sub(r"\1{token}", path)


def safe_query(query: str) -> str:
    """Return a query without the values of parameters that hold secrets."""
    return _SECRET_VALUE.sub(r"\1…", query)


class Statement(NamedTuple):
    """A database statement without its values.

    Attributes:
        verb: the SQL verb, such as `SELECT`.
        table: the table that the statement concerns; empty if it concerns none.
        text: the beginning of the statement, with `?` in place of each number and of each text in quotes.
    """

    verb: str
    table: str
    text: str


@lru_cache(256)
def sql(statement: str) -> Statement:
    """Return the parts of a statement that may be recorded, which contain no values."""
    # Whether a backslash escapes depends on the engine and its settings: the text after the first one is dropped.
    text = _LITERAL.sub("?", statement[: MAX_STATEMENT + 1].partition("\\")[0])[:MAX_STATEMENT]
    found = _VERB.match(statement)
    if found is None:
        return Statement("SQL", "", text)
    verb = found[1].upper()
    table = _TABLE[verb].search(statement) if verb in _TABLE else None
    return Statement(verb, table[1].strip('"`') if table is not None else "", text)


def rpc(topic: str, method: str, arguments: object) -> str:
    """Return the name of a message: its topic and method; for a call of a Nova object, also the object's class and method.

    Args:
        topic: the topic of the target.
        method: the method that the message calls.
        arguments: the serialised arguments of the method.
    """
    name = f"{topic or 'rpc'} {method}"
    if method not in {"object_action", "object_class_action_versions", "object_backport_versions"} or not isinstance(arguments, dict):
        return name
    kind = arguments.get("objname")
    instance = arguments.get("objinst")
    if isinstance(instance, dict):
        kind = kind or instance.get("nova_object.name") or instance.get("versioned_object.name")
    called = arguments.get("objmethod")
    return f"{name} {kind}.{called}" if kind and called else name
