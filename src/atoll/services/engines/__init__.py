"""The servers of databases that a site can start itself, with their data in the site's directory and their sockets in a closed one."""

from __future__ import annotations

from collections.abc import Mapping

from atoll.services.contract import Service
from atoll.services.engines import mariadb, postgresql, redis

SERVERS: Mapping[str, Service] = {"redis": redis.SERVICE, "postgresql": postgresql.SERVICE, "mariadb": mariadb.SERVICE}
"""The service of each engine, by the engine's name."""


def obstacle(engine: str) -> tuple[str, str]:
    """Return why this machine can't start an engine, and a hint; empty if it can.

    Args:
        engine: a key of `SERVERS`.
    """
    module = {"redis": redis, "postgresql": postgresql, "mariadb": mariadb}[engine]
    return ("", "") if module.installed() else (f"{module.PROGRAM} is not installed", f"sudo apt-get install {module.PACKAGE}")
