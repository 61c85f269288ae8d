"""What Neutron is told of the extension; it reads this file by its path."""

from __future__ import annotations

from typing import Any

from neutron_lib.api import extensions

from atoll.services.neutron_import import ALIAS, RESOURCES, attribute


class GivenId(extensions.ExtensionDescriptor):  # type: ignore[misc]
    """The extension's description, and the attributes that it changes."""

    @classmethod
    def get_name(cls) -> str:
        """Shown by `openstack extension list`."""
        return "Given id"

    @classmethod
    def get_alias(cls) -> str:
        """Shown by `openstack extension list`."""
        return ALIAS

    @classmethod
    def get_description(cls) -> str:
        """Shown by `openstack extension show`."""
        return "An administrator may give networks, subnets, ports, routers, security groups and their rules an id when creating them."

    @classmethod
    def get_updated(cls) -> str:
        """When the extension last changed."""
        return "2026-11-25T00:00:00-00:00"

    def get_required_extensions(self) -> list[str]:
        """Those whose resources it changes: they must have been there before."""
        return ["security-group", "router"]

    def get_extended_resources(self, version: str) -> dict[str, dict[str, dict[str, Any]]]:
        """The attributes, to be laid over upstream's."""
        return {collection: {"id": attribute(collection)} for collection in RESOURCES}


Given_id = GivenId
"""The name that Neutron's loader looks for: the file's, with a capital letter."""
