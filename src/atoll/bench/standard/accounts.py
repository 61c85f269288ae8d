"""The accounts of the services and the catalogue of the usual deployment, created over HTTP as a deployment tool does."""

from __future__ import annotations

from atoll.bench.api import Api
from atoll.services import Settings

_USERS = ("glance", "neutron", "nova", "placement")
_CATALOGUE = {
    "placement": ("placement", ""),
    "image": ("image", ""),
    "network": ("network", ""),
    "compute": ("compute", "/v2.1"),
}
"""By type of service, the name of its port in `Settings`, and the path of its API."""


def create(api: Api, settings: Settings) -> None:
    """Create the service project, its users with the roles `admin` and `service`, and the endpoints.

    Args:
        api: a client signed in as the administrator that `keystone-manage bootstrap` created.
        settings: the settings with the users' passwords.
    """
    project = api.expect("identity", "POST", "/projects", {"project": {"name": "service", "domain_id": "default"}})["project"]["id"]
    roles = {role["name"]: role["id"] for role in api.expect("identity", "GET", "/roles")["roles"]}
    for name in _USERS:
        user = {"name": name, "password": settings.secrets[name], "domain_id": "default"}
        made = api.expect("identity", "POST", "/users", {"user": user})["user"]["id"]
        for role in ("admin", "service"):
            api.expect("identity", "PUT", f"/projects/{project}/users/{made}/roles/{roles[role]}")
    for kind, (port, path) in _CATALOGUE.items():
        service = api.expect("identity", "POST", "/services", {"service": {"type": kind, "name": kind}})["service"]["id"]
        for interface in ("public", "internal", "admin"):
            endpoint = {"service_id": service, "interface": interface, "url": settings.url(port, path), "region_id": settings.region}
            api.expect("identity", "POST", "/endpoints", {"endpoint": endpoint})
