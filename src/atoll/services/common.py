"""What all services of a site have in common: logging, their own account, the databases they start from."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from atoll.files import flush, flush_tree, make_directory
from atoll.identifiers import gateway_role
from atoll.services.contract import Settings
from atoll.services.ini import Sections

DOMAIN = "default"
SERVICE_PROJECT = "service"
RETURN_S = 30
"""Seconds that a full site's message waits for a compute site that is not there: as long as its restart, or that of the router, may take.

Nova notes that a server is being stopped, then sends the message, and does not take the note back if nobody listens. Higher: fewer servers
get stuck so; but whoever manages a server of a compute site that is cut off waits longer for the error.
"""

VALIDATION = "ignore"
"""Nova and Keystone compare each answer with its schema, and warn of what differs, by default; that is for who develops them, and takes a
quarter of the time of a long list."""

TOKEN_CACHE = "atoll.token_cache"  # noqa: S105 - the name of a cache
"""The key of the WSGI environment under which `atoll.services.wsgi` offers the cache of validated tokens."""


def logging(settings: Settings) -> Sections:
    """To standard error, which the runtime appends to the service's log, without the noise of each request."""
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
    """Links in answers lead to where the client came in, which the gateway says in `X-Forwarded-*`."""
    return {"oslo_middleware": {"enable_proxy_headers_parsing": True}}


def bus(settings: Settings) -> Sections:
    """How a service reaches the site's message bus."""
    sections: dict[str, dict[str, str | int | bool]] = {"DEFAULT": {"transport_url": settings.transport_url}}
    if settings.transport_url.startswith("zenoh:"):
        data = settings.data / "bus"
        zenoh = sections["oslo_messaging_zenoh"] = {"journal_dir": str(data / "journal"), "outbox_dir": str(data / "outbox")}
        zenoh["durable"] = settings.durable
        # Nobody else is on this machine that a compute site's process would have to find without the router.
        zenoh |= _through_router(settings) if settings.control else _within_site(settings)
    return sections


def _within_site(settings: Settings) -> dict[str, str | int | bool]:
    return {"socket_dir": str(settings.sockets), "default_retries": RETURN_S}


def _through_router(settings: Settings) -> dict[str, str | int | bool]:
    return {
        "mode": "client",
        "socket_dir": "none",
        "tls": True,
        "tls_ca_file": str(settings.tls / "ca.pem"),
        "tls_cert_file": str(settings.tls / "cert.pem"),
        "tls_key_file": str(settings.tls / "key.pem"),
        "realm": settings.realm,
        # While the control site restarts nobody listens there: a call waits for it until its own timeout, as with a broker.
        "default_retries": -1,
    }


def certificate(settings: Settings) -> dict[str, str]:
    """Return the keystoneauth options by which a compute site reaches the APIs of its control site; none for a full site."""
    if not settings.control:
        return {}
    return {name: str(settings.tls / file) for name, file in (("cafile", "ca.pem"), ("certfile", "cert.pem"), ("keyfile", "key.pem"))}


def endpoint(settings: Settings, name: str) -> dict[str, str]:
    """Return the keystoneauth option that tells a compute site where an API is; a full site looks into its catalogue."""
    return {"endpoint_override": settings.url(name)} if settings.control else {}


def credentials(settings: Settings, user: str) -> dict[str, str]:
    """The keystoneauth options by which a service signs in as its own `user`."""
    return certificate(settings) | {
        # Of another site's Keystone no version is looked for: it would name its own addresses.
        "auth_type": "v3password" if settings.control else "password",
        "auth_url": settings.url("identity", "/v3"),
        "username": user,
        "password": settings.secrets[user],
        "project_name": SERVICE_PROJECT,
        "user_domain_id": DOMAIN,
        "project_domain_id": DOMAIN,
    }


def client(settings: Settings, user: str) -> dict[str, str]:
    """`credentials`, and where to look in the catalogue, for a service that calls others."""
    return credentials(settings, user) | {"region_name": settings.region}


