"""The resources of a user with reachable guests: a network with a router, and servers with floating IPs."""

from __future__ import annotations

import base64
import http.client
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.bench.cloud.stage import MeasuredCloud
from atoll.bench.failure import failed
from atoll.bench.guests.places import Port
from atoll.bench.waiting import wait_until
from atoll.bench.workload import BOOT_TIMEOUT_S, POLL_S, delete
from atoll.cloud.network import outside_of
from atoll.services import Settings
from atoll.wan.isolation import within

FLAVOR = "m1.tiny"
CIDR = "10.90.0.0/24"

_CONNECT_S = 0.5
"""Seconds to wait for a connection. The kernel repeats a lost packet only after 1 s, so a new attempt may succeed earlier."""

_ANSWER_S = 30.0


@dataclass(frozen=True)
class Boot:
    """The durations of a guest's boot.

    Attributes:
        control_s: seconds from the request until the server was ACTIVE.
        guest_s: seconds from ACTIVE to the guest's first HTTP answer; `None` if no answer came in time.
    """

    control_s: float
    guest_s: float | None

    @property
    def total_s(self) -> float | None:
        """Seconds from the request to the first HTTP answer."""
        return None if self.guest_s is None else self.control_s + self.guest_s


@dataclass(frozen=True)
class Guest:
    """A Nova server with a floating IP.

    Attributes:
        id: the server's id.
        name: the server's name, which the guest's web page shows.
        port: the server's port.
        floating: the server's floating IP, reachable from the site's network.
    """

    id: str
    name: str
    port: Port
    floating: str


@dataclass
class GuestTenancy:
    """An image, a network with a router, and a security group that admits all traffic.

    Args:
        cloud: the cloud that is measured.
        site: the name of the site.
        image: the file of the guest image.
    """

    cloud: MeasuredCloud
    site: str
    image: Path
    _ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the resources at the site."""
        self.api = self.cloud.api(self.site)
        self.network = self.cloud.network(self.site)
        self._ids["image"] = self._upload()
        self._ids["flavor"] = self._flavor()
        self._ids["network"] = self._neutron("network", name="bench")
        self._ids["subnet"] = self._neutron("subnet", network_id=self._ids["network"], ip_version=4, cidr=CIDR)
        self._ids["group"] = self._neutron("security_group", name="bench")
        for protocol in ("tcp", "udp", "icmp"):
            self._neutron("security_group_rule", security_group_id=self._ids["group"], direction="ingress", protocol=protocol)
        self._ids["outside"] = self._way_out()

    @property
    def settings(self) -> Settings:
        """The settings of the site's services."""
        return self.cloud.settings(self.site)

    @property
    def real(self) -> bool:
        """True if the site has a real hypervisor."""
        return self.settings.network == "ovn"

    @property
    def outside(self) -> str:
        """The site's own address on its external network."""
        return outside_of(self.settings.own_address).partition("/")[0]

    def port(self, **more: Any) -> Port:
        """Create a port on the network, and return it."""
        fields = {"network_id": self._ids["network"], "security_groups": [self._ids["group"]], **more}
        made = self.api.expect("network", "POST", "/v2.0/ports", {"port": fields})["port"]
        mtu = self.api.expect("network", "GET", f"/v2.0/networks/{self._ids['network']}")["network"]["mtu"]
        return Port(str(made["id"]), str(made["mac_address"]), str(made["fixed_ips"][0]["ip_address"]), int(mtu))

    def await_port(self, port: Port, timeout_s: float) -> None:
        """Wait until Neutron reports that a port is ACTIVE."""
        path = f"/v2.0/ports/{port.id}"
        wait_until(lambda: self.api.expect("network", "GET", path)["port"]["status"] == "ACTIVE", f"port {port.id} ACTIVE", timeout_s)

    def boot(self, name: str, patience_s: float, script: str = "") -> tuple[Guest, Boot]:
        """Boot a guest and, if it is real, wait for its first HTTP answer; return the guest and the times of its boot.

        Args:
            name: the name of the guest.
            patience_s: seconds to wait for the answer.
            script: a script that the guest runs after its first answer.
        """
        port = self.port()
        floating = self._floating(port)
        server = {"name": name, "imageRef": self._ids["image"], "flavorRef": self._ids["flavor"], "networks": [{"port": port.id}]}
        if script:
            server["user_data"] = base64.b64encode(script.encode()).decode()
        begun = time.monotonic()
        made = str(self.api.expect("compute", "POST", "/servers", {"server": server})["server"]["id"])
        wait_until(lambda: self._active(made), f"{name} ACTIVE", BOOT_TIMEOUT_S, POLL_S)
        active = time.monotonic()
        answered = self.real and self._await_page(floating, name, active + patience_s)
        return Guest(made, name, port, floating), Boot(active - begun, time.monotonic() - active if answered else None)

    def delete(self, guest: Guest) -> None:
        """Delete a guest and wait until it is gone."""
        delete(self.api, [guest.id])

    def _active(self, server: str) -> bool:
        shown = self.api.expect("compute", "GET", f"/servers/{server}")["server"]
        if shown["status"] == "ERROR":
            raise failed(f"server {shown['name']} went to ERROR: {shown.get('fault', {}).get('message', 'no reason was given')}")
        return bool(shown["status"] == "ACTIVE")

    def _await_page(self, address: str, name: str, deadline: float) -> bool:
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                if f"<h1>{name}</h1>" in self._page(address):
                    return True
            time.sleep(POLL_S)
        return False

    def _page(self, address: str) -> str:
        connection = http.client.HTTPConnection(address)
        connection.sock = within(self.network, lambda: socket.create_connection((address, 80), _CONNECT_S))
        connection.sock.settimeout(_ANSWER_S)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode(errors="replace")
        finally:
            connection.close()

    def _floating(self, port: Port) -> str:
        fields = {"floating_network_id": self._ids["outside"], "port_id": port.id}
        return str(self.api.expect("network", "POST", "/v2.0/floatingips", {"floatingip": fields})["floatingip"]["floating_ip_address"])

    def _way_out(self) -> str:
        """Create an external network, and a router to it; return the network's id."""
        base = self.outside.rpartition(".")[0]
        fields = {"provider:network_type": "flat", "provider:physical_network": "public", "router:external": True}
        outside = self._neutron("network", name="bench-outside", **fields)
        pool = {"start": f"{base}.140", "end": f"{base}.250"}
        self._neutron(
            "subnet",
            network_id=outside,
            ip_version=4,
            cidr=f"{base}.128/25",
            gateway_ip=self.outside,
            enable_dhcp=False,
            allocation_pools=[pool],
        )
        router = self._neutron("router", name="bench", external_gateway_info={"network_id": outside})
        self.api.expect("network", "PUT", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": self._ids["subnet"]})
        return outside

    def _neutron(self, kind: str, **fields: Any) -> str:
        made = self.api.expect("network", "POST", f"/v2.0/{kind.replace('_', '-')}s", {kind: fields})[kind]
        return str(made["id"])

    def _upload(self) -> str:
        fields = {"name": f"bench-{self.site}", "disk_format": "raw", "container_format": "bare"}
        image = str(self.api.expect("image", "POST", "/v2/images", fields)["id"])
        self.api.expect("image", "PUT", f"/v2/images/{image}/file", data=self.image.read_bytes())
        return image

    def _flavor(self) -> str:
        found = [each["id"] for each in self.api.expect("compute", "GET", "/flavors/detail")["flavors"] if each["name"] == FLAVOR]
        if not found:
            raise failed(f"{self.site} has no flavor {FLAVOR}")
        return str(found[0])
