"""The servers of other sites that this gateway has seen in answers: what is known of them while their site is away.

The file is a cache. It may lag behind, or be deleted; so nothing waits for it, and nothing is decided by it but what a list shows of a site
that does not answer. Each project's servers are kept apart: `MOST_OF_PROJECT` of one project never make those of another be forgotten
before there are `MOST` in all. A server stays at its site and in its project: what another site says of its id is not believed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from atoll.gateway.lists.union import Recent

LOG = logging.getLogger(__name__)

MOST = 20_000
"""Servers that are remembered; some 6 MB on the disk."""

MOST_OF_PROJECT = 1000
"""Servers of one project that are remembered: as many as one page of a list has."""

DELAY_S = 0.5
"""Seconds for which changes are gathered before they are written."""

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS server (
    id TEXT PRIMARY KEY, site TEXT NOT NULL, project TEXT NOT NULL, user TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL,
    image TEXT, flavor TEXT
);
CREATE INDEX IF NOT EXISTS server_site ON server (site, project);
"""


@dataclass(frozen=True)
class Server:
    """What is remembered of a server.

    Attributes:
        id: its id.
        site: the site that has it.
        project: the id of its project.
        user: the id of the user who made it.
        name: its name.
        created: when it was made, as Nova writes it.
        image: the id of its image; empty if it has none, `None` if that is not known.
        flavor: its flavor as Nova embeds it (microversion 2.47), as JSON; `None` if that is not known.
    """

    id: str
    site: str
    project: str
    user: str
    name: str
    created: str
    image: str | None = None
    flavor: str | None = None

    def with_what(self, before: Server) -> Server:
        """Return this with what was known before of the same server, and an answer does not say."""
        if (before.site, before.project) != (self.site, self.project):
            return self
        return replace(
            self,
            image=before.image if self.image is None else self.image,
            flavor=before.flavor if self.flavor is None else self.flavor,
        )

    @classmethod
    def read(cls, site: str, item: Mapping[str, Any]) -> Server | None:
        """Read a server's details out of an answer; `None` if they are not all there.

        Args:
            site: the site that answered.
            item: the server.
        """
        texts = [item.get(name) for name in ("id", "tenant_id", "user_id", "name", "created")]
        if item.get("status") in {None, "DELETED", "UNKNOWN"} or not all(isinstance(text, str) for text in texts):
            return None
        identifier, project, user, name, created = map(str, texts)
        image, flavor = item.get("image"), item.get("flavor")
        embedded = isinstance(flavor, dict) and "original_name" in flavor
        return cls(
            identifier,
            site,
            project,
            user,
            name,
            created,
            image["id"] if isinstance(image, dict) and isinstance(image.get("id"), str) else image if image == "" else None,
            # Nova's policy decides who sees the extra specs.
            json.dumps({key: value for key, value in flavor.items() if key != "extra_specs"})
            if isinstance(flavor, dict) and embedded
            else None,
        )


_NAMES = [each.name for each in fields(Server)]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM server"  # noqa: S608 - names of our own
_INSERT = f"""INSERT INTO server ({", ".join(_NAMES)}) VALUES ({", ".join("?" * len(_NAMES))})
    ON CONFLICT (id) DO UPDATE SET user = excluded.user, name = excluded.name,
    created = excluded.created, image = coalesce(excluded.image, image), flavor = coalesce(excluded.flavor, flavor)
    WHERE site = excluded.site AND project = excluded.project"""  # noqa: S608