SERVICE_TYPES = {"glance": "image", "nova": "compute", "neutron": "network", "placement": "placement"}
"""By account, the type of the service in the catalogue, which access rules of application credentials name (`access_rules`)."""

GATEWAY_ACCOUNTS = {"glance": "image", "nova": "compute", "neutron": "network"}
"""The services at which the site's gateway has an account, each with its type."""


def policies(user: str) -> dict[str, str]:
    """The file of policies by which the gateway's account for a service is its administrator, and no other service's.

    Args:
        user: one of `GATEWAY_ACCOUNTS`.
    """
    return {f"{user}/policy.d/gateway.yaml": f'"context_is_admin": "role:admin or role:{gateway_role(GATEWAY_ACCOUNTS[user])}"\n'}


def _gateway(settings: Settings, user: str) -> Sections:
    """Where a service finds `policies`, and whose service tokens it takes: those of the gateway vouch for ids (`image_ids`)."""
    if user not in GATEWAY_ACCOUNTS:
        return {"keystone_authtoken": {"service_token_roles": "service"}}
    return {
        "oslo_policy": {"policy_dirs": str(settings.etc / user / "policy.d")},
        "keystone_authtoken": {"service_token_roles": ["service", gateway_role(GATEWAY_ACCOUNTS[user])]},
    }


def authtoken(settings: Settings, user: str, service_type: str = "") -> Sections:
    """How a service checks its callers' tokens: once in five minutes for each token, kept in a cache of the whole process.

    Args:
        settings: of the site.
        user: the service's own account.
        service_type: the service's type in the catalogue, if it is not that of the account's own service.
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
    """A configuration file that an upstream wheel installs, such as `etc/nova/api-paste.ini`."""
    return Path(sys.prefix) / path


def directories(settings: Settings, *names: str) -> None:
    """Make directories below the site's data, for their owner alone."""
    for name in ("locks", *names):
        make_directory(settings.data / name)


def databases(settings: Settings, service: str, names: Iterable[str]) -> bool:
    """Give the site those databases of a service that it lacks, as copies of the template's.

    Returns:
        True if any was copied: the service starts for the first time.
    """
    copied = False
    for name in names:
        target = settings.data / f"{name}.db"
        if not target.exists():
            temporary = target.with_suffix(".new")
            shutil.copyfile(settings.templates / service / f"{name}.db", temporary)
            temporary.chmod(0o600)
            flush(temporary)
            temporary.replace(target)
            copied = True
    if copied:
        flush(settings.data)
    return copied


def mark(path: Path, database: Path) -> None:
    """Make a file that says that something was done. It must not outlive what it stands for, also where `durability` is relaxed.

    Args:
        path: of the file.
        database: of the site, open, in which it was done; its log is flushed first.

    Raises:
        OSError: the disk fails.
    """
    flush(database.with_name(f"{database.name}-wal"))
    path.touch(mode=0o600)
    flush(path.parent)


def template_database(directory: Path, name: str) -> str:
    """Return the SQLAlchemy URL of a template's database, which `make_template` flushes once it is whole."""
    return f"sqlite:///{directory}/{name}.db?plugin=atoll&durability=relaxed"


def make_template(directory: Path, make: Callable[[Path], None]) -> None:
    """Make a template directory, whole or not at all.

    Args:
        directory: where it must stand in the end.
        make: fills the directory it is given.
    """
    if directory.exists():
        return
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = directory.with_name(f"{directory.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    make(temporary)
    flush_tree(temporary)
    try:
        temporary.rename(directory)
    except OSError:
        if not directory.exists():
            raise
        # Another cloud of this user made the same template meanwhile; one is as good as the other.
        shutil.rmtree(temporary)
    flush(directory.parent)


def checkpoint(database: Path) -> None:
    """Move what WAL holds into the database file itself, so that a copy of that file alone is whole."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
