"""The installed versions of Atoll and of the OpenStack services, without importing the services."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import atoll

UPSTREAM = {
    "keystone": "keystone",
    "placement": "openstack-placement",
    "glance": "glance",
    "neutron": "neutron",
    "nova": "nova",
}
"""The distribution of each service."""

CLIENT = "python-openstackclient"


def installed() -> dict[str, str]:
    """Return the versions that a state directory must match: Atoll's own and each service's."""
    return {"atoll": atoll.__version__} | {name: _version(distribution) for name, distribution in UPSTREAM.items()}


def all_versions() -> dict[str, str]:
    """Return the versions of `installed` and of OpenStack's client."""
    return installed() | {"openstackclient": _version(CLIENT)}


def same_release(one: str, other: str) -> bool:
    """Return whether two versions have compatible data: the same major version or, before 1.0, the same minor version."""
    left, right = one.split("."), other.split(".")
    digits = 2 if right[0] == "0" else 1
    return left[:digits] == right[:digits]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
