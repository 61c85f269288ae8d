"""The contents of one site: the resources of its own services, and those of the whole cloud that its gateway shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]
"""The fields of resources by id."""


@dataclass(frozen=True)
class View:
    """The contents of one site at one moment.

    Attributes:
        site: the name of the site.
        error: the reason why the site could not be read; then the other fields are empty.
        identity: the replicated contents of the site's Keystone by kind: users, projects, domains, groups, roles, assignments.
        images: the images in the site's Glance, by id.
        servers: the servers in the site's Nova, by id.
        networks: the networks in the site's Neutron, by id.
        ports: the ports in the site's Neutron, by id.
        allocations: the ids of the consumers in the site's Placement.
        listed: the ids in the lists of the site's gateway, by type (image, server), with repetitions.
        missing: the sites that are missing from one of these lists.
        shown: the status of the gateway's answers to GET, by path.
        accepted: for each user, the tried passwords that the site's Keystone accepts.
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
        """The replicated users, by id."""
        return self.identity.get("users", {})

    @property
    def projects(self) -> Rows:
        """The replicated projects, by id."""
        return self.identity.get("projects", {})

    @property
    def assignments(self) -> Rows:
        """The role assignments; an id consists of role, user and project."""
        return self.identity.get("assignments", {})
