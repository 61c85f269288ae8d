"""The databases of sites at servers: their address, the checks before a site may start, and their removal."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.cloud import Cloud, Site
from atoll.cloud.databases import SQLITE, with_password, without_password
from atoll.db.address import address
from atoll.errors import AtollError
from atoll.services import Settings, database_servers, engines, places
from atoll.services.database_servers import FlushPolicy
from atoll.site.passwords import read_password
from atoll.site.state import State


def database_of(site: Site) -> dict[str, Any]:
    """Return the settings of a site's databases: the engine, and the URL of an existing server with its password, or no URL.

    Raises:
        AtollError: `cloud.invalid`: the password can't be read, or others can read it.
    """
    database = site.database
    if database.url is None or database.password_file is None:
        return {"engine": database.engine, "server": database.url or ""}
    password = read_password(Path(database.password_file), f"the databases of {site.name}")
    return {"engine": database.engine, "server": with_password(database.url, password)}


def described(site: Site) -> str:
    """Return a description of a site's databases, without passwords; empty for a compute site."""
    if site.kind != "full":
        return ""
    database = site.database
    if database.engine == SQLITE:
        return SQLITE
    if database.of:
        return f"{database.engine} of {database.of}"
    place = f" at {address(database.url)}" if database.url else ""
    return f"{database.engine}{place}"


def check_installed(sites: Iterable[Site]) -> None:
    """Refuse sites that are to start a server that this machine does not have.

    Raises:
        AtollError: `database.unavailable`.
    """
    for site in sites:
        if site.database.start:
            problem, hint = engines.obstacle(site.database.start)
            if problem:
                raise AtollError("database.unavailable", f"{site.name} is to start {site.database.start}, but {problem}", hint)


def check_unchanged(cloud: Cloud | None, state: State, sites: Iterable[Settings]) -> None:
    """Refuse another engine, or another server, for a site that has its data in one: its servers and images would be gone.

    Args:
        cloud: the cloud as last applied, which says where the data are; `None` if there is none.
        state: the state directory.
        sites: the settings of the sites that are to start.

    Raises:
        AtollError: `cloud.invalid`.
    """
    for settings in sites:
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = used(cloud, Settings.load(state.site(settings.site)))
            if known.place != settings.place and places.has_data(known):
                route = f"{settings.site} has its data in {places.described(known)}, not in {places.described(settings)}"
                if settings.shares or known.shares:
                    message = f"{route}: expected its `database` as it was, because the data can't be moved"
                    raise AtollError("cloud.invalid", message, f"put the field back, or `atoll site remove {settings.site}` first")
                command = f"`atoll database move {settings.site} {argument_of(settings)}`"
                message = f"{route}: expected its `database` as it was; {command} moves the data"
                raise AtollError("cloud.invalid", message, f"`atoll site stop {settings.site}` first, or put the field back")


def used(cloud: Cloud | None, known: Settings) -> Settings:
    """Return the settings of a site with the place that the cloud as last applied names; without a password."""
    site = next((each for each in cloud.sites if each.name == known.site), None) if cloud else None
    if site is None:
        return known
    return replace(known, engine=site.database.engine, server=site.database.url or "", shares=site.database.of or "")


def argument_of(settings: Settings) -> str:
    """Return the place of a site's databases as an argument of `atoll database move`."""
    if settings.server:
        return without_password(settings.server)
    return SQLITE if settings.engine == SQLITE else f"start:{settings.engine}"


def check_servers(sites: Iterable[Settings]) -> None:
    """Refuse existing servers that can't be used.

    Raises:
        AtollError: `database.unavailable`: a server does not answer, or refuses.
    """
    for settings in sites:
        if settings.server and not settings.shares:
            try:
                database_servers.check(settings)
                _check_logs(settings)
            except database_servers.ServerError as error:
                raise AtollError("database.unavailable", f"the databases of {settings.site}: {error}") from None


def _check_logs(settings: Settings) -> None:
    """Refuse a server that has logs of these names which the site has not made; they may be another cloud's.

    Raises:
        AtollError: `database.unavailable`.
        ServerError: the server does not answer.
    """
    if not settings.sharing:
        return  # a site that starts alone refuses them when it makes its databases
    made = places.made(settings)
    for name in ("keystone", "nova_api"):
        if name not in made and database_servers.has(settings, name):
            text = f"{address(settings.server)} has a log of {name} of {settings.cloud} and {settings.site}, which this site has not made"
            message = f"the databases of {settings.site}: {text}"
            raise AtollError("database.unavailable", message, "remove it there, or give cloud or site another name")


def flush_policy(settings: Settings) -> FlushPolicy:
    """Return when a site's databases flush commits to the disk; a server that runs is asked.

    Raises:
        AtollError: `database.unavailable`: the server does not answer, or refuses.
    """
    if settings.engine == SQLITE:
        setting = "a flush for each group of commits" if settings.durable else "synchronous=NORMAL, no flush of commits"
        return FlushPolicy(setting, settings.durable)
    try:
        return database_servers.flush_policy(settings)
    except database_servers.ServerError as error:
        raise AtollError("database.unavailable", f"the databases of {settings.site}: {error}") from None


def remove(settings: Settings) -> str:
    """Remove the databases of a site from all existing servers, but only those that it has made at the address where a server is now.

    At another address there may be databases of the same names that belong to another cloud.

    Returns:
        The databases that remain and the reason, in one line; empty if all are removed.
    """
    return "; ".join(text for each in (settings, *places.others(settings)) for text in remove_from_server(each))


def remove_from_server(settings: Settings) -> list[str]:
    """Remove the databases of one place of a site from an existing server, and return those that remain, each with the reason."""
    if not settings.server or settings.shares:
        return []
    made = places.made(settings)
    here = [name for name, place in made.items() if place == address(settings.server)]
    left = [f"{settings.site}: {name}: made at {place or 'an unknown address'}" for name, place in made.items() if name not in here]
    if here:
        try:
            database_servers.drop(settings, here)
        except database_servers.ServerError as error:
            left.insert(0, f"{settings.site}: {', '.join(here)}: {error}")
    return left
