"""Instances of applications: servers of Nova whose metadata name the application and the ports of its interfaces.

Nothing else is stored about an instance, so it is known wherever its server is, also while its site is cut off from the site of its image.
The owner of a server chooses its metadata. So metadata decide about the owner's own servers alone: those of another project never count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.gateway.edge.front import Question
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.paths import is_uuid

APP = "atoll_app"
"""Key in a server's metadata: the id of the application of which the server is an instance."""

APP_PROVIDER = "atoll_app_provider"
"""Key in a server's metadata: the name of the application's provider."""

APP_PORT = "atoll_app_port_"
"""Prefix of keys in a server's metadata; the id of an interface follows. The value is the port at which clients reach the interface."""

NO_PROVIDER = "not_named"
"""The provider of an instance whose metadata name none; the standard demands a name."""

_PROVIDER = re.compile(r"[A-Za-z][A-Za-z0-9_]{7,63}")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{2,30}[A-Za-z0-9]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,63}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

_STATUS = {"ACTIVE": "ready", "BUILD": "instantiating", "REBUILD": "instantiating", "ERROR": "failed", "DELETED": "terminating"}
"""Statuses of instances by Nova's; a stopped server's is unknown to the standards."""

_TERMINATING = frozenset(("deleting", "soft-deleting"))
"""States of a server's task during its deletion."""


@dataclass(frozen=True)
class AppInstance:
    """An instance of an application.

    Attributes:
        id: the id of the server.
        server_name: the name of the server.
        app: the id of the application.
        provider: the name of the application's provider.
        site: the site, or another availability zone, of the server; empty if Nova has not chosen one.
        status: ready, instantiating, failed, terminating or unknown.
        ports: the port of each interface that clients reach, by the interface's id.
        ipv4: the addresses at which clients reach the server; floating ones alone if it has any.
        ipv6: the IPv6 addresses.
    """

    id: str
    server_name: str
    app: str
    provider: str
    site: str
    status: str
    ports: Mapping[str, int]
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the server, or one made from its id if the standards do not allow the server's."""
        return self.server_name if _NAME.fullmatch(self.server_name) else f"server_{self.id.replace('-', '_')}"

    def access_points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id of each interface that can be reached, with its port and addresses in the standards' form."""
        addresses = {name: list(found) for name, found in (("ipv4Addresses", self.ipv4), ("ipv6Addresses", self.ipv6)) if found}
        if addresses:
            for interface, port in self.ports.items():
                yield interface, {"port": port, **addresses}


def instance_of(server: Mapping[str, Any], project: str) -> AppInstance | None:
    """Return the instance that a server is; `None` if it is none, or belongs to another project.

    Args:
        server: the server, as Nova shows it in detail.
        project: the id of the caller's project.
    """
    metadata = server.get("metadata")
    if not project or server.get("tenant_id") != project or not isinstance(metadata, dict):
        return None
    app, provider = metadata.get(APP), str(metadata.get(APP_PROVIDER, ""))
    if not isinstance(app, str) or not is_uuid(app):
        return None
    ports = {
        key.removeprefix(APP_PORT): int(value)
        for key, value in sorted(metadata.items())
        if key.startswith(APP_PORT) and _INTERFACE.fullmatch(key.removeprefix(APP_PORT)) and _is_port(value)
    }
    addresses = list(_addresses(server.get("addresses")))
    return AppInstance(
        str(server.get("id")),
        str(server.get("name", "")),
        app,
        provider if _PROVIDER.fullmatch(provider) else NO_PROVIDER,
        str(server.get("OS-EXT-AZ:availability_zone") or ""),
        _status(server),
        ports,
        tuple(address for version, address in addresses if version == 4)[:16],
        tuple(address for version, address in addresses if version == 6)[:16],
    )


async def instances(services: UserServices, question: Question) -> tuple[list[AppInstance], str]:
    """Return the instances of the caller's project at all sites, and the sites that did not answer, joined by commas.

    Raises:
        Problem: Nova refuses the list.
        Unreachable: no complete list can be had, and the caller or the operator wants complete ones.
    """
    listed = await services.list(question, "compute", "/v2.1/servers/detail", "servers")
    found = (instance_of(server, question.caller.project) for server in listed.items)
    return [instance for instance in found if instance is not None], listed.missing


async def any_of(services: UserServices, question: Question, app: str) -> str:
    """Return the id of an instance of an application in the caller's project; empty if no site has one.

    Raises:
        Problem: Nova refuses the list.
        Unreachable: a site that may have an instance does not answer.
    """
    found, missing = await instances(services, question)
    held = next((instance.id for instance in found if instance.app == app), "")
    if not held and missing:
        why = f"it may have instances of the application, and does not answer ({missing}): disable the application until it does"
        raise Unreachable(missing.partition(",")[0], why)
    return held


def _is_port(value: Any) -> bool:
    return isinstance(value, str) and _PORT.fullmatch(value) is not None and int(value) <= 65535


def _status(server: Mapping[str, Any]) -> str:
    if server.get("OS-EXT-STS:task_state") in _TERMINATING:
        return "terminating"
    return _STATUS.get(str(server.get("status")), "unknown")


def _addresses(networks: Any) -> Iterator[tuple[int, str]]:
    """Yield the version and the text of each address at which clients reach a server."""
    if not isinstance(networks, dict):
        return
    every = [each for addresses in networks.values() if isinstance(addresses, list) for each in addresses if isinstance(each, dict)]
    floating = [each for each in every if each.get("OS-EXT-IPS:type") == "floating"]
    for each in floating or every:
        version, address = each.get("version"), each.get("addr")
        if version in {4, 6} and isinstance(address, str):
            yield int(version), address
