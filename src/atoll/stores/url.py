"""The database URL: `redis://HOST[:PORT][/DB]?replica=FILE&log=NAME&cloud=CLOUD&site=SITE`.

The second form is `redis://HOST[:PORT]/DB/NAME?replicas=DIRECTORY&cloud=CLOUD&site=SITE`, whose replica is the file `NAME.db` of the
directory. The URLs of several logs of a site then differ only in their paths, as templates of URLs need them: Nova's can replace the path
and must keep the query.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from atoll.stores.errors import BadURL

ISOLATION = ("galera", "snapshot", "serializable")
DURABILITY = ("full", "relaxed")
READS = ("local", "fresh")
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "sqlite+redis", "sqlite+rediss")
"""Schemes of the URL. oslo.db treats a URL whose scheme begins with `sqlite` as SQLite, and then has it enforce foreign keys."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a store, read from its URL."""

    replica: Path
    """Path of the site's SQLite file, shared by all processes of the site."""
    log: str
    """Name of the log in Redis, which is the name of the database."""
    cloud: str
    """Name of the cloud that owns the log. A log of another cloud is refused."""
    site: str
    """Name of the site. Each site of a log numbers its rows in a series of its own."""
    isolation: str = "galera"
    """Isolation of transactions at different sites: `galera`, `snapshot` or `serializable`; see docs/stores.md."""
    durability: str = "full"
    """Required durability of the server: `full` requires `appendfsync always`, `relaxed` any append-only file."""
    reads: str = "local"
    """The mode of reads: `local` reads the replica as it is; `fresh` first applies the log's new entries, which takes a round trip."""
    wait: int = 0
    """Number of Redis replicas that must confirm a commit (`WAIT`)."""
    timeout: float = 30.0
    """Seconds during which a commit without an answer is sent again, before it fails."""
    stride: int = 64
    """Greatest number of sites of the log, set by the site that creates it. Consecutive row ids of one site differ by this number."""
    history: int = 1000
    """Number of newest entries that the replica keeps, so that `reseed` can restore them to a log that has lost them."""
    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    socket: str | None = None
    """Path of a Unix socket, instead of host and port."""
    tls: bool = False
    ca: str | None = None
    """Path of a PEM file with the certificates of authorities, one of which must have signed the server's certificate."""
    cert: str | None = None
    """Path of the client's certificate (PEM)."""
    key: str | None = None
    """Path of the client's private key (PEM)."""
    service: str | None = None
    """Name of the Sentinel service. If it is given, the URL's host and each `sentinel=HOST:PORT` are addresses of Sentinels."""
    sentinels: tuple[tuple[str, int], ...] = ()
    """Addresses of further Sentinels."""

    @property
    def server(self) -> str:
        """Address of the server, without the password, for error messages."""
        return self.socket or f"{self.host}:{self.port}/{self.database}"


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"expected {', '.join(allowed[:-1])} or {allowed[-1]}")
        return text

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError("expected seconds, more than 0 and at most 3600")
    return value


def _name(text: str) -> str:
    if not text or len(text) > 200 or not text.isprintable() or set(text) & set("{} "):
        raise ValueError("expected a name without spaces and braces")
    return text


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "replica": _absolute, "replicas": _absolute, "log": _name, "cloud": _name, "site": _name,
    "isolation": _choice(*ISOLATION), "durability": _choice(*DURABILITY), "reads": _choice(*READS),
    "wait": _whole(0, 100), "timeout": _seconds, "stride": _whole(1, 65536), "history": _whole(1, 1_000_000),
    "socket": lambda text: str(_absolute(text)), "ca": str, "cert": str, "key": str, "service": _name,
}  # fmt: skip
_REQUIRED = ("replica", "log", "cloud", "site")


def parse(url: URL) -> Settings:
    """Return the settings that a URL gives.

    Raises:
        BadURL: a part is missing, unknown or wrong; the message names it.
    """
    if url.drivername not in SCHEMES:
        raise BadURL(f"database URL: unknown scheme {url.drivername!r}: expected {', '.join(SCHEMES)}")
    found: dict[str, Any] = {}
    for name, value in url.query.items():
        if name == "sentinel":
            found["sentinels"] = tuple(_address(text) for text in ([value] if isinstance(value, str) else value))
        elif name not in _PARSERS:
            raise BadURL(f"database URL: unknown parameter {name!r}: expected one of {', '.join([*_PARSERS, 'sentinel'])}")
        elif not isinstance(value, str):
            raise BadURL(f"database URL: parameter {name!r} is given twice")
        else:
            found[name] = _value(name, value)
    _read_path(url, found)
    if missing := [name for name in _REQUIRED if name not in found]:
        raise BadURL(f"database URL: add the parameter{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    if ("sentinel" in url.drivername and "service" not in found) or (url.drivername in {"redis", "rediss"} and "service" in found):
        raise BadURL("database URL: redis+sentinel:// and the parameter service belong together: expected both or neither")
    return Settings(**found, **_server(url, default_port=26379 if "service" in found else 6379))


def _read_path(url: URL, found: dict[str, Any]) -> None:
    """Replace the log's name in the path, and the directory of replicas, by `log` and `replica`.

    Raises:
        BadURL: the URL has only one of the two, or names the log or the replica twice.
    """
    directory, (_number, slash, log) = found.pop("replicas", None), (url.database or "").partition("/")
    if not slash and directory is None:
        return
    if not (slash and directory) or {"replica", "log"} & found.keys():
        raise BadURL("database URL: a path such as /0/LOG and the parameter replicas belong together, without replica and log")
    found["log"] = _value("log", log)
    if "/" in log:
        raise BadURL(f"database URL: /{url.database}: expected a path such as /0/LOG")
    found["replica"] = directory / f"{log}.db"


def _value(name: str, text: str) -> Any:
    try:
        return _PARSERS[name](text)
    except ValueError as error:
        raise BadURL(f"database URL: {name}={text}: {error}") from None


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise BadURL(f"database URL: sentinel={text}: expected HOST:PORT")
    return host.strip("[]"), int(port)


def _server(url: URL, default_port: int) -> dict[str, Any]:
    database = (url.database or "0").partition("/")[0]
    if not database.isdigit():
        raise BadURL(f"database URL: /{database}: expected the number of a Redis database, such as /0")
    return {
        "host": url.host or "127.0.0.1", "port": url.port or default_port, "database": int(database), "username": url.username,
        "password": url.password, "tls": "rediss" in url.drivername,
    }  # fmt: skip
