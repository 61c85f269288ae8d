"""Which versions are installed: of Atoll and of the OpenStack services, without importing any of them."""

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
    """The versions that decide whether a state directory can be used: Atoll's own and each service's."""
    return {"atoll": atoll.__version__} | {name: _version(distribution) for name, distribution in UPSTREAM.items()}


def all_versions() -> dict[str, str]:
    """`installed`, and the client's."""
    return installed() | {"openstackclient": _version(CLIENT)}


def same_release(one: str, other: str) -> bool:
    """True if data of one version suits the other: the same major version, or the same minor one before 1.0."""
    left, right = one.split("."), other.split(".")
    digits = 2 if right[0] == "0" else 1
    return left[:digits] == right[:digits]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
