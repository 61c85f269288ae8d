"""Redis (or Valkey, if that alone is installed) of a site: each commit is in its append-only file before it is acknowledged."""

from __future__ import annotations

import hashlib
import shutil
import socket
from contextlib import suppress
from pathlib import Path

from atoll.files import make_directory
from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.database_urls import REDIS, REDIS_SOCKET, SHARED, USER, own_directory

PROGRAM, PACKAGE = "redis-server", "redis-server"

PROGRAMS = (PROGRAM, "valkey-server")
"""Programs that serve, in the order of preference."""

FILE = "redis/redis.conf"

RIGHTS = "+@read +@write +@scripting +@connection -@dangerous +info +config|get +wait"
"""The commands that a store uses; docs/stores.md lists them."""

ANSWER_S = 1.0


def installed() -> bool:
    """Return whether one of `PROGRAMS` is installed on this machine."""
    return any(map(shutil.which, PROGRAMS))


def configuration(settings: Settings) -> dict[str, str]:
    """Render redis.conf, with the site's user, and those of the sites that share its databases; its Glance is no concern of theirs."""
    if settings.engine != REDIS or settings.server:
        return {}
    directory = own_directory(REDIS, settings.sockets)
    shared = " ".join(f"~{{{settings.owner.log_name(name)}}}:*" for name in SHARED)
    password = hashlib.sha256(settings.secrets["database"].encode()).hexdigest()
    lines = (
        "port 0",
        f"unixsocket {_quoted(directory / REDIS_SOCKET)}",
        "unixsocketperm 700",
        f"dir {_quoted(settings.data / REDIS)}",
        "daemonize no",
        'logfile ""',
        f"loglevel {'verbose' if settings.debug else 'warning'}",
        "appendonly yes",
        f"appendfsync {'always' if settings.durable else 'everysec'}",
        "maxmemory-policy noeviction",
        'save ""',  # the append-only file has everything
        # Nobody can sign in as this user. Redis 7.0 replays transactions from its append-only file with the user's rights, and without them
        # it ignores these transactions: all data would be lost after a restart.
        "user default off resetpass ~* &* +@all",
        f"user {USER} on #{password} ~{{{settings.cloud}.{settings.site}.* {RIGHTS}",
        *(f"user {user} on #{digest} {shared} {RIGHTS}" for user, digest in settings.database_users.items()),
        *_for_other_sites(settings),
    )
    return {FILE: "".join(f"{line}\n" for line in lines)}


def _for_other_sites(settings: Settings) -> tuple[str, ...]:
    """Return the lines that let other sites connect by TLS; both sides show certificates of the cloud's authority."""
    if not settings.database_port:
        return ()
    lines = (f"tls-{name}-file {_quoted(settings.tls / (name.removesuffix('-cert') + '.pem'))}" for name in ("ca-cert", "cert", "key"))
    return (f"bind {settings.host}", f"tls-port {settings.database_port}", *lines, "tls-auth-clients yes")


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def run(child: Child) -> None:
    """Become Redis, and report readiness once it has loaded its data."""
    settings = Settings.load(child.arguments["directory"])
    for directory in (settings.data / REDIS, own_directory(REDIS, settings.sockets)):
        make_directory(directory)
    program = next(filter(shutil.which, PROGRAMS), PROGRAM)
    become(child, (program, str(settings.etc / FILE)), lambda: _serves(settings))


def _serves(settings: Settings) -> bool:
    """Return whether Redis answers the site's user, and has loaded its data."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_S)
        client.connect(str(own_directory(REDIS, settings.sockets) / REDIS_SOCKET))
        client.sendall(f"AUTH {USER} {settings.secrets['database']}\r\nPING\r\n".encode())
        answer = b""
        while answer.count(b"\n") < 2 and (piece := client.recv(200)):
            answer += piece
        return answer == b"+OK\r\n+PONG\r\n"
    return False


SERVICE = Service(REDIS, __name__, configuration, listens=(), forked_from=ROOT)
