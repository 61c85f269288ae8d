"""Which template databases belong to what is installed."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from atoll.services import network_services

_MAKERS = ("nova", "neutron", "neutron-lib", "keystone", "glance", "openstack-placement", "SQLAlchemy", "alembic", "oslo.db")
"""The packages that decide what a schema looks like, besides those of network services, which need not be installed."""


def template_key() -> str:
    """A name for the templates that the installed packages and this code make: 16 hexadecimal digits.

    It changes when any of the packages does, or any of the modules beside this one and below.
    """
    return _key(Path(__file__).parent)


def code_key() -> str:
    """A name for all the code that a cloud's processes run: it changes when any of the packages does, or any module of Atoll."""
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
