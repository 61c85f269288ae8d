"""The address of a site's message bus, for its services."""

from __future__ import annotations

from os import fsencode
from pathlib import Path
from urllib.parse import quote

from atoll.bus.peers import MAX_SOCKET_PATH
from atoll.cloud import Cloud, Rabbit, Site
from atoll.errors import AtollError
from atoll.site.passwords import read_password

_SOCKET_NAME_BYTES = len("/0123456789abcdef.sock")
"""Bytes of the file name that the driver appends to `Settings.sockets`."""


def has_router(cloud: Cloud, site: Site) -> bool:
    """Return whether the site runs a router, through which its compute sites, or the sites that share its database, reach its bus."""
    return site.kind == "full" and site.bus == "zenoh" and bool(cloud.computes_of(site.name) or cloud.sharing(site.name))


def transport_url(cloud: Cloud, site: Site) -> str:
    """Return the URL of a site's bus, for oslo.messaging.

    Raises:
        AtollError: `cloud.invalid`: the file with the password of the site's RabbitMQ can't be read, or other users can read it.
    """
    control = cloud.control_of(site)
    if control.rabbit is not None:
        return _rabbit_url(control.rabbit)
    # All processes of a full site run on its machine, and find one another by their sockets.
    address = f"{control.host}:{control.ports['bus']}" if site.kind == "compute" else ""
    # Sites that share a database are on one bus, which has the name of the owner.
    return f"zenoh://{address}/{control.database.of or control.name}"


def _rabbit_url(rabbit: Rabbit) -> str:
    if rabbit.password_file is None:
        return rabbit.url
    password = quote(_read_password(Path(rabbit.password_file)), safe="")
    hosts, slash, virtual_host = rabbit.url.removeprefix("rabbit://").partition("/")
    accounts = [host.replace("@", f":{password}@") for host in hosts.split(",")]
    return f"rabbit://{','.join(accounts)}{slash}{virtual_host}"


def _read_password(path: Path) -> str:
    password = read_password(path, "RabbitMQ")
    # oslo.messaging quotes all but the slash (_drivers/impl_rabbit.py, `_parse_url`); kombu would take the part before it for a port.
    if "/" in password:
        raise AtollError("cloud.invalid", f"{path}: expected the password of RabbitMQ: one line, without a slash")
    return password


def check_sockets(directory: Path) -> None:
    """Refuse a directory whose path is too long for the sockets of the bus.

    Raises:
        AtollError: `state.unusable`: the path is too long.
    """
    length, most = len(fsencode(directory)), MAX_SOCKET_PATH - _SOCKET_NAME_BYTES
    if length > most:
        message = f"{directory} is too long for the sockets of the message bus: {length} bytes, expected at most {most}"
        raise AtollError("state.unusable", message, "use a directory with a shorter path: --state DIR")
