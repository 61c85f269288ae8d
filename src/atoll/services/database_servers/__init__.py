"""The servers of a site's databases: whether they can be used, and the databases that they hold.

A driver is imported only when a function is called. Messages name a server by its address, and show no password.
"""

from __future__ import annotations

from pathlib import Path

from atoll.services.contract import Settings
from atoll.services.database_servers import redis_logs, relational
from atoll.services.database_servers.contract import FlushPolicy, ServerError, address, one_line
from atoll.services.database_urls import REDIS


def flush_policy(settings: Settings) -> FlushPolicy:
    """Ask the server of a site's databases when it flushes commits.

    Raises:
        ServerError: the server does not answer, or refuses.
    """
    return redis_logs.flush_policy(settings) if settings.engine == REDIS else relational.flush_policy(settings)


def check(settings: Settings) -> None:
    """Refuse a server that does not answer, is too old, or would lose commits.

    Raises:
        ServerError: the server can't be used, for the reason in the message; nothing was changed.
    """
    if settings.engine == REDIS:
        redis_logs.check(settings)
    else:
        relational.check(settings)


def clear(settings: Settings, name: str, *, own: bool) -> None:
    """Make sure that the server has no database `name` of the site, or an empty one.

    Args:
        settings: the site's settings.
        name: the database.
        own: whether the site itself has begun to make the database, so that it may be removed.

    Raises:
        ServerError: the server has such a database with content that this site has not made, or the server refuses.
    """
    there = has(settings, name)
    if there and not own:
        called = redis_logs.log_name(settings, name) if settings.engine == REDIS else relational.database_name(settings, name)
        message = f"{address(settings)} has a database {called} already, which this site has not made"
        raise ServerError(f"{message}: remove it there, or give cloud or site another name")
    if there:
        drop(settings, [name])
    if own and settings.engine == REDIS:
        redis_logs.remove_replica(settings, name)


def has(settings: Settings, name: str) -> bool:
    """Return whether the server has a database `name` of the site with content.

    Raises:
        ServerError: the server refuses, or does not answer.
    """
    return redis_logs.holds(settings, name) if settings.engine == REDIS else relational.holds(settings, name)


def drop(settings: Settings, names: list[str]) -> None:
    """Remove databases of a site from its server, with all that they hold; those that do not exist are ignored.

    Raises:
        ServerError: the server refuses, or does not answer.
    """
    if settings.engine == REDIS:
        redis_logs.drop(settings, names)
    else:
        relational.drop(settings, names)


def seed(settings: Settings, name: str, template: Path) -> None:
    """Begin a log in Redis with a template.

    Raises:
        ServerError: Redis refuses, or can't hold a log.
    """
    redis_logs.seed(settings, name, template)


def create(settings: Settings, name: str) -> None:
    """Create an empty database in MariaDB or PostgreSQL, unless the server has an empty one of that name.

    Raises:
        ServerError: the server refuses.
    """
    relational.create(settings, name)


__all__ = ["FlushPolicy", "ServerError", "address", "check", "clear", "create", "drop", "flush_policy", "has", "one_line", "seed"]
