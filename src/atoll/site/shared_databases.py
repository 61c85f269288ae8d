"""The settings of sites that share one database: whose it is, how each site reaches it, and their common bus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from atoll.cloud import Cloud, Site
from atoll.services.database_urls import REDIS, REDIS_PORT, REDIS_SOCKET, USER, own_directory
from atoll.site.databases import database_of


def shared_of(cloud: Cloud, site: Site, directory: Path, passwords: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings by which a site shares a database with others; none if it shares none.

    Args:
        cloud: the cloud.
        site: a site of the cloud.
        directory: the site's directory, beside those of the other sites.
        passwords: the password of each site's own user at the server, by site.

    Raises:
        AtollError: `cloud.invalid`: the password of an existing server can't be read, or others can read it.
    """
    group = cloud.sharing(site.name)
    if not group:
        return {}
    owner, *others = group
    fields: dict[str, Any] = {"sharing": {each.name: f"{each.host}:{each.ports['bus']}" for each in group}}
    if site.name != owner.name:
        started = _server(cloud, owner, site, directory, passwords) if owner.database.start else ""
        return fields | {"shares": owner.name, "engine": REDIS, "server": started or database_of(owner)["server"]}
    if owner.database.start:
        users = {_user(each.name): hashlib.sha256(passwords[each.name].encode()).hexdigest() for each in others}
        fields |= {"database_users": users, "database_port": REDIS_PORT if cloud.topology is not None else 0}
    return fields


def _user(site: str) -> str:
    """Return the user of a site at the Redis of another site."""
    return f"{USER}-{site}"


def _server(cloud: Cloud, owner: Site, site: Site, directory: Path, passwords: Mapping[str, str]) -> str:
    """Return the URL of the Redis that another site starts: its Unix socket; in a topology, its address, by TLS over the emulated WAN."""
    account = f"{_user(site.name)}:{quote(passwords[site.name], safe='')}"
    if cloud.topology is None:
        sockets = directory.parent / owner.name / "run"
        return f"redis://{account}@localhost:{REDIS_PORT}/0?{urlencode({'socket': str(own_directory(REDIS, sockets) / REDIS_SOCKET)})}"
    files = {name: str(directory / "tls" / file) for name, file in (("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))}
    return f"rediss://{account}@{owner.host}:{REDIS_PORT}/0?{urlencode(files)}"
