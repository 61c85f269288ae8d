"""The description of the extension `given-id`; Neutron loads this file by its path."""

from __future__ import annotations

from typing import Any

from neutron_lib.api import extensions

from atoll.services.neutron.given_id.plugin import ALIAS, RESOURCES, attribute


class GivenId(extensions.ExtensionDescriptor):
    """Description of the extension, and the attributes that it changes."""

    @classmethod
    def get_name(cls) -> str:
        """Return the name that `openstack extension list` shows."""
        return "Given id"

    @classmethod
    def get_alias(cls) -> str:
        """Return the alias that `openstack extension list` shows."""
        return ALIAS

    @classmethod
    def get_description(cls) -> str:
        """Return the text that `openstack extension show` shows."""
        return "An administrator may give networks, subnets, ports, routers, security groups and their rules an id when creating them."

    @classmethod
    def get_updated(cls) -> str:
        """Return the time of the extension's last change."""
        return "2026-11-25T00:00:00-00:00"

    def get_required_extensions(self) -> list[str]:
        """Return the extensions whose resources this one changes; they must be loaded before it."""
        return ["security-group", "router"]

    def get_extended_resources(self, version: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the attributes that replace upstream's."""
        return {collection: {"id": attribute(collection)} for collection in RESOURCES}


Given_id = GivenId
"""The name under which Neutron's loader looks for the class: the file's, capitalised."""
