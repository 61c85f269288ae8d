"""Servers of all engines with Keystone's schema, and sites whose Keystone database is at one of them, for tests."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from documents import Site
from identities import Keystone, Node
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool

from atoll.files import make_directory, write_private
from atoll.identity import engines, outbox, rows
from atoll.identity.engines import mariadb, postgresql
from atoll.identity.replica import IdentityReplica
from atoll.identity.rules import rules
from atoll.identity.tables import KINDS, PREFIX
from atoll.services import Settings, database_servers
from atoll.services import engines as programs
from atoll.services.transfer import database

SERVE = """
import sys
from importlib import import_module
from pathlib import Path
class Child:
    arguments = {"directory": sys.argv[2]}
    def ready(self):
        Path(sys.argv[2], f"{sys.argv[1]} is ready").touch()
import_module(f"atoll.services.engines.{sys.argv[1]}").run(Child())
"""

PATIENCE_S = 300
"""Seconds for a server's first start on a busy machine."""

QUICK = ("sqlite", "redis")
SLOW = tuple(pytest.param(engine, marks=pytest.mark.long) for engine in ("mariadb", "postgresql"))
"""Engines whose schema takes half a minute to make."""


class Servers:
    """The servers of all engines, each started when it is first needed."""

    def __init__(self, directory: Path, keystone: Keystone, template: Path) -> None:
        self._directory, self._keystone, self.template = directory, keystone, template
        self._processes: list[subprocess.Popen] = []
        self._started: dict[str, Settings] = {}
        self._numbers = itertools.count()

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()

    def settings(self, engine: str) -> Settings:
        """Return the settings of a site whose server of this engine runs and has Keystone's schema."""
        if engine not in self._started:
            self._started[engine] = self._start(engine)
        return self._started[engine]

    def _start(self, engine: str) -> Settings:
        if problem := programs.obstacle(engine)[0]:
            pytest.skip(problem)
        home = self._directory / engine
        make_directory(home)
        make_directory(home / "keystone")  # the template
        (home / "keystone" / "keystone.db").write_bytes(self.template.read_bytes())
        secrets = {"database": "a-password"}
        made = Settings(site="paris", directory=home, templates=home, host="127.0.0.1", ports={}, secrets=secrets, engine=engine)
        make_directory(made.data)
        made.save()
        for name, rendered in programs.SERVERS[engine].configuration(made).items():
            make_directory((made.etc / name).parent)
            write_private(made.etc / name, rendered)
        self._processes.append(subprocess.Popen([sys.executable, "-c", SERVE, engine, str(home)], stdout=subprocess.DEVNULL))
        deadline = time.monotonic() + PATIENCE_S
        while not (home / f"{engine} is ready").exists():
            assert self._processes[-1].poll() is None, f"{engine} has ended"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        if engine != "redis":
            database_servers.create(made, "keystone")
            self._keystone.run(made.database("keystone"), "schema")
        return made

    def url(self, engine: str, directory: Path) -> str:
        """Return the URL of a database with the default domain and some roles, and without an outbox, for a site in this directory."""
        source = Settings(site="paris", directory=directory, templates=directory, host="", ports={}, secrets={})
        make_directory(source.data)
        (source.data / "keystone.db").write_bytes(self.template.read_bytes())
        if engine == "sqlite":
            return source.database("keystone")
        settings = self.settings(engine)
        if engine == "redis":
            name = f"keystone{next(self._numbers)}"
            database_servers.seed(settings, name, self.template)
            return f"{settings.database(name)}&timeout=5"
        forget(settings.database("keystone"))
        database.transfer(source, settings, "keystone")
        forget(settings.database("keystone"))
        return settings.database("keystone")


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Connect as Keystone does; names are in double quotes."""
    engine = create_engine(url, poolclass=NullPool)
    if url.startswith("mysql"):
        event.listen(engine, "connect", lambda raw, _record: raw.cursor().execute("SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def run(connection: Connection, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run a statement of which the parameters are marked by `?`, in the connection's transaction."""
    if connection.dialect.name != "sqlite":
        statement = statement.replace("%", "%%").replace("?", "%s")
    done = connection.exec_driver_sql(statement, parameters)
    return [tuple(row) for row in done] if done.returns_rows else []


def forget(url: str) -> None:
    """Remove the triggers and all entries of an outbox, and all agreements, as in a new schema."""
    with connected(url) as connection:
        for statement in engines.tables(connection.dialect.name):
            connection.exec_driver_sql(statement)
        if connection.dialect.name == "postgresql":
            for name, table in run(connection, postgresql._TRIGGERS):
                run(connection, f'DROP TRIGGER "{name}" ON {table}')
            run(connection, "COMMENT ON TABLE atoll_outbox IS NULL")
        else:
            for (name,) in run(connection, mariadb._TRIGGERS):
                run(connection, f'DROP TRIGGER "{name}"')
            run(connection, "ALTER TABLE atoll_outbox COMMENT = ''")
        for table in outbox.TABLES:
            run(connection, f"DELETE FROM {table}")
        connection.commit()


class EngineNode(Node):
    """A site whose Keystone database is at any engine."""

    def __init__(self, name: str, directory: Path, url: str, local: Sequence[str] = ()) -> None:
        (directory / "document").mkdir(parents=True)
        self.name, self.url, self.local, self.policy = name, url, local, None
        self.site = Site(name, directory / "document" / "document.db", rules())
        self.applied = []
        self.open()

    def open(self) -> None:
        database = engines.database(self.url)
        self.replica = IdentityReplica(database, self.site.document, self.local, self.applied.append, lambda: self.site.clock.ms / 1000)

    def close(self) -> None:
        self.replica.close()
        self.site.store.close()

    def sql(self, statement: str, *parameters: object) -> list[tuple]:
        """Execute a statement in a transaction of its own."""
        with connected(self.url) as connection:
            found = run(connection, statement, *parameters)
            connection.commit()
        return found

    def contents(self, *kinds: str) -> dict[str, dict]:
        chosen = [PREFIX + kind for kind in kinds] or list(KINDS)
        with self.replica._database.reading() as session:
            return {kind: rows.read(session, KINDS[kind], list(dict.fromkeys(rows.keys(session, KINDS[kind])))) for kind in chosen}

    def entries(self) -> list[tuple[str, str]]:
        """Return the kinds and keys of the outbox's entries."""
        return self.sql('SELECT kind, "key" FROM atoll_outbox ORDER BY number')

    def check(self) -> None:
        assert self.entries() == []
