"""The connection to Redis or Valkey, and the requirements that a server must meet to hold a log."""

from __future__ import annotations

from typing import Any

import redis
import redis.backoff
import redis.retry
import redis.sentinel

from atoll.stores.errors import NotDurable, WrongServer
from atoll.stores.url import Settings

OLDEST_REDIS = (6, 2)
"""The oldest version of Redis that has XTRIM MINID. Every version of Valkey, a fork of Redis 7.2, has the command."""

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
"""Seconds to wait for one answer. After that the log sends the command again."""


def connect(settings: Settings) -> redis.Redis:
    """Return a client, which connects at its first command. It never repeats a command: only `Log` knows which commands may be repeated."""
    options: dict[str, Any] = {
        "db": settings.database, "username": settings.username, "password": settings.password,
        "socket_timeout": ANSWER_TIMEOUT_S, "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0), "protocol": 2,
    }  # fmt: skip
    if settings.tls:
        options.update(ssl=True, ssl_ca_certs=settings.ca, ssl_certfile=settings.cert, ssl_keyfile=settings.key)
    if settings.service:
        sentinels = [(settings.host, settings.port), *settings.sentinels]
        sentinel: Any = redis.sentinel.Sentinel
        master: redis.Redis = sentinel(sentinels, socket_timeout=1.0).master_for(settings.service, **options)
        return master
    if settings.socket:
        return redis.Redis(unix_socket_path=settings.socket, **options)
    return redis.Redis(host=settings.host, port=settings.port, **options)


def check(client: redis.Redis, settings: Settings) -> None:
    """Refuse a server that can't hold a log.

    Raises:
        WrongServer: the server is too old, or may evict keys.
        NotDurable: the server would lose commits when it restarts.
        redis.RedisError: the server does not answer.
    """
    check_information(client.info(), _fsync(client), settings)


def _fsync(client: redis.Redis) -> str | None:
    """Return the server's setting `appendfsync`; `None` if the server forbids the command CONFIG."""
    try:
        return client.config_get("appendfsync").get("appendfsync")
    except redis.ResponseError:
        return None


def check_information(information: dict[str, Any], fsync: str | None, settings: Settings) -> None:
    """Refuse a server whose information shows that it can't hold a log.

    Args:
        information: the answer to INFO.
        fsync: the setting `appendfsync`; `None` if the server does not reveal it.
        settings: the store's settings.

    Raises:
        WrongServer: the server is too old, or may evict keys.
        NotDurable: the server would lose commits when it restarts.
    """
    server = settings.server
    if "valkey_version" not in information:
        version = str(information.get("redis_version", "0"))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < OLDEST_REDIS:
            oldest = ".".join(map(str, OLDEST_REDIS))
            raise WrongServer(f"{server}: Redis {version} is too old for a log: install Redis {oldest} or later, or Valkey")
    policy = information.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise WrongServer(f"{server}: maxmemory-policy is {policy}, which may evict the log: set it to noeviction")
    if not information.get("aof_enabled"):
        raise NotDurable(f"{server}: Redis keeps no append-only file and would lose commits: set appendonly to yes")
    if settings.durability == "full" and fsync != "always":
        found = f"appendfsync is {fsync}" if fsync else "the server does not reveal its appendfsync"
        raise NotDurable(f"{server}: {found}, so a power cut may undo commits: set it to always, or add durability=relaxed to the URL")
