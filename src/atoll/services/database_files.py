"""The files of SQLite databases: templates for the installed packages, their copies in a site, and marks of completed steps."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from atoll.files import flush, flush_tree
from atoll.services.contract import Settings
from atoll.services.database_urls import SQLITE


def template_url(directory: Path, name: str) -> str:
    """Return the SQLAlchemy URL of a template's database, whose commits are not flushed: `make_template` flushes the whole template."""
    return f"sqlite:///{directory}/{name}.db?plugin=atoll&durability=relaxed"


def make_template(directory: Path, make: Callable[[Path], None]) -> None:
    """Create a template directory atomically.

    Args:
        directory: the path of the template directory.
        make: a function that fills the temporary directory which it gets.
    """
    if directory.exists():
        return
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = directory.with_name(f"{directory.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    make(temporary)
    flush_tree(temporary)
    try:
        temporary.rename(directory)
    except OSError:
        if not directory.exists():
            raise
        # Another cloud of this user has made the same template meanwhile; both are equal.
        shutil.rmtree(temporary)
    flush(directory.parent)


def checkpoint(database: Path) -> None:
    """Move the contents of a database's write-ahead log into the database file, so that a copy of that file alone is complete."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy_templates(settings: Settings, service: str, names: Iterable[str]) -> bool:
    """Copy the databases of a service that the site lacks from their templates.

    Returns:
        True if a database was copied, because the service starts for the first time.
    """
    copied = False
    for name in names:
        target = settings.data / f"{name}.db"
        if not target.exists():
            temporary = target.with_suffix(".new")
            shutil.copyfile(settings.templates / service / f"{name}.db", temporary)
            temporary.chmod(0o600)
            flush(temporary)
            temporary.replace(target)
            copied = True
    if copied:
        flush(settings.data)
    return copied


def mark(path: Path, settings: Settings, database: str) -> None:
    """Create a file that records that a step of the preparation of a database is complete.

    The file must not outlive the change that it records, so SQLite's log is flushed first, even if `durability` is relaxed. A database
    server flushes its commits by itself.

    Args:
        path: the path of the file.
        settings: the site's settings.
        database: the name of the site's database, which is open.

    Raises:
        OSError: the disk fails.
    """
    if settings.engine_of(database) == SQLITE:
        file = settings.database_file(database)
        flush(file.with_name(f"{file.name}-wal"))
    path.touch(mode=0o600)
    flush(path.parent)
