"""The places where a site has databases: its files of SQLite, a server that it starts, or its part of an existing server.

A site uses one place, which its settings name. During a move, and after it until `clean`, it also has a second place: the target or the
source of the move. Each place has a directory of marks, `data/databases/PLACE`:

- `NAME.begun` is written before the site makes a database, `NAME` once its schema is complete. Both contain the server's address.
- `.access` contains the engine and the URL of the server, so that the databases can be removed when the site uses another place.
- `.moving` exists while a move to the place is not complete.

A site on SQLite that has never been moved has no such directory: its database files serve as marks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from atoll.db.address import address
from atoll.files import flush, make_directory, write_private
from atoll.services.contract import Settings
from atoll.services.database_urls import SQLITE

DIRECTORY = "databases"
"""The directory below a site's data with a directory for each place."""

FIXED = frozenset({"octavia"})
"""The databases that are files of SQLite at every place."""

ACCESS, MOVING, BEGUN = ".access", ".moving", ".begun"


def described(settings: Settings) -> str:
    """Return the place as text: `sqlite`, `a mariadb of its own`, or `mariadb at 10.0.0.1:3306`."""
    if settings.engine == SQLITE:
        return SQLITE
    if settings.shares:
        return f"the databases of {settings.shares}"
    return f"{settings.engine} at {address(settings.server)}" if settings.server else f"a {settings.engine} of its own"


def marks(settings: Settings) -> Path:
    """Return the directory of the marks of the place that the settings name."""
    return settings.data / DIRECTORY / settings.place


def made(settings: Settings) -> dict[str, str]:
    """Return the names of the databases that the site has completed or begun at the place, and the server's address at that time."""
    return {path.name.removesuffix(BEGUN): path.read_text(encoding="utf-8") for path in sorted(marks(settings).glob("[!.]*"))}


def has(settings: Settings, name: str) -> bool:
    """Return whether the place has the complete database `name`."""
    if settings.engine_of(name) == SQLITE:
        return settings.database_file(name).exists() and not (marks(settings) / f"{name}{BEGUN}").exists()
    return (marks(settings) / name).exists()


def has_data(settings: Settings) -> bool:
    """Return whether the place has any database of the site that follows the field `database`."""
    if settings.engine == SQLITE:
        return any(path.stem not in FIXED for path in settings.data.glob("*.db"))
    return bool(made(settings))


def record(settings: Settings) -> None:
    """Record how to reach the place."""
    make_directory(marks(settings))
    write_private(marks(settings) / ACCESS, json.dumps({"engine": settings.engine, "server": settings.server}))


def begin_move(settings: Settings) -> None:
    """Record that a move to the place has begun."""
    record(settings)
    write_private(marks(settings) / MOVING, "")


def end_move(settings: Settings) -> None:
    """Record that the site uses the place, so that its data are not the remainder of a move."""
    (marks(settings) / MOVING).unlink(missing_ok=True)


def readdress(settings: Settings, to: Settings) -> None:
    """Move the marks of a place to another place, which is the same server at another address.

    The record of the old address is deleted first, because with it a later clean-up could remove the databases as the remainder of a move.
    """
    (marks(settings) / ACCESS).unlink(missing_ok=True)
    flush(marks(settings))
    record(to)
    shutil.rmtree(settings.replicas, ignore_errors=True)  # a cache
    for name in made(settings):
        if has(settings, name):
            write_private(marks(to) / name, address(to.server))


def is_moving(settings: Settings) -> bool:
    """Return whether a move to the place has begun and was not completed."""
    return (marks(settings) / MOVING).exists()


def recorded(settings: Settings, name: str) -> Settings:
    """Return the settings with another place of the site.

    Args:
        settings: the site's settings.
        name: the name of the place.

    Raises:
        OSError, ValueError: nothing is recorded of the place.
    """
    found = json.loads((settings.data / DIRECTORY / name / ACCESS).read_text(encoding="utf-8"))
    return replace(settings, engine=found["engine"], server=found["server"])


def others(settings: Settings) -> Iterator[Settings]:
    """Yield the settings with each place of the site that is recorded and that it does not use."""
    for path in sorted((settings.data / DIRECTORY).glob(f"*/{ACCESS}")):
        if path.parent.name != settings.place:
            yield recorded(settings, path.parent.name)
