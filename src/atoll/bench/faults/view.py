"""What one site holds, and what its gateway says that the cloud holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]
"""Fields by id."""


@dataclass(frozen=True)
class View:
    """One site, at one moment.

    Attributes:
        site: its name.
        error: why it could not be looked at; then the rest is empty.
        identity: by kind (users, projects, domains, groups, roles, assignments), what its Keystone holds but for what is the site's own.
        images: in its Glance.
        servers: in its Nova.
        networks: in its Neutron.
        ports: in its Neutron.
        allocations: the consumers in its Placement.
        listed: by type (image, server), the ids in the list that its gateway answers with, as often as they are there.
        missing: the sites that are missing in one of these lists.
        shown: by path, the status with which its gateway answers a GET.
        accepted: by user, which of the passwords asked for its Keystone accepts.
    """

    site: str
    error: str = ""
    identity: Mapping[str, Rows] = field(default_factory=dict)
    images: Rows = field(default_factory=dict)
    servers: Rows = field(default_factory=dict)
    networks: Rows = field(default_factory=dict)
    ports: Rows = field(default_factory=dict)
    allocations: tuple[str, ...] = ()
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    shown: Mapping[str, int] = field(default_factory=dict)
    accepted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def users(self) -> Rows:
        """Of the cloud."""
        return self.identity.get("users", {})

    @property
    def projects(self) -> Rows:
        """Of the cloud."""
        return self.identity.get("projects", {})

    @property
    def assignments(self) -> Rows:
        """Of roles; an id is made of role, user and project."""
        return self.identity.get("assignments", {})
