"""Clients of a site's own services, which show the resources that the site itself holds."""

from __future__ import annotations

from atoll.bench.cloud.stage import SiteApi
from atoll.services import Settings
from atoll.services.keystone.bootstrap import CATALOGUE


class InsideApi(SiteApi):
    """A client in the network of a site whose requests go to the site's own services, without the gateway.

    The exceptions are Keystone, and the service `cloudlet`, which is the gateway's own API.
    """

    def __init__(self, network: int, settings: Settings) -> None:
        super().__init__(network, settings.public_url("identity", "/v3"), settings.secrets["admin"])
        self._own = {kind: settings.url(kind, path) for kind, (_name, path) in CATALOGUE.items() if kind != "identity"}
        self._own["cloudlet"] = settings.url("gateway")

    def url(self, service: str, path: str) -> str:
        """Return the URL of a path below a service's endpoint."""
        return self._own[service] + path if service in self._own else super().url(service, path)
