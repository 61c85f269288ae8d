"""Two real sites with real guests: the home of the images, and the site near the user; and the requests to them."""

from __future__ import annotations

import base64
import http.client
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from atoll.bench.api import refused
from atoll.bench.cloud.stage import MeasuredCloud
from atoll.bench.cloudlet.answers import AnswerWatch, answers
from atoll.bench.cloudlet.commands import TRANSFER_S, begin, result
from atoll.bench.cloudlet.inside import InsideApi
from atoll.bench.cloudlet.parts import EDGE, HOME, LINK, OPEN, EmulatedLink
from atoll.bench.failure import failed
from atoll.bench.guests.places import Port, client
from atoll.bench.own_cloud import Companion, own_cloud
from atoll.bench.waiting import wait_until
from atoll.bench.workload import POLL_S, delete
from atoll.errors import AtollError
from atoll.site.state import State

CIDR = "10.90.0.0/24"

PATIENCE_S = 600.0
"""Seconds to wait for a server, an answer or a command: guests boot without KVM, on a busy machine, from images on slow links."""

_AGAIN_S = 0.5
_ON_ITS_WAY = (502, 503, 504)


class NomadSites:
    """The running sites, with a network and a security group at the edge, and a client at a port of that network at each site.

    Args:
        cloud: the running cloud.
        memory_mib: least memory of the servers, in MiB.
        disk_gib: least disk of the servers, in GiB.

    Attributes:
        cloud: see above.
    """

    def __init__(self, cloud: MeasuredCloud, memory_mib: int, disk_gib: int) -> None:
        self.cloud = cloud
        self._inside = {site: InsideApi(cloud.network(site), cloud.settings(site)) for site in cloud.names}
        self.sign_in()
        self._clients: dict[str, int] = {}
        self._stack = ExitStack()
        self._flavor = self._least_flavor(memory_mib, disk_gib)
        self.network = self._neutron("network", name="bench")
        self._neutron("subnet", network_id=self.network, ip_version=4, cidr=CIDR)
        self._group = self._neutron("security_group", name="bench-cloudlet")
        for protocol in ("tcp", "icmp"):
            self._neutron("security_group_rule", security_group_id=self._group, direction="ingress", protocol=protocol)

    def sign_in(self) -> None:
        """Get new tokens for all clients."""
        for site, api in self._inside.items():
            api.sign_in()
            self.cloud.api(site).sign_in()

    def close(self) -> None:
        """Remove the clients from the networks."""
        self._stack.close()

    def inside(self, site: str) -> InsideApi:
        """Return a client of a site's own services, signed in."""
        return self._inside[site]

    def instances(self, site: str) -> Path:
        """Return the directory of a site's servers."""
        return self.cloud.settings(site).data / "instances"

    @property
    def server_fields(self) -> dict[str, Any]:
        """The flavor, network and security group of servers whose port Nova makes."""
        return {"flavorRef": self._flavor, "networks": [{"uuid": self.network}], "security_groups": [{"name": "bench-cloudlet"}]}

    # The link

    def set_link(self, link: EmulatedLink) -> None:
        """Give the link between both sites other properties."""
        self.cloud.wan.set(LINK, link.changes())

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the link while the context lasts."""
        self.cloud.wan.cut(LINK)
        try:
            yield
        finally:
            self.cloud.wan.heal(LINK)

    def await_alone(self) -> None:
        """Wait until the edge's gateway has noticed that it can't reach the other site."""
        api = self.cloud.api(EDGE)
        wait_until(lambda: HOME in api.call("compute", "GET", "/servers").headers.get("x-atoll-missing", ""), "the cut is noticed", 120)

    def sent_mib(self, site: str) -> float:
        """Return the amount of data that a site has put on the link so far, in MiB."""
        return sum(each["bytes_in"] for way, each in self.cloud.wan.counters().items() if way.startswith(f"{site}:")) / (1 << 20)

    # Commands

    def command(self, site: str, *words: str | Path) -> Any:
        """Run a command of `atoll` inside a site as its administrator, and return the decoded JSON that it prints.

        Raises:
            AtollError: `bench.failed`: the command failed; the message contains its error.
        """
        with self.begin(site, *words) as process:
            return result(process)

    def begin(self, site: str, *words: str | Path) -> subprocess.Popen[str]:
        """Start a command of `atoll` inside a site as its administrator; `commands.result` returns its result."""
        return begin(self.cloud, site, *words)

    # Images

    def upload(self, file: Path, name: str) -> str:
        """Upload an ordinary image in qcow2 at the home, as an operator does without overlays, and return its id."""
        api = self.cloud.api(HOME)
        fields = {"name": name, "disk_format": "qcow2", "container_format": "bare"}
        image = str(api.expect("image", "POST", "/v2/images", fields)["id"])
        api.expect("image", "PUT", f"/v2/images/{image}/file", data=file.read_bytes())
        return image

    def has_image(self, site: str, image: str) -> bool:
        """Return whether a site's own Glance has all data of an image."""
        answer = self._inside[site].call("image", "GET", f"/v2/images/{image}")
        return answer.ok and answer.body["status"] == "active"

    def await_image(self, site: str, image: str) -> None:
        """Wait until a site's own Glance has all data of an image."""
        wait_until(lambda: self.has_image(site, image), f"{site} has image {image}", TRANSFER_S, 0.5)

    def snapshot(self, site: str, server: str, name: str) -> str:
        """Make an image of a server's disk at its site, wait until the image is complete, and return its id."""
        body = {"createImage": {"name": name}}
        image = str(self.cloud.api(site).expect("compute", "POST", f"/servers/{server}/action", body)["image_id"])
        self.await_image(site, image)
        return image

    # Servers

    def port(self, site: str) -> Port:
        """Create a port on the network at a site's own Neutron, and return it."""
        api = self._inside[site]
        fields = {"network_id": self.network, "security_groups": [self._group]}
        made = api.expect("network", "POST", "/v2.0/ports", {"port": fields})["port"]
        mtu = api.expect("network", "GET", f"/v2.0/networks/{self.network}")["network"]["mtu"]
        return Port(str(made["id"]), str(made["mac_address"]), str(made["fixed_ips"][0]["ip_address"]), int(mtu))

    def create(self, site: str, name: str, image: str, script: str, port: Port | None = None) -> str:
        """Request a server at a site through the site's gateway, and return the server's id.

        While the gateway fetches the image over a slow link, it refuses the request, which is then repeated.

        Args:
            site: the site of the server.
            name: the server's name.
            image: the id of the image, which may be at the other site.
            script: the user data; empty for none.
            port: the server's port; `None` means that Nova makes one.
        """
        fields = {"name": name, "imageRef": image, "availability_zone": site, **self.server_fields}
        if port is not None:
            fields |= {"networks": [{"port": port.id}]}
            del fields["security_groups"]
        if script:
            fields["user_data"] = base64.b64encode(script.encode()).decode()
        deadline = time.monotonic() + TRANSFER_S
        while True:
            answer = self.cloud.api(site).call("compute", "POST", "/servers", {"server": fields})
            if answer.ok:
                return str(answer.body["server"]["id"])
            if answer.status not in _ON_ITS_WAY or time.monotonic() > deadline:
                raise refused(f"POST /servers at {site}", answer)
            time.sleep(_AGAIN_S)

    def show(self, site: str, server: str) -> dict[str, Any]:
        """Return a server, as the gateway of a site shows it."""
        found: dict[str, Any] = self.cloud.api(site).expect("compute", "GET", f"/servers/{server}")["server"]
        return found

    def await_status(self, site: str, server: str, status: str) -> None:
        """Wait until a server has a status and no task.

        Raises:
            AtollError: `bench.failed`: the server went to ERROR, or it took too long.
        """

        def look() -> bool:
            shown = self.show(site, server)
            if shown["status"] == "ERROR":
                raise failed(f"server {shown['name']} went to ERROR: {shown.get('fault', {}).get('message', 'no reason was given')}")
            return bool(shown["status"] == status and shown["OS-EXT-STS:task_state"] is None)

        wait_until(look, f"server {server} {status} at {site}", PATIENCE_S, POLL_S)

    def address(self, site: str, server: str) -> str:
        """Return the address of a server at a site, from the site's own Neutron; empty if it has none yet."""
        ports = self._inside[site].expect("network", "GET", f"/v2.0/ports?device_id={server}")["ports"]
        return str(ports[0]["fixed_ips"][0]["ip_address"]) if ports and ports[0]["fixed_ips"] else ""

    def delete(self, site: str, server: str) -> None:
        """Delete a server, and wait until it is gone."""
        delete(self.cloud.api(site), [server])

    def clear(self) -> None:
        """Delete all servers, heal the link, and give it its usual properties, whatever a failed part has left."""
        self.cloud.wan.heal()
        self.set_link(OPEN)
        for site in self.cloud.names:
            with suppress(AtollError, OSError, http.client.HTTPException, LookupError):
                servers = self.cloud.api(site).expect("compute", "GET", "/servers?all_tenants=1")["servers"]
                delete(self.cloud.api(site), [each["id"] for each in servers])

    # Clients

    def plug(self, site: str) -> None:
        """Connect a client with the network at a site, unless it is connected. The site must have the network or a copy of it."""
        if site not in self._clients:
            fields = {"network_id": self.network, "binding:host_id": site}
            made = self._inside[site].expect("network", "POST", "/v2.0/ports", {"port": fields})["port"]
            port = Port(str(made["id"]), str(made["mac_address"]), str(made["fixed_ips"][0]["ip_address"]), self._mtu(site))
            settings = self.cloud.settings(site)
            self._clients[site] = self._stack.enter_context(client(settings, self.cloud.network(site), "benchclient", port))
            path = f"/v2.0/ports/{port.id}"
            api = self._inside[site]
            wait_until(lambda: api.expect("network", "GET", path)["port"]["status"] == "ACTIVE", f"the client's port at {site}", PATIENCE_S)

    def watch(self, site: str, address: str) -> AnswerWatch:
        """Return a watch of a server's HTTP answers, by the client in the server's network."""
        return AnswerWatch(partial(answers, self._clients[site], address))

    def _mtu(self, site: str) -> int:
        return int(self._inside[site].expect("network", "GET", f"/v2.0/networks/{self.network}")["network"]["mtu"])

    def _neutron(self, kind: str, **fields: Any) -> str:
        made = self.cloud.api(EDGE).expect("network", "POST", f"/v2.0/{kind.replace('_', '-')}s", {kind: fields})[kind]
        return str(made["id"])

    def _least_flavor(self, memory_mib: int, disk_gib: int) -> str:
        flavors = self.cloud.api(EDGE).expect("compute", "GET", "/flavors/detail")["flavors"]
        return least_flavor(flavors, memory_mib, disk_gib)


