"""The description of the extension `expanded-ports`, which Neutron's loader reads by its path."""

from __future__ import annotations

from typing import Any

from neutron_lib.api import extensions

from atoll.services.neutron.expanded_ports.plugin import ALIAS


class ExpandedPorts(extensions.ExtensionDescriptor):
    """The extension's description, and its controllers."""

    @classmethod
    def get_name(cls) -> str:
        """Return the name that `openstack extension list` shows."""
        return "Expanded ports"

    @classmethod
    def get_alias(cls) -> str:
        """Return the alias that clients look for."""
        return ALIAS

    @classmethod
    def get_description(cls) -> str:
        """Return the text that `openstack extension show` shows."""
        return "Ports with their network, subnets, DHCP servers and floating IPs; a port created and bound in one request."

    @classmethod
    def get_updated(cls) -> str:
        """Return the time of the extension's last change."""
        return "2026-11-30T00:00:00-00:00"

    def get_required_extensions(self) -> list[str]:
        """Return the extensions whose attributes the answers contain."""
        return ["binding", "provider"]

    def get_pecan_resources(self) -> list[Any]:
        """Return the collections of the extension, once the attributes of all extensions are known."""
        from atoll.services.neutron.expanded_ports.controllers import collections

        return collections()


Expanded_ports = ExpandedPorts
"""The name under which Neutron's loader looks for the class: the file's, capitalised."""
