"""The definitions that all servers of databases share: their error, their policy of flushes, and the names of a site's databases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atoll.db import address as addresses
from atoll.services.contract import Settings


class ServerError(Exception):
    """A server that can't be used; the message is one line, and has no password."""


@dataclass(frozen=True)
class FlushPolicy:
    """The moments at which a database flushes commits to the disk.

    Attributes:
        setting: the engine's own options with their values, such as `innodb_flush_log_at_trx_commit=1`.
        each_commit: whether a commit is on the disk when COMMIT returns.
    """

    setting: str
    each_commit: bool


def address(settings: Settings) -> str:
    """Return the address of a site's server, without user and password."""
    return addresses.address(settings.database_server)


def spelled(options: Mapping[str, str]) -> str:
    """Return options with their values as one line, such as `fsync=on, synchronous_commit=on`."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def one_line(error: BaseException) -> str:
    """Return the message of a driver's error in one line."""
    text = str(error.args[1]) if len(error.args) > 1 and isinstance(error.args[0], int) else str(error)
    return " ".join(text.split())
