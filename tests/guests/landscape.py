"""A network with a router at one site, and its guests."""

from __future__ import annotations

import base64
import os
import re
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from deployment import ApiInside, Deployment, until

from atoll.cloud.network import outside_of
from atoll.site import guests
from atoll.wan.isolation import within

PATIENCE_S = 300.0
"""Seconds to wait for any condition: guests boot without KVM, on a busy machine."""

FLAVOR = "2"
"""The id of the flavor m1.tiny."""


class Landscape:
    """An image, a network, a router and an external network of one site, created by its administrator.

    Args:
        cloud: the running cloud.
        site: the name of the site.
        image: the file of the guest image.
    """

    def __init__(self, cloud: Deployment, site: str, image: Path) -> None:
        self.cloud, self.site = cloud, site
        self.settings = cloud.settings(site)
        self.api: ApiInside = cloud.api_inside(site)
        self._number = int(site == "nice")
        self.image = self._upload(image)
        self.network, self.subnet = self.make_network(f"10.{self._number}.0.0/24")
        self.outside = self._outside()
        self.router = self.neutron("router", name=f"{site}-router", external_gateway_info={"network_id": self.outside})
        self.api.expect("network", "PUT", f"/v2.0/routers/{self.router}/add_router_interface", {"subnet_id": self.subnet})
        self.group = self.neutron("security_group", name=f"{site}-open")
        for protocol in ("tcp", "icmp"):
            self.allow(self.group, protocol)

    def come_in(self) -> None:
        """Reconnect to the site's network, which is a new one after the cloud was down."""
        self.api = self.cloud.api_inside(self.site)

    def neutron(self, kind: str, **fields: Any) -> str:
        """Create a Neutron resource and return its id."""
        made = self.api.expect("network", "POST", f"/v2.0/{kind.replace('_', '-')}s", {kind: fields})[kind]
        return str(made["id"])

    def make_network(self, cidr: str) -> tuple[str, str]:
        network = self.neutron("network", name=f"{self.site}-{cidr}")
        return network, self.neutron("subnet", network_id=network, ip_version=4, cidr=cidr)

    def allow(self, group: str, protocol: str) -> str:
        """Allow ingress of a protocol, and return the id of the rule."""
        return self.neutron("security_group_rule", security_group_id=group, direction="ingress", protocol=protocol)

    def close(self, address: str) -> None:
        """Delete the rule that allows TCP, and wait until a guest's page is unreachable."""
        rules = self.api.expect("network", "GET", f"/v2.0/security-group-rules?security_group_id={self.group}")["security_group_rules"]
        (tcp,) = [rule["id"] for rule in rules if rule["protocol"] == "tcp"]
        self.api.call("network", "DELETE", f"/v2.0/security-group-rules/{tcp}")
        until(lambda: self.page(address, 2.0) == "", "closed", 60)

    def _upload(self, file: Path) -> str:
        fields = {"name": f"guest-{self.site}", "disk_format": "raw", "container_format": "bare", "visibility": "public"}
        image = self.api.expect("image", "POST", "/v2/images", fields)["id"]
        answer = self.api.call("image", "PUT", f"/v2/images/{image}/file", data=file.read_bytes())
        assert answer.ok
        return str(image)

    def _outside(self) -> str:
        own = outside_of(self.settings.own_address)
        address, base = own.partition("/")[0], own.rpartition(".")[0]
        fields = {"provider:network_type": "flat", "provider:physical_network": "public", "router:external": True}
        network = self.neutron("network", name=f"{self.site}-outside", **fields)
        pool = {"start": f"{base}.140", "end": f"{base}.250"}
        cidr = f"{base}.128/25"
        self.neutron("subnet", network_id=network, ip_version=4, cidr=cidr, gateway_ip=address, enable_dhcp=False, allocation_pools=[pool])
        return network

    # Guests

    def boot(self, name: str, **more: Any) -> Guest:
        """Boot a guest and wait until it is ACTIVE."""
        script = more.pop("script", None)
        group = more.pop("group", self.group)
        network = more.pop("network", self.network)
        port = self.neutron("port", network_id=network, security_groups=[group]) if "networks" not in more else ""
        server = {"name": name, "imageRef": more.pop("image", self.image), "flavorRef": FLAVOR, "networks": [{"port": port}], **more}
        if script:
            server["user_data"] = base64.b64encode(script.encode()).decode()
        made = self.api.expect("compute", "POST", "/servers", {"server": server})["server"]["id"]
        guest = Guest(self, made, name, port)
        guest.await_status("ACTIVE")
        return guest

    def floating_ip(self, guest: Guest | None = None) -> tuple[str, str]:
        """Create a floating IP, by default unassociated, and return its id and address."""
        fields = {"floating_network_id": self.outside} | ({"port_id": guest.port} if guest else {})
        made = self.api.expect("network", "POST", "/v2.0/floatingips", {"floatingip": fields})["floatingip"]
        return made["id"], made["floating_ip_address"]

    def page(self, address: str, timeout_s: float = 5.0, site: str = "") -> str:
        """Return a guest's page, fetched from a site's own network; empty without an answer."""
        network = os.open(self.cloud.wan().namespace(site or self.site).network, os.O_RDONLY | os.O_CLOEXEC)

        def ask() -> str:
            with urllib.request.urlopen(f"http://{address}/", timeout=timeout_s) as answer:
                return str(answer.read().decode())

        try:
            with suppress(OSError):
                return within(network, ask)
            return ""
        finally:
            os.close(network)

    def await_page(self, address: str, name: str, site: str = "") -> str:
        """Wait until the page names a guest, and return it."""
        return until(
            lambda: text if f"<h1>{name}</h1>" in (text := self.page(address, site=site)) else "", f"{address}: {name}", PATIENCE_S
        )


