"""The tempest.conf of a site, for OpenStack's own test suite.

Accounts and addresses come from the site's settings, feature flags from its configuration files, and ids from its APIs. Options whose
default is right are left out. Sources: tempest/config.py (the meaning of each option), python-tempestconf (the resources that Tempest
needs).
"""

from __future__ import annotations

import configparser
import json

from atoll.services import Settings, ini
from atoll.tempest.resources import Resources


def tempest_conf(settings: Settings, resources: Resources) -> str:
    """Return the text of a tempest.conf.

    Args:
        settings: settings of the site.
        resources: the resources that `Lookup` has found.
    """
    head = f"# Tempest's configuration for the site {settings.site}, by `atoll tempest-conf`. It holds the site's admin password.\n"
    guests = _GUESTS if settings.hypervisor != "fake" else _NO_GUESTS
    about = (_accounts(settings), _SERVICES, _identity(settings), _image(settings), _compute(settings, resources), _network(resources))
    return head + ini.render(*about, guests, _neutron_plugin(settings))


_SERVICES: ini.Sections = {
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
}

_NO_GUESTS: ini.Sections = {
    # A fake data plane carries no packets, so that no guest answers.
    "validation": {"run_validation": False},
    "compute-feature-enabled": {
        "change_password": True,
        "personality": True,
        # The fake driver has no consoles.
        "console_output": False,
        "serial_console": False,
        "spice_console": False,
        "vnc_console": False,
    },
}
"""Features of guests with the fake driver, which only records them."""

_GUESTS: ini.Sections = {
    "validation": {"run_validation": True, "connect_method": "floating", "image_ssh_user": "root", "image_alt_ssh_user": "root"},
    "compute-feature-enabled": {
        # A site has one host.
        "cold_migration": False,
        "live_migration": False,
        # The guest image has neither QEMU's guest agent, nor does it take files from a config drive.
        "change_password": False,
        "personality": False,
        "console_output": True,
        "serial_console": True,
        "spice_console": False,
        "vnc_console": True,
        "stable_rescue": True,
    },
    # Only this directory of the guest is on its disk.
    "scenario": {"dhcp_client": "udhcpc", "target_dir": "/disk"},
}
"""Features of guests with libvirt and the guest image of `atoll image build`."""


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
        # Glance checks the format of a bare image, and refuses Tempest's images, which are random bytes. It does not check the content of
        # other containers, so that the flag below stays false.
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
        },
    }


def _network(resources: Resources) -> ini.Sections:
    return {
        "network": {"public_network_id": resources.public_network[0], "floating_network_name": resources.public_network[1]},
        "network-feature-enabled": {"api_extensions": resources.extensions, "ipv6_subnet_attributes": True, "port_security": True},
    }


def _neutron_plugin(settings: Settings) -> ini.Sections:
    """Return the options of neutron-tempest-plugin, which Tempest without it ignores."""
    neutron = _Configuration(settings, "neutron/neutron.conf")
    tunnels = neutron.text("ml2", "project_network_types")
    sizes = [{"provider:network_type": tunnels, "mtu": mtu, "cidr": cidr} for mtu, cidr in _MTUS.items()]
    options: dict[str, ini.Value] = {
        "available_type_drivers": neutron.text("ml2", "type_drivers"),
        "provider_vlans": neutron.text("ml2_type_vlan", "network_vlan_ranges").partition(":")[0],
        "dns_domain": neutron.text("DEFAULT", "dns_domain").rstrip("."),
        "test_mtu_networks": json.dumps(sizes),
    }
    if settings.network == "fake":
        return {"neutron_plugin_options": options}
    if settings.network == "ovn":
        return {"neutron_plugin_options": options | {"firewall_driver": "ovn"}, "fwaas": {"driver": "ovn"}}
    filters = _Configuration(settings, "neutron/agents.conf").text("securitygroup", "firewall_driver")
    agents: dict[str, ini.Value] = {"firewall_driver": filters, "agent_availability_zone": _ZONE, "l3_agent_mode": "legacy"}
    return {"neutron_plugin_options": options | agents, "fwaas": {"driver": "iptables_v2"}}


_ZONE = "nova"
"""The default availability zone of Neutron's agents."""


_MTUS = {1200: "10.100.0.0/16", 1300: "10.200.0.0/16"}
"""MTU and prefix of the plug-in's two test networks, which it would create as VXLAN by default."""


class _Configuration:
    """A rendered configuration file of a service."""

    def __init__(self, settings: Settings, name: str) -> None:
        # If a section or an option occurs twice, the last one applies, as in oslo.config.
        self._parser = configparser.RawConfigParser(strict=False, default_section="")
        self._parser.read(settings.etc / name, encoding="utf-8")

    def text(self, section: str, option: str) -> str:
        """Return an option's value; empty if it is not set."""
        return self._parser.get(section, option, fallback="")

    def number(self, section: str, option: str) -> int:
        """Return an option's value; 0 if it is not set."""
        return self._parser.getint(section, option, fallback=0)
