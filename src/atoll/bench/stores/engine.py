"""The database engines of the experiment: SQLite, and the servers that a site can start, as a site starts them (`{start: ENGINE}`).

A server runs in a process of its own: `python -m atoll.bench.stores.engine DIRECTORY ENGINE DESCRIPTOR`. The descriptor is a pipe, on which
the server reports that it is ready.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from urllib.parse import urlencode

from atoll.bench.failure import failed
from atoll.bench.processes import family
from atoll.bench.stores.delay import Distance, delayed
from atoll.bench.workspace import HOST, Workspace
from atoll.cloud import Cloud
from atoll.cloud.databases import SOCKETS, Database, without_password
from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.runtime.child import Child
from atoll.services import Settings, database_servers, engines
from atoll.services.database_urls import MARIADB, MARIADB_SOCKET, POSTGRESQL, POSTGRESQL_SOCKET, REDIS, REDIS_SOCKET, SQLITE, own_directory

CLOUD, SITE = str(Cloud.model_fields["name"].default), "site-1"
"""Names of the cloud and the site of the measurements. A server gives its user rights on the databases of this site alone."""

ENGINES = (SQLITE, REDIS, MARIADB, POSTGRESQL)

_SOCKET_FILES = {REDIS: REDIS_SOCKET, MARIADB: MARIADB_SOCKET, POSTGRESQL: POSTGRESQL_SOCKET}
_PASSWORD = "measured"  # noqa: S105 - of a server that listens at a socket in a closed directory
_START_S = 120.0
_STOP_S = 30.0


def check_requirements() -> None:
    """Check that all engines are installed.

    Raises:
        AtollError: `bench.requirement`: an engine is missing, which the message names.
    """
    for name in engines.SERVERS:
        problem, hint = engines.obstacle(name)
        if problem:
            raise AtollError("bench.requirement", f"the comparison needs {name}: {problem}", f"`{hint}`; its service need not be started")


@dataclass(frozen=True)
class Engine:
    """An engine that is ready.

    Attributes:
        name: a member of `ENGINES`.
        settings: settings of a site with its databases at the server, over the proxy.
        distance: the distance between site and server; `None` for SQLite.
        server: the process of the server; `None` for SQLite.
    """

    name: str
    settings: Settings
    distance: Distance | None = None
    server: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """Return the URL of a new database.

        Raises:
            AtollError: `bench.failed`: the server refuses to create it.
        """
        if self.name in {MARIADB, POSTGRESQL}:
            try:
                database_servers.create(self.settings, database)
            except database_servers.ServerError as error:
                raise failed(str(error)) from error
        return self.settings.database(database)

    def place(self) -> Database:
        """Return the place of a site's databases."""
        if self.name == SQLITE:
            return Database()
        return Database(url=without_password(self.settings.server), password_file=str(self.settings.directory / "password"))

    def move(self, milliseconds: float) -> None:
        """Set the round-trip time between site and server, in milliseconds."""
        if self.distance is not None:
            self.distance.set(milliseconds)

    def pids(self) -> list[int]:
        """Return the ids of the server's processes."""
        return family([self.server.pid]) if self.server else []


@contextlib.contextmanager
def running(name: str, work: Workspace) -> Iterator[Engine]:
    """Start an engine and a proxy before it, and yield it.

    Args:
        name: a member of `ENGINES`.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.failed`: the server did not start.
    """
    root = work.root / name
    secrets = {"database": _PASSWORD}
    settings = Settings(SITE, root, root / "templates", HOST, {}, secrets, cloud=CLOUD, engine=name)
    for directory in (settings.etc, settings.data, settings.sockets, root / "proxy"):
        make_directory(directory)
    write_private(root / "password", _PASSWORD)
    if name == SQLITE:
        yield Engine(name, settings)
        return
    with _started(settings, work) as process:
        link = root / "proxy" / _SOCKET_FILES[name]
        with delayed(own_directory(name, settings.sockets) / _SOCKET_FILES[name], link) as distance:
            socket = link.parent if name == POSTGRESQL else link
            base = settings.database_server.partition("?")[0]
            server = f"{base}?{urlencode({SOCKETS[name]: str(socket)})}"
            far = replace(settings, server=server)
            make_directory(far.replicas)
            yield Engine(name, far, distance, process)


@contextlib.contextmanager
def _started(settings: Settings, work: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    for file, text in engines.SERVERS[settings.engine].configuration(settings).items():
        make_directory((settings.etc / file).parent)
        write_private(settings.etc / file, text)
    settings.save()
    log, (ready, told) = settings.directory / "server.log", os.pipe()
    command = [sys.executable, "-m", "atoll.bench.stores.engine", str(settings.directory), settings.engine, str(told)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=dict(work.environment), stdout=output, stderr=output, pass_fds=(told,))
    os.close(told)
    try:
        if not select.select([ready], [], [], _START_S)[0] or not os.read(ready, 100):
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise failed(f"{settings.engine} did not start: {lines[-1] if lines else 'without a message'}")
        yield process
    finally:
        os.close(ready)
        process.send_signal(signal.SIGINT if settings.engine == POSTGRESQL else signal.SIGTERM)  # PostgreSQL would wait for its clients
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(directory: str, engine: str, told: str) -> None:
    """Become the server, as the site's own process does."""
    run = import_module(engines.SERVERS[engine].module).run
    run(Child(f"{SITE}/{engine}", {"directory": directory}, [], int(told), job=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
