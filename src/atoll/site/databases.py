"""The databases of sites at servers: the address, what must hold before a site may start, and their removal."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from atoll.cloud import Cloud, Site
from atoll.cloud.databases import SQLITE, shown, with_password
from atoll.errors import AtollError
from atoll.services import Settings, engines, servers
from atoll.services.databases import DIRECTORY
from atoll.services.servers import FlushPolicy
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
    """Return the engine of a site's databases for a person, without passwords; empty for a compute site."""
    if site.kind != "full":
        return ""
    database = site.database
    if database.engine == SQLITE:
        return SQLITE
    place = f" at {shown(database.url)}" if database.url else ""
    return f"{database.engine}{place}; keystone: {SQLITE}"


def check_installed(cloud: Cloud) -> None:
    """Refuse sites that are to start a server that this machine does not have.

    Raises:
        AtollError: `database.unavailable`.
    """
    for site in cloud.sites:
        if site.database.start:
            problem, hint = engines.obstacle(site.database.start)
            if problem:
                raise AtollError("database.unavailable", f"{site.name} is to start {site.database.start}, but {problem}", hint)


def check_unchanged(state: State, sites: Iterable[Settings]) -> None:
    """Refuse another engine for a site that has its data in one: its servers and images would be gone.

    Raises:
        AtollError: `cloud.invalid`.
    """
    for settings in sites:
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = Settings.load(state.site(settings.site))
            if (known.engine, bool(known.server)) != (settings.engine, bool(settings.server)) and _has_data(known):
                message = f"{settings.site} has its data in {_called(known)}: expected its `database` as it was"
                raise AtollError("cloud.invalid", message, f"or `atoll destroy {settings.site}`, which deletes its data, and start anew")


def _called(settings: Settings) -> str:
    """Return the engine of a site's databases in words."""
    if settings.engine == SQLITE:
        return SQLITE
    return f"a server of {settings.engine}" if settings.server else f"a {settings.engine} of its own"


def _has_data(settings: Settings) -> bool:
    if settings.engine == SQLITE:
        return any(path.name != "keystone.db" for path in settings.data.glob("*.db"))
    return any((settings.data / DIRECTORY).glob("*"))


def check_servers(sites: Iterable[Settings]) -> None:
    """Refuse existing servers that can't be used.

    Raises:
        AtollError: `database.unavailable`: a server does not answer, or refuses.
    """
    for settings in sites:
        if settings.server:
            try:
                servers.check(settings)
            except servers.ServerError as error:
                raise AtollError("database.unavailable", f"the databases of {settings.site}: {error}") from None


def flush_policy(settings: Settings) -> FlushPolicy:
    """Return when a site's databases, apart from Keystone's, flush commits to the disk; a server that runs is asked.

    Raises:
        AtollError: `database.unavailable`: the server does not answer, or refuses.
    """
    if settings.engine == SQLITE:
        setting = "a flush for each group of commits" if settings.durable else "synchronous=NORMAL, no flush of commits"
        return FlushPolicy(setting, settings.durable)
    try:
        return servers.flush_policy(settings)
    except servers.ServerError as error:
        raise AtollError("database.unavailable", f"the databases of {settings.site}: {error}") from None


def remove(settings: Settings) -> str:
    """Remove the databases of a site from an existing server, but only those that it has made at the address where the server is now.

    At another address there may be databases of the same names that belong to another cloud.

    Returns:
        Which are still there and why, in one line; empty if they are gone.
    """
    if not settings.server:
        return ""
    made = {path.name.removesuffix(".begun"): path.read_text(encoding="utf-8") for path in sorted((settings.data / DIRECTORY).glob("*"))}
    here = [name for name, place in made.items() if place == servers.address(settings)]
    left = [f"{settings.site}: {name}: made at {place or 'an unknown address'}" for name, place in made.items() if name not in here]
    if here:
        try:
            servers.drop(settings, here)
        except servers.ServerError as error:
            left.insert(0, f"{settings.site}: {', '.join(here)}: {error}")
    return "; ".join(left)
