"""The description of the extension `port-group-names`, which Neutron's loader reads by its path."""

from __future__ import annotations

from typing import Any

from neutron_lib.api import extensions

from atoll.services.neutron.expanded_ports.plugin import GROUP_NAMES


class PortGroupNames(extensions.ExtensionDescriptor):
    """The extension's description, and its controller."""

    @classmethod
    def get_name(cls) -> str:
        """Return the name that `openstack extension list` shows."""
        return "Names of the security groups of ports"

    @classmethod
    def get_alias(cls) -> str:
        """Return the alias that clients look for."""
        return GROUP_NAMES

    @classmethod
    def get_description(cls) -> str:
        """Return the text that `openstack extension show` shows."""
        return "Ports with the names of their security groups, in one request."

    @classmethod
    def get_updated(cls) -> str:
        """Return the time of the extension's last change."""
        return "2026-11-30T00:00:00-00:00"

    def get_required_extensions(self) -> list[str]:
        """Return the extensions whose attributes the answers contain."""
        return ["security-group"]

    def get_pecan_resources(self) -> list[Any]:
        """Return the collection of the extension, once the attributes of all extensions are known."""
        from atoll.services.neutron.expanded_ports.controllers import group_names

        return group_names()


Port_group_names = PortGroupNames
"""The name under which Neutron's loader looks for the class: the file's, capitalised."""