class Seen:
    """The servers that one gateway has seen at other sites.

    Args:
        file: the SQLite file; its directory exists. A file that can't be used is made anew.
    """

    def __init__(self, file: Path) -> None:
        self._database = _opened(file)
        self._written: Recent[str, int] = Recent(MOST)
        """By the id of each server in the file: what it was when it was written; 0 if that is not known."""
        for (identifier,) in self._database.execute("SELECT id FROM server ORDER BY rowid"):
            self._written.put(identifier, 0)
        self._changed: dict[str, Server | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def see(self, site: str, items: Iterable[Mapping[str, Any]]) -> None:
        """Remember servers out of an answer; those that it says too little of are passed over.

        Args:
            site: the site that answered.
            items: the servers.
        """
        for item in items:
            try:
                if "tenant_id" not in item:
                    continue
                mark = _mark(site, item)
                if self._written.get(item["id"]) != mark and (server := Server.read(site, item)) is not None:
                    self._put(server, mark)
            except (AttributeError, KeyError, TypeError):
                continue  # it is no server
        self._schedule()

    def put(self, servers: Iterable[Server]) -> None:
        """Remember servers; they are written a moment later, by the loop that runs."""
        for server in servers:
            self._put(server, hash(server))
        self._schedule()

    def _put(self, server: Server, mark: int) -> None:
        self._written.put(server.id, mark)
        waiting = self._changed.get(server.id)
        if waiting is None:
            self._changed[server.id] = server
        elif (waiting.site, waiting.project) == (server.site, server.project):
            self._changed[server.id] = server.with_what(waiting)

    def forget(self, identifiers: Iterable[str]) -> None:
        """Servers are gone, if they are remembered at all."""
        for identifier in identifiers:
            if self._written.get(identifier) is not None:
                self._written.forget([identifier])
                self._changed[identifier] = None
        self._schedule()

    def forget_others(self, site: str, project: str | None, there: Collection[str]) -> None:
        """A site has told all its servers: those that it did not tell of are gone.

        Args:
            site: the site.
            project: the project whose servers they are; `None`: of all projects.
            there: their ids.
        """
        self.forget([identifier for identifier in self._ids(site, project) if identifier not in there])

    def forget_site(self, site: str) -> None:
        """A site is no member any more."""
        self.forget(self._ids(site, None))

    def get(self, identifier: str) -> Server | None:
        """Return what is known of a server."""
        found = self._read(_SELECT, "id = ?", identifier)
        return Server(*found[0]) if found else None

    def of(self, sites: Sequence[str], project: str | None) -> list[Server]:
        """Return the servers of some sites, the newest first, `MOST_OF_PROJECT` at most.

        Args:
            sites: the sites.
            project: the project whose servers they are; `None`: of all projects.
        """
        found = [server for site in sites for server in self._select(site, project)]
        return sorted(sorted(found, key=lambda server: server.id), key=lambda server: server.created, reverse=True)[:MOST_OF_PROJECT]

    def flush(self) -> None:
        """Write what has changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        gone = [(identifier,) for identifier, server in changed.items() if server is None]
        new = [astuple(server) for server in changed.values() if server is not None]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                self._database.executemany("DELETE FROM server WHERE id = ?", gone)
                self._database.executemany(_INSERT, new)
                for project in {row[2] for row in new}:
                    self._bound("WHERE project = ?", MOST_OF_PROJECT, project)
                self._bound("", MOST)
        except sqlite3.Error as error:
            LOG.warning("the servers that were seen can't be written: %s", error)
            self._written.forget(changed)

    def close(self) -> None:
        """Write what has changed, and close the file."""
        self.flush()
        self._database.close()

    def _bound(self, where: str, most: int, *values: str) -> None:
        """Forget the oldest of too many."""
        statement = (
            f"DELETE FROM server WHERE rowid IN (SELECT rowid FROM server {where} ORDER BY rowid DESC LIMIT -1 OFFSET ?) RETURNING id"  # noqa: S608
        )
        self._written.forget([row[0] for row in self._database.execute(statement, (*values, most)).fetchall()])

    def _select(self, site: str, project: str | None) -> list[Server]:
        return [Server(*row) for row in self._of(_SELECT, site, project)]

    def _ids(self, site: str, project: str | None) -> list[str]:
        return [row[0] for row in self._of("SELECT id FROM server", site, project)]

    def _of(self, select: str, site: str, project: str | None) -> list[tuple[Any, ...]]:
        if project is None:
            return self._read(select, "site = ?", site)
        return self._read(select, "site = ? AND project = ?", site, project)

    def _read(self, select: str, where: str, *values: str) -> list[tuple[Any, ...]]:
        self.flush()
        try:
            return self._database.execute(f"{select} WHERE {where}", values).fetchall()
        except sqlite3.Error as error:
            LOG.warning("the servers that were seen can't be read: %s", error)
            return []

    def _schedule(self) -> None:
        if self._changed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self.flush)


def _mark(site: str, item: Mapping[str, Any]) -> int:
    """What a list is asked for again and again of a server that has not changed: quicker than to read it."""
    image, flavor = item.get("image"), item.get("flavor")
    shown = (image and image.get("id"), flavor and flavor.get("original_name"))
    return hash((site, shown, *(item.get(name) for name in ("tenant_id", "user_id", "name", "created"))))


def _opened(file: Path) -> sqlite3.Connection:
    for attempt in (True, False):
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # before SQLite makes it for everyone to read
        database = sqlite3.connect(file, isolation_level=None)
        try:
            database.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            database.close()
            if not attempt:
                raise
            for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
                path.unlink(missing_ok=True)
        else:
            return database
    raise AssertionError("unreachable")
