"""Configuration and directories that the services of a site share: logging, accounts and the bus."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from atoll.files import make_directory
from atoll.identifiers import gateway_role
from atoll.services.contract import Settings
from atoll.services.ini import Sections

DOMAIN = "default"
SERVICE_PROJECT = "service"
RETURN_S = 30
"""Seconds that a message waits for an unreachable compute site: long enough for a restart of the site or of the router.

Nova records that a server is being stopped, then sends the message, and leaves the record if nobody receives the message. With a higher
value, fewer servers stay in that state; but an operation on a server of a compute site that is cut off fails later.
"""

VALIDATION = "ignore"
"""The mode in which Nova and Keystone validate their own answers.

By default they compare each answer with its schema and warn of differences. That helps developers, and takes a quarter of the time of a
long list.
"""

TOKEN_CACHE = "atoll.token_cache"  # noqa: S105 - the name of a cache
"""The key of the WSGI environment under which `atoll.services.wsgi` passes the cache of validated tokens."""


def logging(settings: Settings) -> Sections:
    """Render the logging options: log to standard error, which the runtime appends to the service's log, and log no single requests."""
    quiet = "INFO" if settings.debug else "WARNING"
    names = (
        "amqp",
        "amqplib",
        "oslo.messaging",
        "oslo_messaging",
        "sqlalchemy",
        "stevedore",
        "urllib3",
        "keystonemiddleware",
        "oslo_policy",
        "routes.middleware",
        "dogpile.core.dogpile",
        "taskflow",
        "keystoneauth",
        "iso8601",
        "oslo.cache",
    )
    return {
        "DEFAULT": {
            "use_stderr": True,
            "debug": settings.debug,
            "default_log_levels": [f"{name}={quiet}" for name in names],
        },
        "oslo_concurrency": {"lock_path": str(settings.data / "locks")},
        "oslo_policy": {"enforce_new_defaults": True},
    }


def behind_gateway() -> Sections:
    """Render the options that give links in answers the address that the client used (`X-Forwarded-*`)."""
    return {"oslo_middleware": {"enable_proxy_headers_parsing": True}}


def bus(settings: Settings) -> Sections:
    """Render the options of the site's message bus."""
    sections: dict[str, dict[str, str | int | bool]] = {"DEFAULT": {"transport_url": settings.transport_url}}
    if settings.transport_url.startswith("zenoh:"):
        data = settings.data / "bus"
        zenoh = sections["oslo_messaging_zenoh"] = {"journal_dir": str(data / "journal"), "outbox_dir": str(data / "outbox")}
        zenoh["durable"] = settings.durable
        # A compute site's process connects to the router alone, and looks for no other process on this machine.
        zenoh |= _through_router(settings) if settings.control else _within_site(settings)
    return sections


def _within_site(settings: Settings) -> dict[str, str | int | bool]:
    here: dict[str, str | int | bool] = {"socket_dir": str(settings.sockets), "default_retries": RETURN_S}
    # On a bus of several sites, the conductor and the scheduler of this site answer, as long as they run.
    return here | {"selection": "nearest"} if settings.sharing else here


def _through_router(settings: Settings) -> dict[str, str | int | bool]:
    return {
        "mode": "client",
        "socket_dir": "none",
        "tls": True,
        "tls_ca_file": str(settings.tls / "ca.pem"),
        "tls_cert_file": str(settings.tls / "cert.pem"),
        "tls_key_file": str(settings.tls / "key.pem"),
        "realm": settings.realm,
        # While the control site restarts, nobody receives messages there: a call waits until its own timeout, as with a broker.
        "default_retries": -1,
    }


def certificate(settings: Settings) -> dict[str, str]:
    """Return the keystoneauth options for the TLS connections of a compute site to the APIs of its control site; none for a full site."""
    if not settings.control:
        return {}
    return {name: str(settings.tls / file) for name, file in (("cafile", "ca.pem"), ("certfile", "cert.pem"), ("keyfile", "key.pem"))}


