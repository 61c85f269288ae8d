"""tempest.conf of a site: what OpenStack's own test suite must know to test it.

Accounts and addresses come from the site's settings, feature flags from its configuration files, and ids from its APIs. Options whose
default fits any cloud are left out. Sources: tempest/config.py (what each option means), python-tempestconf (which resources it needs).
"""

from __future__ import annotations

import configparser
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keystoneauth1.exceptions import ClientException
from keystoneauth1.session import Session

from atoll.errors import AtollError
from atoll.services import Settings, ini
from atoll.site.clients import admin_session

IMAGES = ("tempest", "tempest-alt")
IMAGE_BYTES = 4096
FLAVORS = ("m1.nano", "m1.tiny")
PUBLIC_NETWORK = "public"
PUBLIC_RANGE = "172.24.4.0/24"
"""DevStack's range of floating IPs."""

POOL = "shared-default-v4"
POOL_RANGE = "10.0.0.0/22"
"""DevStack's range of the default subnet pool, from which Neutron makes a network for whoever boots a server without one."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Resources:
    """What Tempest needs to find on a site, by id.

    Attributes:
        images: two that any user may boot.
        flavors: two, the second one larger.
        public_network: id and name of an external network, for floating IPs and the gateways of routers.
        subnet_pool: the default one for IPv4; tempest.conf doesn't name it.
        extensions: aliases of the network API's extensions.
    """

    images: tuple[str, str]
    flavors: tuple[str, str]
    public_network: tuple[str, str]
    subnet_pool: str
    extensions: tuple[str, ...]


class Lookup:
    """Looks resources up in a site's APIs as its administrator, and makes those that are missing.

    Args:
        settings: of the site.
        create: make what is missing.
        report: told of each resource that is made.
        session: a keystoneauth session; None: a new one, as the site's administrator.
    """

    def __init__(self, settings: Settings, *, create: bool, report: Report, session: Session | None = None) -> None:
        self._settings = settings
        self._create = create
        self._report = report
        self._session: Any = session or admin_session(settings)

    def resources(self) -> Resources:
        """All that Tempest needs.

        Raises:
            AtollError: `tempest.missing`: something isn't there, and was not to be made; `site.not_running`: nobody answers.
        """
        try:
            return Resources(
                images=(self._image(IMAGES[0]), self._image(IMAGES[1])),
                flavors=(self._flavor(FLAVORS[0], memory_mib=64), self._flavor(FLAVORS[1], memory_mib=512)),
                public_network=self._public_network(),
                subnet_pool=self._subnet_pool(),
                extensions=tuple(sorted(item["alias"] for item in self._get("network", "/v2.0/extensions")["extensions"])),
            )
        except ClientException as error:
            message = f"{self._settings.site} does not answer as it should: {str(error).splitlines()[0]}"
            raise AtollError("site.not_running", message, "see `atoll status`; bring it up with `atoll up`") from error

    def _image(self, name: str) -> str:
        found = self._get("image", f"/v2/images?name={name}&status=active&visibility=public")["images"]
        if found:
            return str(found[0]["id"])
        self._make("image", name)
        fields = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
        image = str(self._post("image", "/v2/images", fields)["id"])
        # No guest runs on the fake driver, so nothing has to be in it.
        self._session.put(
            self._settings.url("image", f"/v2/images/{image}/file"),
            data=bytes(IMAGE_BYTES),
            headers={"Content-Type": "application/octet-stream"},
        )
        return image

    def _flavor(self, name: str, memory_mib: int) -> str:
        for flavor in self._get("compute", "/v2.1/flavors")["flavors"]:
            if flavor["name"] == name:
                return str(flavor["id"])
        self._make("flavor", name)
        # Tempest reaches for volumes where a flavor has no disk.
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
            fields = {"name": PUBLIC_NETWORK, "router:external": True, "is_default": True}
            network = self._post("network", "/v2.0/networks", {"network": fields})["network"]
        self._make("subnet", PUBLIC_RANGE)
        subnet = {"name": network["name"], "network_id": network["id"], "ip_version": 4, "cidr": PUBLIC_RANGE, "enable_dhcp": False}
        self._post("network", "/v2.0/subnets", {"subnet": subnet})
        return network["id"], network["name"]

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

    def _get(self, endpoint: str, path: str) -> Any:  # noqa: ANN401, RUF100
        return self._session.get(self._settings.url(endpoint, path)).json()

    def _post(self, endpoint: str, path: str, body: object) -> Any:  # noqa: ANN401, RUF100
        return self._session.post(self._settings.url(endpoint, path), json=body).json()


def tempest_conf(settings: Settings, resources: Resources) -> str:
    """A whole tempest.conf.

    Args:
        settings: of the site.
        resources: what `Lookup` has found.
    """
    head = f"# Tempest's configuration for the site {settings.site}, by `atoll tempest-conf`. It holds the site's admin password.\n"
    sections = (_accounts(settings), _services(), _identity(settings), _image(settings), _compute(settings, resources), _network(resources))
    return head + ini.render(*sections)


def _accounts(settings: Settings) -> ini.Sections:
    return {
        "DEFAULT": {"log_file": "tempest.log"},
        "oslo_concurrency": {"lock_path": "tempest.lock"},
        "auth": {
            "use_dynamic_credentials": True,
            "admin_username": "admin",
            "admin_password": settings.secrets["admin"],
            "admin_project_name": "admin",
            "admin_domain_name": "Default",
            "admin_system": "all",
        },
        "service-clients": {"http_timeout": 120},
    }


def _services() -> ini.Sections:
    return {
        "service_available": {
            "cinder": False,
            "glance": True,
            "horizon": False,
            "neutron": True,
            "nova": True,
            "swift": False,
        },
        # See atoll.services.common.logging: every service has the new defaults, and scopes are enforced.
        "enforce_scope": dict.fromkeys(("glance", "keystone", "neutron", "nova", "placement"), True),
        "placement": {"max_microversion": "latest"},
        # Nobody answers on a network that carries no packet.
        "validation": {"run_validation": False},
    }


def _identity(settings: Settings) -> ini.Sections:
    compliance = _Configuration(settings, "keystone/keystone.conf")
    lockout = compliance.number("security_compliance", "lockout_failure_attempts")
    history = compliance.number("security_compliance", "unique_last_password_count")
    options: dict[str, ini.Value] = {"uri_v3": settings.public_url("identity", "/v3"), "auth_version": "v3", "region": settings.region}
    if lockout and history:
        options |= {
            "user_lockout_failure_attempts": lockout,
            "user_lockout_duration": compliance.number("security_compliance", "lockout_duration"),
            "user_unique_last_password_count": history,
        }
    return {"identity": options, "identity-feature-enabled": {"security_compliance": bool(lockout and history)}}


def _image(settings: Settings) -> ini.Sections:
    glance = _Configuration(settings, "glance/glance-api.conf")
    stores = [store.split(":") for store in glance.text("DEFAULT", "enabled_backends").split(",")]
    return {
        # Glance looks into a bare image whether it is of the format that it is said to be, and refuses Tempest's, which are random bytes.
        # In any other container it doesn't look, and what the flag below is about doesn't happen.
        "image": {
            "container_formats": ["ovf", "bare", "ami", "ari", "aki", "ova"],
            "image_caching_enabled": bool(glance.text("DEFAULT", "image_cache_dir")),
        },
        "image-feature-enabled": {
            "image_format_enforcement": False,
            "manage_locations": glance.text("DEFAULT", "show_multiple_locations") == "true",
            "http_store_enabled": "http" in [kind for _name, kind in stores],
            "store_weight_enabled": any(glance.number(name, "weight") for name, _kind in stores),
        },
    }


def _compute(settings: Settings, resources: Resources) -> ini.Sections:
    nova = _Configuration(settings, "nova/nova.conf")
    return {
        "compute": {
            "image_ref": resources.images[0],
            "image_ref_alt": resources.images[1],
            "flavor_ref": resources.flavors[0],
            "flavor_ref_alt": resources.flavors[1],
            "max_microversion": "latest",
            "min_compute_nodes": 1,
        },
        "compute-feature-enabled": {
            "resize": nova.text("DEFAULT", "allow_resize_to_same_host") == "true",
            "hostname_fqdn_sanitization": True,
            "nova_policy_roles": ["admin", "manager", "member", "reader"],
            "change_password": True,
            "personality": True,
            # What the fake driver has no part in: there is nothing to look at.
            "console_output": False,
            "serial_console": False,
            "spice_console": False,
            "vnc_console": False,
        },
    }


def _network(resources: Resources) -> ini.Sections:
    return {
        "network": {"public_network_id": resources.public_network[0], "floating_network_name": resources.public_network[1]},
        "network-feature-enabled": {"api_extensions": resources.extensions, "ipv6_subnet_attributes": True, "port_security": True},
    }


class _Configuration:
    """A service's configuration file, as rendered."""

    def __init__(self, settings: Settings, name: str) -> None:
        # The last section and the last option of a name hold, as for oslo.config.
        self._parser = configparser.RawConfigParser(strict=False, default_section="")
        self._parser.read(settings.etc / name, encoding="utf-8")

    def text(self, section: str, option: str) -> str:
        """An option's value; empty if it isn't set."""
        return self._parser.get(section, option, fallback="")

    def number(self, section: str, option: str) -> int:
        """An option's value; 0 if it isn't set."""
        return self._parser.getint(section, option, fallback=0)