class Guest:
    """A Nova server and its machine."""

    def __init__(self, landscape: Landscape, identifier: str, name: str, port: str) -> None:
        self.landscape, self.id, self.name, self.port = landscape, identifier, name, port

    @property
    def _api(self) -> ApiInside:
        return self.landscape.api

    def show(self) -> dict[str, Any]:
        found: dict[str, Any] = self._api.expect("compute", "GET", f"/servers/{self.id}")["server"]
        return found

    @property
    def address(self) -> str:
        return str(self._api.expect("network", "GET", f"/v2.0/ports/{self.port}")["port"]["fixed_ips"][0]["ip_address"])

    def await_status(self, status: str, patience_s: float = PATIENCE_S) -> None:
        def look() -> bool:
            shown = self.show()
            assert shown["status"] != "ERROR" or status == "ERROR", shown.get("fault")
            return shown["status"] == status and shown["OS-EXT-STS:task_state"] is None

        until(look, f"{self.name} {status}", patience_s)

    def act(self, **action: Any) -> Any:
        return self._api.expect("compute", "POST", f"/servers/{self.id}/action", action)

    def console(self) -> str:
        return str(self.act(**{"os-getConsoleOutput": {}})["output"])

    def await_console(self, pattern: str) -> re.Match[str]:
        return until(lambda: re.search(pattern, self.console()), f"{self.name}: {pattern} on the console", PATIENCE_S)

    def await_ready(self) -> None:
        self.await_console(rf"atoll-guest: ready {self.name} ")

    def process(self) -> psutil.Process:
        """Return the guest's QEMU process."""
        name = self.show()["OS-EXT-SRV-ATTR:instance_name"]
        (found,) = [guest for guest in guests.running(self.landscape.settings.directory) if guest.name == name]
        return psutil.Process(found.pid)

    def delete(self) -> None:
        self._api.call("compute", "DELETE", f"/servers/{self.id}")
        until(lambda: self._api.call("compute", "GET", f"/servers/{self.id}").status == 404, f"{self.name} gone", PATIENCE_S)
        if self.port:
            self._api.call("network", "DELETE", f"/v2.0/ports/{self.port}")
