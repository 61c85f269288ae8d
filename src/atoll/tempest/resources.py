"""The resources that Tempest needs on a site: images, flavors, an external network, a subnet pool. See python-tempestconf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from keystoneauth1.exceptions import ClientException
from keystoneauth1.session import Session

from atoll.errors import AtollError
from atoll.services import Settings
from atoll.services.neutron.ovn.layout import PHYSICAL_NETWORK
from atoll.site.clients import admin_session
from atoll.site.guest_image import GuestImages

IMAGES = ("tempest", "tempest-alt")
IMAGE_BYTES = 4096
FLAVORS = {"m1.nano": 64, "m1.tiny": 512}
"""Names and MiB of memory of the flavors for the fake driver."""

GUEST_FLAVORS = {"tempest": 128, "tempest-alt": 192}
"""Names and MiB of memory of the flavors for the guest image."""

PUBLIC_NETWORK = "public"
PUBLIC_RANGE = "172.24.4.0/24"
"""DevStack's range of floating IPs."""

POOL = "shared-default-v4"
POOL_RANGE = "10.0.0.0/22"
"""DevStack's range of the default subnet pool, from which Neutron creates a network for a server that is booted without one."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Resources:
    """The resources that Tempest needs on a site, by id.

    Attributes:
        images: two images that any user may boot.
        flavors: two flavors, the second one larger.
        public_network: id and name of an external network, for floating IPs and the gateways of routers.
        subnet_pool: the default subnet pool for IPv4; tempest.conf does not contain it.
        extensions: aliases of the network API's extensions.
    """

    images: tuple[str, str]
    flavors: tuple[str, str]
    public_network: tuple[str, str]
    subnet_pool: str
    extensions: tuple[str, ...]


class Lookup:
    """Finds resources in a site's APIs as its administrator, and creates those that are missing.

    Args:
        settings: settings of the site.
        create: whether to create missing resources.
        report: called with a message for each resource that is created.
        guest_image: file of the guest image; `None` if nothing is to be created, or the site runs no guests.
        session: a keystoneauth session; `None` means a new one of the site's administrator.
    """

    def __init__(
        self, settings: Settings, *, create: bool, report: Report, guest_image: Path | None = None, session: Session | None = None
    ) -> None:
        self._settings = settings
        self._create = create
        self._report = report
        self._guest_image = guest_image
        self._session: Any = session or admin_session(settings)

    def resources(self) -> Resources:
        """Return the resources that Tempest needs.

        Raises:
            AtollError: `tempest.missing`: a resource is missing and was not to be created; `site.not_running`: an API does not answer.
        """
        try:
            return Resources(
                images=(self._image(IMAGES[0]), self._image(IMAGES[1])),
                flavors=self._flavors(),
                public_network=self._public_network(),
                subnet_pool=self._subnet_pool(),
                extensions=tuple(sorted(item["alias"] for item in self._get("network", "/v2.0/extensions")["extensions"])),
            )
        except ClientException as error:
            message = f"{self._settings.site} gives an unexpected answer: {str(error).splitlines()[0]}"
            raise AtollError("site.not_running", message, "see `atoll status`; bring it up with `atoll up`") from error

    def _image(self, name: str) -> str:
        if self._guest_image is not None:
            # An image of that name may be of another version, so its content is compared.
            uploaded = GuestImages(self._settings, self._session).upload(self._guest_image, name)
            if uploaded.made:
                self._report(f"made image {name} on {self._settings.site}")
            return uploaded.id
        found = self._get("image", f"/v2/images?name={name}&status=active&visibility=public")["images"]
        if found:
            return str(found[0]["id"])
        self._make("image", name)
        fields = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
        image = str(self._post("image", "/v2/images", fields)["id"])
        # No guest boots this image, so its content does not matter.
        self._session.put(
            self._settings.url("image", f"/v2/images/{image}/file"),
            data=bytes(IMAGE_BYTES),
            headers={"Content-Type": "application/octet-stream"},
        )
        return image

    def _flavors(self) -> tuple[str, str]:
        first, second = (FLAVORS if self._settings.hypervisor == "fake" else GUEST_FLAVORS).items()
        return self._flavor(*first), self._flavor(*second)

    def _flavor(self, name: str, memory_mib: int) -> str:
        for flavor in self._get("compute", "/v2.1/flavors")["flavors"]:
            if flavor["name"] == name:
                return str(flavor["id"])
        self._make("flavor", name)
        # For a flavor without a disk, Tempest would use volumes.
        flavor = {"name": name, "ram": memory_mib, "vcpus": 1, "disk": 1}
        return str(self._post("compute", "/v2.1/flavors", {"flavor": flavor})["flavor"]["id"])

    def _public_network(self) -> tuple[str, str]:
        found = self._get("network", "/v2.0/networks?router:external=true")["networks"]
        for network in found:
            if network["subnets"]:
                return network["id"], network["name"]
        if found:
            network = found[0]
        else:
            self._make("network", PUBLIC_NETWORK)
            fields = {"name": PUBLIC_NETWORK, "router:external": True, "is_default": True, **self._provider()}
            network = self._post("network", "/v2.0/networks", {"network": fields})["network"]
        outside = self._outside()
        self._make("subnet", outside["cidr"])
        subnet = {"name": network["name"], "network_id": network["id"], "ip_version": 4, "enable_dhcp": False, **outside}
        self._post("network", "/v2.0/subnets", {"subnet": subnet})
        return network["id"], network["name"]

    def _provider(self) -> dict[str, str]:
        """Return the provider's attributes of the external network, if the site has a real one."""
        if not self._settings.outside:
            return {}
        return {"provider:network_type": "flat", "provider:physical_network": PHYSICAL_NETWORK}

    def _outside(self) -> dict[str, str]:
        """Return the addresses of its subnet, whose gateway is the site itself."""
        if not self._settings.outside:
            return {"cidr": PUBLIC_RANGE}
        own = IPv4Interface(self._settings.outside)
        return {"cidr": str(own.network), "gateway_ip": str(own.ip)}

    def _subnet_pool(self) -> str:
        found = self._get("network", "/v2.0/subnetpools?is_default=true&ip_version=4")["subnetpools"]
        if found:
            return str(found[0]["id"])
        self._make("subnet pool", POOL)
        pool = {"name": POOL, "prefixes": [POOL_RANGE], "default_prefixlen": 26, "is_default": True, "shared": True}
        return str(self._post("network", "/v2.0/subnetpools", {"subnetpool": pool})["subnetpool"]["id"])

    def _make(self, kind: str, name: str) -> None:
        if not self._create:
            message = f"{self._settings.site} has no {kind} {name}, which Tempest needs"
            raise AtollError("tempest.missing", message, f"`atoll tempest-conf {self._settings.site}` makes it")
        self._report(f"making {kind} {name} on {self._settings.site}")

    def _get(self, endpoint: str, path: str) -> Any:
        return self._session.get(self._settings.url(endpoint, path)).json()

    def _post(self, endpoint: str, path: str, body: object) -> Any:
        return self._session.post(self._settings.url(endpoint, path), json=body).json()
