"""A cache of other sites' servers, filled from answers and shown while a site is unreachable.

The file is a cache: it may lag behind or be deleted. No request waits for it, and it only affects the servers that answers show for a site
that does not answer. The servers of each project are bounded separately: one project has at most `MAX_OF_PROJECT`, and displaces the
servers of another only when the cache holds `MAX_SERVERS` in all. A server stays at its site and in its project: another site's statement
about its id is ignored.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from atoll.gateway.private_database import opened_cache

LOG = logging.getLogger(__name__)

MAX_SERVERS = 20_000
"""Greatest number of servers in the cache; some 6 MB on disk."""

MAX_OF_PROJECT = 1000
"""Greatest number of servers of one project in the cache: as many as one page of a list has."""

DELAY_S = 0.5
"""Seconds for which changes are collected before they are written."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS server (
    id TEXT PRIMARY KEY, site TEXT NOT NULL, project TEXT NOT NULL, user TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL,
    image TEXT, flavor TEXT
);
CREATE INDEX IF NOT EXISTS server_site ON server (site, project);
"""


@dataclass(frozen=True)
class CachedServer:
    """The cached fields of a server.

    Attributes:
        id: the server's id.
        site: the site that has it.
        project: the id of its project.
        user: the id of the user who created it.
        name: the server's name.
        created: the time of its creation, in Nova's format.
        image: the id of its image; empty if it has none, `None` if unknown.
        flavor: the server's flavor as Nova embeds it (microversion 2.47), as JSON; `None` if unknown.
    """

    id: str
    site: str
    project: str
    user: str
    name: str
    created: str
    image: str | None = None
    flavor: str | None = None

    def completed_by(self, before: CachedServer) -> CachedServer:
        """Return this entry with the fields of an earlier one that the answer did not show."""
        if (before.site, before.project) != (self.site, self.project):
            return self
        return replace(
            self,
            image=before.image if self.image is None else self.image,
            flavor=before.flavor if self.flavor is None else self.flavor,
        )

    @classmethod
    def read(cls, site: str, item: Mapping[str, Any]) -> CachedServer | None:
        """Return the entry for a server in an answer; `None` if a required field is missing.

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
            # Nova's policy decides which users see the extra specs.
            json.dumps({key: value for key, value in flavor.items() if key != "extra_specs"})
            if isinstance(flavor, dict) and embedded
            else None,
        )


_NAMES = [each.name for each in fields(CachedServer)]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM server"
_INSERT = f"""INSERT INTO server ({", ".join(_NAMES)}) VALUES ({", ".join("?" * len(_NAMES))})
    ON CONFLICT (id) DO UPDATE SET user = excluded.user, name = excluded.name,
    created = excluded.created, image = coalesce(excluded.image, image), flavor = coalesce(excluded.flavor, flavor)
    WHERE site = excluded.site AND project = excluded.project"""


class ServerCache:
    """The servers of other sites that one gateway has seen.

    Args:
        file: the SQLite file, in an existing directory. A file that can't be used is created anew.
    """

    def __init__(self, file: Path) -> None:
        self._database = opened_cache(self, file, _SCHEMA)
        self._written: LRUCache[str, int] = LRUCache(MAX_SERVERS)
        """By the id of each server in the file, the `_mark` of its fields when they were written; 0 if unknown."""
        for (identifier,) in self._database.execute("SELECT id FROM server ORDER BY rowid"):
            self._written[identifier] = 0
        self._changed: dict[str, CachedServer | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def see(self, site: str, items: Iterable[Mapping[str, Any]]) -> None:
        """Cache the servers of an answer, except for those with too few fields.

        Args:
            site: the site that answered.
            items: the servers.
        """
        for item in items:
            try:
                if "tenant_id" not in item:
                    continue
                mark = _mark(site, item)
                if self._written.get(item["id"]) != mark and (server := CachedServer.read(site, item)) is not None:
                    self._put(server, mark)
            except (AttributeError, KeyError, TypeError):
                continue  # the item lacks required fields
        self._schedule()

    def put(self, servers: Iterable[CachedServer]) -> None:
        """Cache servers; the running loop writes them after `DELAY_S`."""
        for server in servers:
            self._put(server, hash(server))
        self._schedule()

    def _put(self, server: CachedServer, mark: int) -> None:
        self._written[server.id] = mark
        waiting = self._changed.get(server.id)
        if waiting is None:
            self._changed[server.id] = server
        elif (waiting.site, waiting.project) == (server.site, server.project):
            self._changed[server.id] = server.completed_by(waiting)

    def forget(self, identifiers: Iterable[str]) -> None:
        """Remove servers from the cache."""
        for identifier in identifiers:
            if self._written.get(identifier) is not None:
                del self._written[identifier]
                self._changed[identifier] = None
        self._schedule()

    def forget_others(self, site: str, project: str | None, listed: Collection[str]) -> None:
        """Remove the servers that a site's complete list does not contain.

        Args:
            site: the site.
            project: the project of the list; `None` for all projects.
            listed: the ids of the servers in the list.
        """
        self.forget([identifier for identifier in self._ids(site, project) if identifier not in listed])

    def forget_site(self, site: str) -> None:
        """Remove the servers of a site that is no longer a member."""
        self.forget(self._ids(site, None))

    def get(self, identifier: str) -> CachedServer | None:
        """Return the entry of a server; `None` if there is none."""
        found = self._read(_SELECT, "id = ?", identifier)
        return CachedServer(*found[0]) if found else None

    def of(self, sites: Sequence[str], project: str | None) -> list[CachedServer]:
        """Return the servers of some sites, newest first, `MAX_OF_PROJECT` at most.

        Args:
            sites: the sites.
            project: the project of the servers; `None` for all projects.
        """
        found = [server for site in sites for server in self._select(site, project)]
        return sorted(sorted(found, key=lambda server: server.id), key=lambda server: server.created, reverse=True)[:MAX_OF_PROJECT]

    def flush(self) -> None:
        """Write all changes to the file."""
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
                    self._bound("WHERE project = ?", MAX_OF_PROJECT, project)
                self._bound("", MAX_SERVERS)
        except sqlite3.Error as error:
            LOG.warning("the cache of servers can't be written: %s", error)
            self._no_longer_written(changed)

    def close(self) -> None:
        """Write all changes, and close the file."""
        self.flush()
        self._database.close()

    def _bound(self, where: str, limit: int, *values: str) -> None:
        """Remove the oldest of the entries that a WHERE clause with these values selects, until `limit` of them remain."""
        statement = (
            f"DELETE FROM server WHERE rowid IN (SELECT rowid FROM server {where} ORDER BY rowid DESC LIMIT -1 OFFSET ?) RETURNING id"
        )
        self._no_longer_written(row[0] for row in self._database.execute(statement, (*values, limit)).fetchall())

    def _no_longer_written(self, identifiers: Iterable[str]) -> None:
        for identifier in identifiers:
            self._written.pop(identifier, None)

    def _select(self, site: str, project: str | None) -> list[CachedServer]:
        return [CachedServer(*row) for row in self._of(_SELECT, site, project)]

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
            LOG.warning("the cache of servers can't be read: %s", error)
            return []

    def _schedule(self) -> None:
        if self._changed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self.flush)


def _mark(site: str, item: Mapping[str, Any]) -> int:
    """Return a hash of the fields that lists show: comparing it is quicker than reading a server that has not changed."""
    image, flavor = item.get("image"), item.get("flavor")
    shown = (image and image.get("id"), flavor and flavor.get("original_name"))
    return hash((site, shown, *(item.get(name) for name in ("tenant_id", "user_id", "name", "created"))))
