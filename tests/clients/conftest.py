"""Foreign clients as programs: each creates and deletes all resources of a tenant over three real sites; see `three_sites`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import Deployment
from foreign import HERE, Client
from three_sites import Tenant, built, cloud, make_tenant, only_root

__all__ = ["built", "cloud"]

PROGRAMS = HERE.parents[1] / ".venv-clients" / "bin"
"""The directory in which `make clients` installs Ansible and Libcloud."""

LONGEST_S = 1800
"""Time limit of a test in seconds; on an idle machine a test takes one or two minutes."""

ROUTED = ("brest", "metz")
"""The sites with an external network, `public-SITE`: such a network stays at its site."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    only_root(ours)
    for item in ours:
        item.add_marker(pytest.mark.timeout(LONGEST_S), append=False)


@pytest.fixture(scope="session")
def public(built: Deployment) -> None:
    """Create the administrator's external networks, which provide floating IPs."""
    for site in ROUTED:
        api, name = built.api_inside(site), f"public-{site}"
        if api.expect("network", "GET", f"/v2.0/networks?name={name}")["networks"]:
            continue
        network = api.expect("network", "POST", "/v2.0/networks", {"network": {"name": name, "router:external": True}})["network"]["id"]
        subnet = {"network_id": network, "ip_version": 4, "cidr": "203.0.113.0/24", "enable_dhcp": False}
        api.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})


@pytest.fixture
def admin(cloud: Deployment) -> Tenant:
    return Tenant(cloud, "admin", "", "", cloud.settings("brest").secrets["admin"])


@pytest.fixture
def client(cloud: Deployment, admin: Tenant, public: None, tmp_path: Path) -> Client:
    """Return a client with an ordinary member's account, and an administrator's for the flavor."""
    tenant = make_tenant(cloud)
    entries = {"member": _entry(tenant, "brest"), "metz": _entry(tenant, "metz"), "admin": _entry(admin, "brest")}
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": entries}), encoding="utf-8")
    (tmp_path / "image.raw").write_bytes(os.urandom(1_000_000))
    return Client(tenant, tmp_path)


def _entry(tenant: Tenant, site: str) -> dict[str, Any]:
    return {
        "auth": {
            "auth_url": tenant.cloud.settings(site).public_url("identity", "/v3"),
            "username": tenant.name,
            "password": tenant.password,
            "project_name": tenant.name,
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        "region_name": tenant.cloud.settings(site).region,
    }


@pytest.fixture
def programs() -> Path:
    """Return the directory of the foreign clients' virtual environment."""
    if not (PROGRAMS / "ansible-playbook").exists():
        pytest.skip("Ansible and Libcloud are not installed: `make clients` does that")
    return PROGRAMS
