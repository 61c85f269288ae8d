"""Configuration of OpenStack's clients for a site: clouds.yaml and environment variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atoll.services import Settings

DEFAULT_ENTRY = "default"
"""The name of the entry of clouds.yaml that copies the first site's entry."""

KEPT_SUFFIX = "_API_VERSION"
"""The end of the names of variables that select an API version; they do not conflict with a site's address or account."""


def exports(settings: Settings) -> dict[str, str]:
    """Return the environment variables with which a client acts as the site's administrator."""
    return {
        "OS_AUTH_TYPE": "password",
        "OS_AUTH_URL": settings.public_url("identity", "/v3"),
        "OS_IDENTITY_API_VERSION": "3",
        "OS_INTERFACE": "public",
        "OS_PASSWORD": settings.secrets["admin"],
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_PROJECT_NAME": "admin",
        "OS_REGION_NAME": settings.region,
        "OS_USERNAME": "admin",
        "OS_USER_DOMAIN_ID": "default",
    }


CONTRADICTING = (
    "OS_CLOUD",
    "OS_DOMAIN_ID",
    "OS_DOMAIN_NAME",
    "OS_ENDPOINT",
    "OS_PROJECT_DOMAIN_NAME",
    "OS_PROJECT_ID",
    "OS_SYSTEM_SCOPE",
    "OS_TENANT_ID",
    "OS_TENANT_NAME",
    "OS_TOKEN",
    "OS_TRUST_ID",
    "OS_USER_DOMAIN_NAME",
    "OS_USER_ID",
)
"""Variables of another cloud that would override `exports`."""


def clouds_yaml(sites: Sequence[Settings]) -> str:
    """Return a clouds.yaml with an entry for each site, and `default` for the first."""
    import yaml

    entries = {settings.site: _entry(settings) for settings in sites}
    if sites:
        entries[DEFAULT_ENTRY] = _entry(sites[0])
    return "# Written by `atoll up`; changes are lost.\n" + yaml.safe_dump({"clouds": entries}, sort_keys=False)


def _entry(settings: Settings) -> dict[str, object]:
    return {
        "auth_type": "password",
        "auth": {
            "auth_url": settings.public_url("identity", "/v3"),
            "username": "admin",
            "password": settings.secrets["admin"],
            "project_name": "admin",
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        "region_name": settings.region,
        "identity_api_version": 3,
        "interface": "public",
    }


def admin_session(settings: Settings) -> Any:  # keystoneauth has no types
    """Return a keystoneauth session of a site's administrator."""
    import requests
    from keystoneauth1.identity.v3 import Password
    from keystoneauth1.session import Session

    direct = requests.Session()
    direct.trust_env = False  # a proxy can't reach this machine's loopback address, nor the network of a site
    account = Password(
        auth_url=settings.url("identity", "/v3"),
        username="admin",
        password=settings.secrets["admin"],
        project_name="admin",
        user_domain_id="default",
        project_domain_id="default",
    )
    return Session(account, session=direct, timeout=60)


def client_environment(settings: Settings, clouds_file: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a client of one site: the user's own, without variables of another cloud.

    Args:
        settings: settings of the site.
        clouds_file: the clouds.yaml with its entry.
        environment: the user's own environment.
    """
    return without_other_clouds(environment, [settings.host]) | {"OS_CLIENT_CONFIG_FILE": str(clouds_file), "OS_CLOUD": settings.site}


def without_other_clouds(environment: Mapping[str, str], hosts: Iterable[str]) -> dict[str, str]:
    """Return the user's own environment, without variables of another cloud, and without a proxy for the sites.

    Args:
        environment: the user's own environment.
        hosts: addresses of the sites.
    """
    # OS_* variables override clouds.yaml: another cloud's variables would direct the client to that cloud.
    clean = {
        name: value
        for name, value in environment.items()
        if not name.startswith("OS_") or (name.endswith(KEPT_SUFFIX) and name != "OS_IDENTITY_API_VERSION")
    }
    direct = ",".join(dict.fromkeys(hosts))
    for name in ("no_proxy", "NO_PROXY"):
        # A proxy can't reach this machine's loopback address, nor the network of a site.
        clean[name] = ",".join(filter(None, [environment.get(name), direct]))
    return clean
