"""The databases of each service, and the schemas of those at the target of a transfer."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from atoll.files import flush, make_directory, write_private
from atoll.runtime.child import Child
from atoll.services import database_servers, databases, places
from atoll.services.contract import Settings
from atoll.services.database_urls import REDIS, SQLITE
from atoll.services.nova.service import DATABASES as NOVA

KEYSTONE = "keystone"

DATABASES: Mapping[str, tuple[str, ...]] = {
    KEYSTONE: (KEYSTONE,),
    "placement": ("placement",),
    "glance": ("glance",),
    "neutron": ("neutron",),
    "nova": NOVA,
}
"""The databases that follow the field `database`, by service."""

ENTRY = f"{__name__}:make"
"""The entry point of `make`."""

FILES = frozenset({SQLITE, REDIS})
"""The engines whose databases begin as a copy of the service's template."""


def make(child: Child) -> None:
    """Make the databases of a service at a server of MariaDB or PostgreSQL, as the service itself does at its first start; a job.

    Its arguments are the site's `directory`, the `place`, and the `service`.
    """
    settings = places.recorded(Settings.load(child.arguments["directory"]), child.arguments["place"])
    service = child.arguments["service"]
    upstream = importlib.import_module(f"atoll.services.{service}.service")
    databases.prepare(settings, service, DATABASES[service], upstream.make_schema)


def staged(settings: Settings, name: str) -> Path:
    """Return the file of SQLite that takes the rows: the database itself or, for Redis, the file that its log begins with."""
    return settings.database_file(name) if settings.engine == SQLITE else places.marks(settings) / f".{name}.db"


def make_file(settings: Settings, service: str, name: str) -> None:
    """Make the file of a database of SQLite or Redis from the service's template, unless it was made already."""
    begun, file = places.marks(settings) / f"{name}{places.BEGUN}", staged(settings, name)
    if begun.exists() and file.exists():
        return
    make_directory(begun.parent)
    write_private(begun, "" if settings.engine == SQLITE else database_servers.address(settings))
    remove_file(file)
    temporary = file.with_name(f"{file.name}.new")
    shutil.copyfile(settings.templates / service / f"{name}.db", temporary)
    temporary.chmod(0o600)
    flush(temporary)
    temporary.replace(file)
    flush(file.parent)


def remove_file(file: Path) -> None:
    """Remove a database of SQLite, with its log; one that does not exist is not an error."""
    for suffix in ("-wal", "-shm", ""):
        file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)
