"""Keys that identify the template databases of the installed packages."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from atoll.services.neutron import network_services

_MAKERS = ("nova", "neutron", "neutron-lib", "keystone", "glance", "openstack-placement", "SQLAlchemy", "alembic", "oslo.db")
"""The packages that determine a schema, besides those of network services, which are optional."""


def template_key() -> str:
    """Return a key for the templates of the installed packages and of this code: 16 hexadecimal digits.

    It changes with each of the packages and with each module of `atoll.services`.
    """
    return _key(Path(__file__).parent)


def code_key() -> str:
    """Return a key for all code of a cloud's processes; it changes with each of the packages and with each module of Atoll."""
    return _key(Path(__file__).parent.parent)


def _key(directory: Path) -> str:
    digest = hashlib.sha256()
    for package in _MAKERS:
        digest.update(f"{package} {metadata.version(package)}\n".encode())
    for package, version in network_services.installed().items():
        digest.update(f"{package} {version}\n".encode())
    for source in sorted(directory.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
