"""A foreign client in the network of a site, and its tenant's resources at all sites."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from three_sites import SITES, Tenant

HERE = Path(__file__).parent

LONGEST_S = 900
"""Time limit of a program in seconds."""

COLLECTIONS = (
    *(("network", f"/v2.0/{name}", name.replace("-", "_")) for name in ("networks", "subnets", "ports", "routers", "floatingips")),
    *(("network", f"/v2.0/{name}", name.replace("-", "_")) for name in ("security-groups", "security-group-rules")),
    ("compute", "/servers", "servers"),
    ("compute", "/os-server-groups", "server_groups"),
    ("compute", "/os-keypairs", "keypairs"),
    ("compute", "/flavors", "flavors"),
    ("image", "/v2/images", "images"),
)  # fmt: skip


@dataclass(frozen=True)
class Client:
    """A foreign client in the network of brest.

    Attributes:
        tenant: the tenant; its name is that of all resources.
        home: a directory with the clouds.yaml, whose entries are `member`, `admin` and `metz`, and with the image's data.
    """

    tenant: Tenant
    home: Path

    @property
    def image(self) -> Path:
        return self.home / "image.raw"

    def run(self, *command: str | Path, **environment: str) -> str:
        """Run a program that must succeed and return its output; only its clouds.yaml leads it to the cloud."""
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8"} | environment
        clean["OS_CLIENT_CONFIG_FILE"] = str(self.home / "clouds.yaml")
        words = ["exec", "brest", "--", "env", "-i", *(f"{name}={value}" for name, value in clean.items()), *command]
        with self.tenant.cloud.start(*words) as process:
            out, err = process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0, f"{command}: {out[-6000:]}\n{err[-6000:]}"
        return out

    def belongings(self) -> dict[str, dict[str, set[str]]]:
        """Return the ids or names of the tenant's resources by site and collection, from the services past the gateways."""
        return {site: _of_one_site(self.tenant, site) for site in SITES}


def _of_one_site(tenant: Tenant, site: str) -> dict[str, set[str]]:
    api = tenant.api(site)
    ports = tenant.cloud.settings(site).ports
    for service in ("network", "compute", "image"):
        suffix = "/v2.1" if service == "compute" else ""
        api._endpoints[service] = f"http://127.0.0.1:{ports[service]}{suffix}"
    items = {key: api.expect(service, "GET", path)[key] for service, path, key in COLLECTIONS}
    return {key: {_name(item) for item in found if _owner(item) in {None, tenant.project}} for key, found in items.items()}


def _owner(item: dict[str, Any]) -> str | None:
    """Return the project that owns a resource, or `None`; a copy of the public network belongs to the administrator."""
    return item.get("project_id") or item.get("owner")


def _name(item: dict[str, Any]) -> str:
    return str(item["keypair"]["name"] if "keypair" in item else item["id"])
