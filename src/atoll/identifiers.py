"""Ids that every site of every cloud computes alike, so that what each site makes at its first start is one and the same thing."""

from __future__ import annotations

import uuid

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:atoll:identity")

LOCAL_USERS = ("glance", "neutron", "nova", "placement")
"""The accounts of a site's services: each site has its own, and no other site knows them."""

GATEWAY_USER = "gateway"
"""The secret of the accounts of a site's gateway; and `gateway-SITE`, an account that earlier versions had at all sites."""

GATEWAY_SERVICES = ("compute", "image", "network")
"""The services at which a site's gateway has an account of its own, which no other site knows."""


def identifier(kind: str, name: str) -> str:
    """The id of something that is the same at every site: 32 hexadecimal digits, as Keystone's own.

    Args:
        kind: role, project, user or service.
        name: its name.
    """
    return uuid.uuid5(_SPACE, f"{kind}/{name}").hex


def default_group(project: str) -> str:
    """The id of a project's security group `default`, which each site's Neutron makes by itself.

    Args:
        project: the project's id.
    """
    return str(uuid.uuid5(_SPACE, f"security-group/{project}"))


def default_rule(group: str, rule: str) -> str:
    """The id of a rule that a group `default` has from the start.

    Args:
        group: the group's id.
        rule: all that the rule says.
    """
    return str(uuid.uuid5(_SPACE, f"security-group-rule/{group}/{rule}"))


def local_user(site: str, name: str) -> str:
    """The id of one of `LOCAL_USERS` of a site, or of one of its gateway's accounts."""
    return identifier("user", f"{site}/{name}")


def gateway_user(site: str) -> str:
    """The id of the account that a site's gateway had at all sites in earlier versions."""
    return identifier("user", f"{GATEWAY_USER}-{site}")


def gateway_role(service: str) -> str:
    """The name of the role that makes an account an administrator of one service, and of nothing else; also the account's name.

    Args:
        service: one of `GATEWAY_SERVICES`.
    """
    return f"{GATEWAY_USER}_{service}"


def local_endpoint(site: str, service: str, interface: str) -> str:
    """The id of an endpoint of a site's own services, in that site's catalogue alone.

    Args:
        site: its name.
        service: the type of the service.
        interface: public, internal or admin.
    """
    return identifier("endpoint", f"{site}/{service}/{interface}")


GATEWAY_PROJECT = identifier("project", "service")
"""The project in which the gateways' accounts work: it owns the RBAC policies that a gateway makes."""
