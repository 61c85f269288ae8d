"""Starts instances of applications: servers of Nova with metadata, at one site, with the caller's token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll.gateway.edge.applications import Application
from atoll.gateway.edge.flavors import smallest_for
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.instances import APP, APP_PORT, APP_PROVIDER
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.paths import is_uuid, segment

NETWORK = "X-Atoll-Network"
"""Set by a client: the id of the network of a new instance, for projects with several. The standards have no field for it."""


class Launcher:
    """Starts and deletes instances.

    Args:
        services: the services of the cloud.
    """

    def __init__(self, services: UserServices) -> None:
        self._services = services

    async def start(self, question: Question, name: str, application: Application, site: str, more: Mapping[str, str]) -> str:
        """Have Nova create the server of an instance; return the server's id.

        Args:
            question: the request of the caller.
            name: the name of the server.
            application: the application.
            site: the site.
            more: further metadata.

        Raises:
            Problem: the application is disabled, no flavor fits, or Nova refuses the server.
            Unreachable: a site that the request needs does not answer.
        """
        network = network_of(question)
        if not application.enabled:
            raise Problem(403, "the application is disabled by its provider: no instances of it can be started")
        flavor = await smallest_for(self._services, question, application.needs)
        if flavor is None:
            raise Problem(400, f"no flavor has the application's resources: {application.needs}", "OUT_OF_RANGE")
        manifest = application.manifest
        ports = {f"{APP_PORT}{interface}": str(port) for interface, port in manifest.ports.items()}
        server: dict[str, Any] = {
            "name": name,
            "imageRef": application.id,
            "flavorRef": flavor.id,
            "availability_zone": site,
            "metadata": {APP: application.id, APP_PROVIDER: manifest.app_provider, **ports, **more},
        }
        if network:
            server["networks"] = [{"uuid": network}]
        body = self._services.expect(await self._services.send(question, "POST", "compute", "/v2.1/servers", {"server": server}))
        try:
            return str(body["server"]["id"])
        except (KeyError, TypeError) as error:
            raise Unreachable(site, "Nova's answer about a new server is malformed") from error

    async def delete(self, question: Question, identifier: str) -> None:
        """Delete the server of an instance; a server that is gone already counts as deleted.

        Raises:
            Problem: Nova refuses the deletion.
            Unreachable: the site of the server does not answer.
        """
        reply = await self._services.send(question, "DELETE", "compute", f"/v2.1/servers/{segment(identifier)}")
        if reply.status != 404:
            self._services.expect(reply)


def network_of(question: Question) -> str:
    """Return the network that a request names for a new instance; empty if it names none.

    Raises:
        Problem: the header is no id.
    """
    network = question.headers.get(NETWORK, "")
    if network and not is_uuid(network):
        raise invalid(f"the {NETWORK} header is not the id of a network: expected a UUID")
    return network