def endpoint(settings: Settings, name: str) -> dict[str, str]:
    """Return the keystoneauth option with the URL of an API, for a compute site; none for a full site, which reads its catalogue."""
    return {"endpoint_override": settings.url(name)} if settings.control else {}


def credentials(settings: Settings, user: str) -> dict[str, str]:
    """Render the keystoneauth options with which a service signs in as its own `user`."""
    return certificate(settings) | {
        # No version discovery at another site's Keystone, which would return its own addresses.
        "auth_type": "v3password" if settings.control else "password",
        "auth_url": settings.url("identity", "/v3"),
        "username": user,
        "password": settings.secrets[user],
        "project_name": SERVICE_PROJECT,
        "user_domain_id": DOMAIN,
        "project_domain_id": DOMAIN,
    }


def client(settings: Settings, user: str) -> dict[str, str]:
    """Render `credentials` and the region of the catalogue, for a service that calls others."""
    return credentials(settings, user) | {"region_name": settings.region}


SERVICE_TYPES = {"glance": "image", "nova": "compute", "neutron": "network", "placement": "placement"}
"""The type of each account's service in the catalogue; access rules of application credentials name it (`access_rules`)."""

GATEWAY_ACCOUNTS = {"glance": "image", "nova": "compute", "neutron": "network"}
"""The services at which the site's gateway has an account, with their types in the catalogue."""


def policies(user: str) -> dict[str, str]:
    """Render the policies that make the gateway's account for a service an administrator of that service alone.

    Args:
        user: a key of `GATEWAY_ACCOUNTS`.
    """
    return {f"{user}/policy.d/gateway.yaml": f'"context_is_admin": "role:admin or role:{gateway_role(GATEWAY_ACCOUNTS[user])}"\n'}


def _gateway(settings: Settings, user: str) -> Sections:
    """Render the directory of `policies`, and the roles of service tokens that a service accepts; the gateway's confirms chosen ids."""
    if user not in GATEWAY_ACCOUNTS:
        return {"keystone_authtoken": {"service_token_roles": "service"}}
    return {
        "oslo_policy": {"policy_dirs": str(settings.etc / user / "policy.d")},
        "keystone_authtoken": {"service_token_roles": ["service", gateway_role(GATEWAY_ACCOUNTS[user])]},
    }


def authtoken(settings: Settings, user: str, service_type: str = "") -> Sections:
    """Render the options by which a service validates its callers' tokens: each token once in five minutes, with a cache for all threads.

    Args:
        settings: the site's settings.
        user: the service's own account.
        service_type: the service's type in the catalogue, if it differs from that of the account's own service.
    """
    gateway = _gateway(settings, user)
    return {
        **behind_gateway(),
        **{name: options for name, options in gateway.items() if name != "keystone_authtoken"},
        "keystone_authtoken": {
            **client(settings, user),
            "www_authenticate_uri": settings.public_url("identity", "/v3"),
            "interface": "internal",
            **gateway["keystone_authtoken"],
            "service_token_roles_required": True,
            "service_type": service_type or SERVICE_TYPES[user],
            "cache": TOKEN_CACHE,
        },
    }


def upstream_file(path: str) -> Path:
    """Return the path of a configuration file that an upstream wheel installs, such as `etc/nova/api-paste.ini`."""
    return Path(sys.prefix) / path


def directories(settings: Settings, *names: str) -> None:
    """Create directories below the site's data that only their owner can read."""
    for name in ("locks", *names):
        make_directory(settings.data / name)


@contextlib.contextmanager
def written(text: str) -> Iterator[Path]:
    """Write configuration, which may contain a password, to a temporary file for its owner alone.

    Yields:
        the path of the file, which exists within the block.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="atoll-", suffix=".conf") as file:
        file.write(text)
        file.flush()
        yield Path(file.name)
