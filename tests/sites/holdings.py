"""What a site has been given before a test, and must still have, and be able to manage, after it."""

from __future__ import annotations

from typing import Any

from deployment import Deployment, until

from atoll.bench import workload
from atoll.bench.api import Api


class Holdings:
    """An image, a network with a subnet and a router, and a server that runs."""

    def __init__(self, cloud: Deployment) -> None:
        self._cloud = cloud
        api = cloud.api()
        self.tenancy = workload.prepare(api)
        self.router = api.expect("network", "POST", "/v2.0/routers", {"router": {"name": "kept"}})["router"]["id"]
        (self.subnet,) = api.expect("network", "GET", f"/v2.0/subnets?network_id={self.tenancy.network}")["subnets"]
        api.expect("network", "PUT", f"/v2.0/routers/{self.router}/add_router_interface", {"subnet_id": self.subnet["id"]})
        self.server = self.boot("kept")
        self._addresses = server(api, self.server)["addresses"]

    def boot(self, name: str) -> str:
        """A new server, ACTIVE."""
        return workload.boot(self._cloud.api(), self.tenancy, name)[0]

    def check(self) -> None:
        """Everything is still there."""
        api = self._cloud.api()
        kept = server(api, self.server)
        assert (kept["status"], kept["addresses"]) == ("ACTIVE", self._addresses)
        assert api.expect("image", "GET", f"/v2/images/{self.tenancy.image}")["status"] == "active"
        assert len(api.call("image", "GET", f"/v2/images/{self.tenancy.image}/file").body) > 0
        assert api.expect("network", "GET", f"/v2.0/networks/{self.tenancy.network}")["network"]["status"] == "ACTIVE"
        assert api.expect("network", "GET", f"/v2.0/routers/{self.router}")["router"]["status"] == "ACTIVE"
        (port,) = api.expect("network", "GET", f"/v2.0/ports?device_id={self.server}")["ports"]
        assert port["status"] == "ACTIVE"
        assert self.server in allocations(api)

    def manage(self) -> None:
        """The server can be stopped and started."""
        api = self._cloud.api()
        for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
            api.expect("compute", "POST", f"/servers/{self.server}/action", {action: None})
            await_status(api, self.server, status)


def server(api: Api, identifier: str) -> dict[str, Any]:
    found: dict[str, Any] = api.expect("compute", "GET", f"/servers/{identifier}")["server"]
    return found


def await_status(api: Api, identifier: str, status: str) -> None:
    until(lambda: server(api, identifier)["status"] == status, f"server {identifier} {status}")


def allocations(api: Api) -> set[str]:
    """Who has something allocated, on any provider."""
    consumers: set[str] = set()
    for provider in api.expect("placement", "GET", "/resource_providers")["resource_providers"]:
        consumers.update(api.expect("placement", "GET", f"/resource_providers/{provider['uuid']}/allocations")["allocations"])
    return consumers


def everything(api: Api) -> dict[str, set[str]]:
    """What there is, by kind: whatever a client makes and deletes must not change it."""

    def ids(service: str, path: str, key: str) -> set[str]:
        return {item["id"] for item in api.expect(service, "GET", path)[key]}

    return {
        "servers": ids("compute", "/servers?all_tenants=1", "servers"),
        "ports": ids("network", "/v2.0/ports", "ports"),
        "subnets": ids("network", "/v2.0/subnets", "subnets"),
        "networks": ids("network", "/v2.0/networks", "networks"),
        "allocations": allocations(api),
    }
