"""The databases of a site's services, made when a service starts for the first time.

SQLite's are copies of templates. A log in Redis begins with the same template. At a server of MariaDB or PostgreSQL, upstream's own
migrations make the schema, in a process of their own, because they set options of the whole process.

A database that exists before the site has made it is never taken over: it may hold the data of another cloud. The marks of the site's place
show which databases the site has made (`places`). A database that was begun and not completed is removed and made anew.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from atoll.files import make_directory, write_private
from atoll.services import database_files, database_servers, places
from atoll.services.contract import Settings
from atoll.services.database_urls import REDIS, SQLITE

Make = Callable[[Mapping[str, str]], None]
"""A function that makes the schemas of a service's databases; its argument has their URLs, by name."""


def prepare(settings: Settings, service: str, names: Iterable[str], make: Make) -> None:
    """Make those databases of a service that the site lacks.

    Args:
        settings: the site's settings.
        service: the service, whose templates have its name.
        names: the names of its databases.
        make: makes their schemas at a server of MariaDB or PostgreSQL; called in a process of its own.

    Raises:
        SystemExit: the server refuses, or has a database of that name already; the message is one line with the reason.
    """
    names = list(names)
    engine = settings.engine_of(names[0])
    if engine == SQLITE:
        database_files.copy_templates(settings, service, names)
        return
    if settings.shares:
        _share(settings, names)
        return
    if engine == REDIS:
        make_directory(settings.database_file(names[0]).parent)  # a replica may be deleted, its directory too
    directory = places.marks(settings)
    _check_file(settings, names)
    missing = [name for name in names if not (directory / name).exists()]
    if not missing:
        return
    make_directory(directory)
    try:
        for name in missing:
            begun = directory / f"{name}{places.BEGUN}"
            database_servers.clear(settings, name, own=begun.exists())
            _mark(begun, settings)
            if engine == REDIS:
                database_servers.seed(settings, name, settings.templates / service / f"{name}.db")
            else:
                database_servers.create(settings, name)
        if engine != REDIS:
            _in_process(make, {name: settings.database(name) for name in names})
    except database_servers.ServerError as error:
        raise SystemExit(str(error)) from None
    for name in missing:
        _mark(directory / name, settings)
        (directory / f"{name}{places.BEGUN}").unlink()


def _share(settings: Settings, names: Iterable[str]) -> None:
    """Use the databases of another site, which alone makes them: a log begins with its whole schema, in one step.

    The marks say only that the site has used the databases. They are not its own, and are never removed with it.

    Raises:
        SystemExit: Redis does not answer and the site has no replica yet, or the other site has not made a database.
    """
    make_directory(settings.replicas)
    make_directory(places.marks(settings))
    for name in names:
        try:
            if not settings.database_file(name).exists() and not database_servers.has(settings, name):
                message = f"{settings.shares} has not made its database {name}, which {settings.site} shares"
                raise SystemExit(f"{message}: start {settings.shares} first")
        except database_servers.ServerError as error:
            raise SystemExit(str(error)) from None
        _mark(places.marks(settings) / name, settings)


def _check_file(settings: Settings, names: Iterable[str]) -> None:
    """Refuse to start a site with another engine if an earlier version of Atoll has kept one of its databases in SQLite.

    Raises:
        SystemExit: such a database in SQLite exists.
    """
    for name in names:
        file = settings.data / f"{name}.db"
        if file.exists() and not (places.marks(settings) / name).exists() and not places.is_moving(settings):
            message = f"{file} is of a version of Atoll that kept {name} in SQLite, and {places.described(settings)} has no {name}"
            raise SystemExit(f"{message}: start the site with that version, or destroy it")


def _mark(path: Path, settings: Settings) -> None:
    write_private(path, database_servers.address(settings))


def _in_process(make: Make, urls: Mapping[str, str]) -> None:
    process = multiprocessing.get_context("fork").Process(target=make, args=(urls,))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the schema of {' and '.join(urls)} could not be made; the lines above say why")
