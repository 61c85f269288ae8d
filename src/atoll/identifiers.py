"""Ids that every site of every cloud computes alike, so that sites create the same objects at their first start."""

from __future__ import annotations

import hashlib
import uuid

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:atoll:identity")

LOCAL_USERS = ("glance", "neutron", "nova", "placement")
"""The accounts of a site's services: each site has its own, and no other site knows them."""

GATEWAY_USER = "gateway"
"""The name of the secret for the accounts of a site's gateway, and the prefix of `gateway-SITE`, an account that earlier versions had at
all sites."""

GATEWAY_SERVICES = ("compute", "image", "network")
"""The services at which a site's gateway has an account of its own, which no other site knows."""

DNS_SD_TYPE = "_atoll-cloudlet._tcp.local."
"""The type of service under which gateways are announced on local networks (DNS-SD); the port is the peer port."""

ANNOUNCEMENT = "/atoll/announcement"
"""Path at the peer port by which a device that has found a gateway on its local network asks for the site and the URL, over TLS."""


def identifier(kind: str, name: str) -> str:
    """Return the id of an object that is the same at every site: 32 hexadecimal digits, like Keystone's own.

    Args:
        kind: role, project, user or service.
        name: the object's name.
    """
    return uuid.uuid5(_SPACE, f"{kind}/{name}").hex


def edge_zone(cloud: str, site: str) -> str:
    """Return the id of a site as an edge cloud zone, in answers to clients that look for the nearest site."""
    return str(uuid.uuid5(_SPACE, f"edge-zone/{cloud}/{site}"))


def default_group(project: str) -> str:
    """Return the id of a project's security group `default`, which each site's Neutron creates by itself.

    Args:
        project: the project's id.
    """
    return str(uuid.uuid5(_SPACE, f"security-group/{project}"))


def default_rule(group: str, rule: str) -> str:
    """Return the id of an initial rule of a group `default`.

    Args:
        group: the group's id.
        rule: the rule's whole content.
    """
    return str(uuid.uuid5(_SPACE, f"security-group-rule/{group}/{rule}"))


def local_user(site: str, name: str) -> str:
    """Return the id of one of `LOCAL_USERS` of a site, or of one of its gateway's accounts."""
    return identifier("user", f"{site}/{name}")


def gateway_user(site: str) -> str:
    """Return the id of the account that a site's gateway had at all sites in earlier versions."""
    return identifier("user", f"{GATEWAY_USER}-{site}")


def gateway_role(service: str) -> str:
    """Return the name of the role that administers one service and nothing else; the account with this role has the same name.

    Args:
        service: one of `GATEWAY_SERVICES`.
    """
    return f"{GATEWAY_USER}_{service}"


def local_endpoint(site: str, service: str, interface: str) -> str:
    """Return the id of an endpoint of a site's own services, which is only in that site's catalogue.

    Args:
        site: the site's name.
        service: the type of the service.
        interface: public, internal or admin.
    """
    return identifier("endpoint", f"{site}/{service}/{interface}")


GATEWAY_PROJECT = identifier("project", "service")
"""The project of the gateways' accounts; it owns the RBAC policies that a gateway creates."""


def cached_base(data: str, digest: str, machine: str) -> str:
    """Return the name of a base in a site's cache: 64 hexadecimal digits, which can be computed only with the hash of its data.

    Args:
        data: the algorithm and the hash of the image's data, as Glance has computed them.
        digest: the digest of the base.
        machine: the machine type of its description; may be empty.
    """
    return _joined("base", data, digest, machine)


def cached_launch(base: str, overlay: str, key: str) -> str:
    """Return the name of a launch image in a site's cache.

    Args:
        base: the name of the base (`cached_base`).
        overlay: the algorithm and the hash of the data of the overlay's image.
        key: the name of the key that has signed the overlay.
    """
    return _joined("launch", base, overlay, key)


def fetched_launch(overlay: str, key: str) -> str:
    """Return the name of the disk of a launch image that another site has sent; its content follows from the signed overlay alone.

    Args:
        overlay: the algorithm and the hash of the data of the overlay's image.
        key: the name of the key that has signed the overlay.
    """
    return _joined("fetched launch", overlay, key)


def _joined(*words: str) -> str:
    """Return a digest of some words, as 64 hexadecimal digits."""
    return hashlib.sha256("".join(f"{len(word)}:{word}" for word in ("atoll cloudlet", *words)).encode()).hexdigest()


HANDOFF_HINT = "atoll_handoff"
"""Scheduler hint of a server that arrives by a hand-off, and key of its system metadata: the id of the hand-off. Only a site's own gateway
may set it (`services/patches/nova/arriving_servers.py`)."""

HANDOFF_SERVER_HINT = "atoll_handoff_server"
"""Scheduler hint of such a server: the id that it keeps."""

HANDOFF_MACS_HINT = "atoll_handoff_macs"
"""Scheduler hint of such a server, and key of its system metadata: `NETWORK=MAC` for each of its ports, separated by commas."""

ARRIVALS = "arrivals"
"""Name of the directory, beside the cache of launch images, from which nova-compute takes the disk of a server that arrives."""


def arrival_file(server: str, handoff: str) -> str:
    """Return the name of the disk, in `ARRIVALS`, of a server that arrives.

    Args:
        server: the server's id.
        handoff: the id of the hand-off.
    """
    return f"{server}.{handoff}"


def arrival_memory(server: str, handoff: str) -> tuple[str, str]:
    """Return the names, in `ARRIVALS`, of the memory of a server that arrives, and of the description of its machine.

    Args:
        server: the server's id.
        handoff: the id of the hand-off.
    """
    disk = arrival_file(server, handoff)
    return f"{disk}.memory", f"{disk}.hardware"


KEEP_MEMORY = "keep-memory"
"""Name of an empty file in the directory of a server: while it is there, nova-compute keeps the server's memory when the server stops."""

KEPT_MEMORY = ("kept-memory", "kept-hardware")
"""Names of the files, in the directory of a stopped server, with the memory that was kept, and with the description of the machine. The
second file is complete before the first one appears."""

RESUMES = "resumes"
"""Name of a file, beside the cache of launch images, with a digest of all that memory depends on at a site: CPU, hypervisor and versions.
Memory that one site has saved is resumed at sites with the same digest alone. The file is missing at a site that resumes no memory."""