def least_flavor(flavors: Sequence[Mapping[str, Any]], memory_mib: int, disk_gib: int) -> str:
    """Return the id of the smallest flavor with enough memory and disk.

    Raises:
        AtollError: `bench.failed`: no flavor is large enough.
    """
    fits = [each for each in flavors if each["ram"] >= memory_mib and each["disk"] >= disk_gib]
    if not fits:
        raise failed(f"no flavor has {memory_mib} MiB of memory and a disk of {disk_gib} GiB")
    return str(min(fits, key=lambda each: (each["ram"], each["disk"]))["id"])


@contextmanager
def nomad_cloud(root: Path, environment: Mapping[str, str], companions: Sequence[Companion] = ()) -> Iterator[MeasuredCloud]:
    """Start the cloud, yield it, and destroy it with its guests when the context ends.

    Args:
        root: an existing directory for the cloud alone.
        environment: the environment of the commands.
        companions: see `own_cloud`.
    """
    sites = [{"name": site, "compute": "libvirt"} for site in (HOME, EDGE)]
    topology = {"preset": "mesh", "defaults": {"delay": f"{OPEN.rtt_ms / 2}ms"}}
    document = {"name": "cloudlet", "sites": sites, "topology": topology}
    with own_cloud(root, document, environment, companions) as own:
        cloud = MeasuredCloud(State(own.state.root), (HOME, EDGE), OPEN.rtt_ms, environment, own.log)
        cloud.await_joined()
        yield cloud
