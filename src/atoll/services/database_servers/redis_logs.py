"""Servers of Redis: whether they can be used, and the logs of databases that they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll.files import make_directory
from atoll.services.contract import Settings
from atoll.services.database_servers.contract import FlushPolicy, ServerError, address, one_line, spelled

if TYPE_CHECKING:
    from atoll.stores.url import Settings as StoreSettings


def flush_policy(settings: Settings) -> FlushPolicy:
    """Ask the server when it flushes commits; errors as for `check`."""
    with _translated(settings):
        client = _redis(settings)
        found = {name: str(client.config_get(name).get(name, "unknown")) for name in ("appendonly", "appendfsync")}
    return FlushPolicy(spelled(found), found == {"appendonly": "yes", "appendfsync": "always"})


def check(settings: Settings) -> None:
    """Refuse a server that does not answer, is too old, or would lose commits.

    Raises:
        ServerError: the server can't be used, for the reason in the message.
    """
    from atoll.stores import server

    with _translated(settings):
        store = _store(settings)
        server.check(server.connect(store), store)


def log_name(settings: Settings, name: str) -> str:
    """Return the name at the server of the log of a site's database."""
    return settings.owner.log_name(name)


def holds(settings: Settings, name: str) -> bool:
    """Return whether the server has a log of the site's database `name`; errors as for `check`."""
    with _translated(settings):
        return bool(_redis(settings).exists(*_keys(settings, name)))


def seed(settings: Settings, name: str, template: Path) -> None:
    """Begin a log in Redis with a template.

    Raises:
        ServerError: Redis refuses, or can't hold a log.
    """
    from atoll.stores import maintenance

    make_directory(settings.database_file(name).parent)
    with _translated(settings):
        maintenance.seed(_store(settings, name), template)


def drop(settings: Settings, names: list[str]) -> None:
    """Remove the logs of a site's databases; those that do not exist are no error. Errors as for `check`."""
    with _translated(settings):
        _redis(settings).delete(*(key for name in names for key in _keys(settings, name)))


def remove_replica(settings: Settings, name: str) -> None:
    """Remove the site's replica of a log, if it has one."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{settings.database_file(name)}{suffix}").unlink(missing_ok=True)


def _keys(settings: Settings, name: str) -> list[str]:
    """Return the keys of a log; atoll/stores/log.py names them."""
    log = log_name(settings, name)
    return [f"{{{log}}}:{part}" for part in ("log", "meta", "slots", "snapshot", "turn")]


def _store(settings: Settings, name: str = "any") -> StoreSettings:
    from sqlalchemy.engine import make_url

    from atoll.stores.url import parse

    return parse(make_url(settings.database(name)))


def _redis(settings: Settings) -> Any:
    from atoll.stores import server

    return server.connect(_store(settings))


@contextmanager
def _translated(settings: Settings) -> Iterator[None]:
    """Turn the errors of Redis and of a store into `ServerError`."""
    import redis

    from atoll.stores.errors import StoreError

    try:
        yield
    except StoreError as error:
        raise ServerError(one_line(error)) from None
    except redis.RedisError as error:
        raise ServerError(f"{address(settings)}: Redis can't be used: {one_line(error)}") from None
