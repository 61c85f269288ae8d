"""Sites with Keystone databases of their own, and Keystone itself to write and read them, for tests."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path

from documents import Clock, Site

from atoll.identity import rows
from atoll.identity.engines.sqlite import SQLiteDatabase, SQLiteSession
from atoll.identity.replica import IdentityReplica
from atoll.identity.rules import rules
from atoll.identity.tables import KINDS, PREFIX
from atoll.identity.trust import TrustPolicy

_DRIVER = Path(__file__).with_name("keystone_driver.py")


class Keystone:
    """A process that has imported Keystone. It forks another for each task: a process has one configuration."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", str(_DRIVER)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, database: Path | str, code: str, **arguments: object) -> object:
        """Execute code in which `identity`, `resource`, … are Keystone's managers; return the value that it gives to `tell`."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(database), textwrap.dedent(code), arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["told"]

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Node:
    """A site with a document, a Keystone database, and the replica that keeps the two equal."""

    def __init__(
        self,
        name: str,
        directory: Path,
        template: Path,
        local: Collection[str] = (),
        clock: Clock | None = None,
        policy: TrustPolicy | None = None,
    ) -> None:
        (directory / "document").mkdir(parents=True)
        self.name = name
        self.database = directory / "keystone.db"
        shutil.copyfile(template, self.database)
        self.local = local
        self.policy = policy
        self.site = Site(name, directory / "document" / "document.db", rules(), clock)
        self.applied: list[frozenset[str]] = []
        self.connection = sqlite3.connect(self.database, isolation_level=None)
        self.open()

    @property
    def document(self):
        return self.site.document

    def open(self) -> None:
        self.replica = IdentityReplica(
            SQLiteDatabase(self.database),
            self.site.document,
            self.local,
            self.applied.append,
            lambda: self.site.clock.ms / 1000,
            self.policy,
        )

    def close(self) -> None:
        self.replica.close()
        self.site.store.close()
        self.connection.close()

    def restart(self) -> None:
        """Start again from the files alone, as after a kill."""
        self.replica.close()
        self.site.restart()
        self.open()
        self.replica.prepare()

    def push(self) -> int:
        touched = frozenset().union(*self.site.touched)
        self.site.touched.clear()
        return self.replica.push(touched)

    def settle(self) -> None:
        self.replica.pull()
        self.push()

    def sql(self, statement: str, *parameters: object) -> list[tuple]:
        """Execute a statement as Keystone does, or an administrator at an SQL prompt."""
        self.site.clock.ms += 1
        return self.connection.execute(statement, parameters).fetchall()

    def user(self, name: str, known: str = "", **columns: object) -> str:
        new = known or uuid.uuid4().hex
        row = {"id": new, "domain_id": "default", "enabled": 1, "extra": "{}"} | columns
        self.connection.execute("BEGIN IMMEDIATE")
        self.sql(f"INSERT INTO user ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", *row.values())
        self.sql("INSERT INTO local_user (user_id, domain_id, name) VALUES (?, ?, ?)", new, row["domain_id"], name)
        self.connection.execute("COMMIT")
        return new

    def project(self, name: str, known: str = "", domain: str = "default") -> str:
        new = known or uuid.uuid4().hex
        statement = "INSERT INTO project (id, name, domain_id, parent_id, enabled, is_domain, extra) VALUES (?, ?, ?, ?, 1, 0, '{}')"
        self.sql(statement, new, name, domain, domain)
        return new

    def domain(self, name: str, known: str = "") -> str:
        new = known or uuid.uuid4().hex
        statement = (
            "INSERT INTO project (id, name, domain_id, enabled, is_domain, extra) VALUES (?, ?, '<<keystone.domain.root>>', 1, 1, '{}')"
        )
        self.sql(statement, new, name)
        return new

    def names(self, table: str = "local_user") -> set[str]:
        return {name for (name,) in self.connection.execute(f'SELECT name FROM "{table}"')}

    def contents(self, *kinds: str) -> dict[str, dict]:
        """Return all replicated content of the tables."""
        chosen = [PREFIX + kind for kind in kinds] or list(KINDS)
        session = SQLiteSession(self.connection.execute)
        return {kind: rows.read(session, KINDS[kind], list(dict.fromkeys(rows.keys(session, KINDS[kind])))) for kind in chosen}

    def check(self) -> None:
        """Check that the database is sound, and that no transaction has left anything behind."""
        assert self.connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert self.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert self.connection.execute("SELECT * FROM atoll_applying").fetchall() == []


def exchange(nodes: Sequence[Node]) -> None:
    """Give every document the entries that it lacks, as the mesh does."""
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.site.catch_up(other.site)


def converge(nodes: Sequence[Node]) -> None:
    """Synchronise until nothing is left to do at any site."""
    for node in nodes:
        node.settle()
    exchange(nodes)
    for node in nodes:
        node.settle()
    exchange(nodes)
    for node in nodes:
        assert node.replica.pull() == 0
        assert node.push() == 0
