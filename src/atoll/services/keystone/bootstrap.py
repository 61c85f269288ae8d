"""The initial contents of a site's Keystone, as `keystone-manage bootstrap` and a deployment tool would make them.

Everything that all sites have in common gets the same id at every site (`identifiers`), so that sites that meet later have one admin, one
role `member`, one service `compute`. Each step first checks whether it is needed. So the next start completes an interrupted step, and a
changed address reaches the catalogue. Changes by an administrator, above all the password of `admin`, are left alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from atoll.identifiers import (
    GATEWAY_SERVICES,
    GATEWAY_USER,
    LOCAL_USERS,
    gateway_role,
    gateway_user,
    identifier,
    local_endpoint,
    local_user,
)
from atoll.services import common, database_files
from atoll.services.contract import Settings

CATALOGUE = {
    "identity": ("keystone", "/v3"),
    "placement": ("placement", ""),
    "image": ("glance", ""),
    "network": ("neutron", ""),
    "compute": ("nova", "/v2.1"),
}
"""Name and path of each service, by its type, which is also its key in `Settings.ports`."""

BESIDES = {"load-balancer": ("octavia", "")}
"""Name and path of services that only some sites have, by type."""

ROLES = ("reader", "member", "manager", "admin", "service", *map(gateway_role, GATEWAY_SERVICES))
ADMIN = "admin"


def bootstrap(settings: Settings) -> None:
    """Fill the identity database of a site."""
    import keystone.conf
    from keystone.cmd.bootstrap import Bootstrapper

    first = Bootstrapper()  # it loads the back ends
    mark = settings.data / "bootstrapped"
    if not mark.exists():
        first._bootstrap_default_domain()
        for role in ROLES:
            _make_role(role)
        _make_project(ADMIN, "Bootstrap project for initializing the cloud.")
        _make_user(identifier("user", ADMIN), ADMIN, settings.secrets["admin"])
        first.admin_username = first.project_name = first.admin_role_name = ADMIN
        first.admin_password = settings.secrets["admin"]
        first.immutable_roles = True
        first.region_id = settings.region
        first.bootstrap()
    # A password of 256 random bits needs no slow hash, which would delay the start of each service.
    keystone.conf.CONF.set_override("password_hash_rounds", 4, group="identity")
    try:
        for service in GATEWAY_SERVICES:
            _make_role(gateway_role(service))
        _make_service_users(settings)
    finally:
        keystone.conf.CONF.clear_override("password_hash_rounds", group="identity")
    _make_catalogue(settings)
    database_files.mark(mark, settings, "keystone")


def _providers() -> Any:
    from keystone.common import provider_api

    return provider_api.ProviderAPIs


def _make_role(name: str) -> None:
    from keystone import exception

    role = {"id": identifier("role", name), "name": name, "options": {"immutable": True}}
    try:
        _providers().role_api.get_role(role["id"])
    except exception.RoleNotFound:
        _providers().role_api.create_role(role["id"], role)


def _make_project(name: str, description: str) -> str:
    from keystone import exception

    key = identifier("project", name)
    try:
        _providers().resource_api.get_project(key)
    except exception.ProjectNotFound:
        project = {"id": key, "name": name, "domain_id": common.DOMAIN, "enabled": True, "description": description}
        _providers().resource_api.create_project(key, project)
    return key


def _make_user(user_id: str, name: str, password: str) -> None:
    """Create a user with a given id, by the driver: Keystone's manager (identity/core.py, `create_user`) always makes a new id."""
    from keystone import exception

    identity = _providers().identity_api
    try:
        identity.get_user(user_id)
    except exception.UserNotFound:
        user = {"id": user_id, "name": name, "password": password, "domain_id": common.DOMAIN, "enabled": True}
        identity._select_identity_driver(common.DOMAIN).create_user(user_id, user)
        identity.get_user.invalidate(identity, user_id)


def _remove_user(user_id: str) -> None:
    """Remove an account that an earlier version created as an administrator of the whole cloud."""
    from keystone import exception

    with suppress(exception.UserNotFound):
        _providers().identity_api.delete_user(user_id)


def _make_service_users(settings: Settings) -> None:
    project = _make_project(common.SERVICE_PROJECT, "")
    for name in LOCAL_USERS:
        user = local_user(settings.owner.site, name)
        _make_user(user, name, settings.secrets[name])
        _grant(user, project, ADMIN, "service")
    for service in GATEWAY_SERVICES:
        name = gateway_role(service)
        user = local_user(settings.owner.site, name)
        _make_user(user, name, settings.secrets[GATEWAY_USER])
        _grant(user, project, name)
    _remove_user(gateway_user(settings.site))


def _grant(user: str, project: str, *roles: str) -> None:
    assignment = _providers().assignment_api
    held = assignment.get_roles_for_user_and_project(user, project)
    for role in roles:
        if identifier("role", role) not in held:
            assignment.add_role_to_user_and_project(user, project, identifier("role", role))


def catalogue(settings: Settings) -> dict[str, tuple[str, str]]:
    """Return the entries of `CATALOGUE` and `BESIDES` for the services that the site has."""
    return CATALOGUE | {kind: said for kind, said in BESIDES.items() if kind in settings.ports}


INTERFACES = ("public", "internal", "admin")


def endpoints_of(site: str) -> tuple[str, ...]:
    """Return the ids of all endpoints that a site may have, also of services that it no longer has."""
    return tuple(local_endpoint(site, kind, interface) for kind in (*CATALOGUE, *BESIDES) for interface in INTERFACES)


def endpoints_elsewhere(settings: Settings) -> frozenset[str]:
    """Return the ids of the endpoints of the other sites that share this site's Keystone database."""
    return frozenset(endpoint for site in settings.sharing if site != settings.site for endpoint in endpoints_of(site))


def _make_catalogue(settings: Settings) -> None:
    from keystone import exception

    catalog = _providers().catalog_api
    for kind in BESIDES.keys() - catalogue(settings).keys():
        for interface in ("public", "internal", "admin"):
            with suppress(exception.EndpointNotFound):
                catalog.delete_endpoint(local_endpoint(settings.site, kind, interface))
    for kind, (name, path) in catalogue(settings).items():
        service = identifier("service", kind)
        try:
            catalog.get_service(service)
        except exception.ServiceNotFound:
            catalog.create_service(service, {"id": service, "type": kind, "name": name, "enabled": True})
        # Clients connect to the gateway; the site's own services connect to each other directly.
        direct = settings.url(kind, path)
        for interface, url in {"public": settings.public_url(kind, path), "internal": direct, "admin": direct}.items():
            _make_endpoint(local_endpoint(settings.site, kind, interface), service, interface, url, settings.region)


def _make_endpoint(endpoint_id: str, service: str, interface: str, url: str, region: str) -> None:
    from keystone import exception

    catalog = _providers().catalog_api
    endpoint = {"id": endpoint_id, "service_id": service, "interface": interface, "url": url, "region_id": region, "enabled": True}
    try:
        if catalog.get_endpoint(endpoint_id)["url"] != url:
            catalog.update_endpoint(endpoint_id, {"url": url})
    except exception.EndpointNotFound:
        catalog.create_endpoint(endpoint_id, endpoint)
