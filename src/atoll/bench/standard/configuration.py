"""The configuration of the usual deployment: that of a site, but with several processes per service, and MariaDB instead of SQLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from atoll.services import SERVICES, Settings
from atoll.services.ini import Sections, render

WORKERS = 2
"""Number of processes of each API, of the conductor and of the scheduler."""

THREADS = 8
"""Number of requests that one API process serves at the same time."""

GUNICORN = {
    "keystone": ("keystone.wsgi.api:application", "identity"),
    "placement": ("placement.wsgi.api:application", "placement"),
    "glance": ("glance.wsgi.api:application", "image"),
    "neutron": ("neutron.wsgi.api:application", "network"),
    "nova": ("nova.wsgi.osapi_compute:application", "compute"),
    "nova-metadata": ("nova.wsgi.metadata:application", "metadata"),
}
"""The WSGI application and the name of the port of each program."""

DATABASES = ("keystone", "placement", "glance", "neutron", "nova_api", "nova", "nova_cell0")
"""The names of the databases. `nova` belongs to the only cell; `nova-manage cell_v2 map_cell0` derives the name `nova_cell0` from it."""

_UNCACHED: Sections = {
    # Only processes of sites provide a cache of tokens under this name. Without the option, keystonemiddleware keeps a cache in each
    # process.
    "keystone_authtoken": {"cache": ""},
}


def write(settings: Settings, database: Callable[[str], str], transport_url: str) -> None:
    """Write the configuration of all services below `Settings.etc`.

    Each file of options has the text of a site's configuration, followed by the differences, because in oslo.config the last value of an
    option wins. Other files, such as policies in YAML, are those of a site.

    Args:
        settings: the settings of the services.
        database: returns the SQLAlchemy URL of a database.
        transport_url: the URL of the message bus.
    """
    different = overrides(settings.data, database, transport_url)
    for service in SERVICES:
        for name, text in service.configuration(settings).items():
            path = settings.etc / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            more = f"\n{render(different[service.name])}" if path.suffix == ".conf" else ""
            path.write_text(f"{text}{more}", encoding="utf-8")


def overrides(data: Path, database: Callable[[str], str], transport_url: str) -> dict[str, Sections]:
    """Return the differences from a site's configuration, by service; see `write`."""
    return {
        "keystone": {
            "database": {"connection": database("keystone")},
            # Upstream's default, because only sites need tokens whose signatures other sites can verify.
            "token": {"provider": "fernet"},
            "fernet_tokens": {"key_repository": str(data / "keys/tokens")},
        },
        "placement": {**_UNCACHED, "placement_database": {"connection": database("placement")}},
        "glance": {**_UNCACHED, "database": {"connection": database("glance")}},
        "neutron": {
            **_UNCACHED,
            "DEFAULT": {"transport_url": transport_url, "rpc_workers": 1, "rpc_state_report_workers": 1},
            "database": {"connection": database("neutron")},
        },
        "nova": {
            **_UNCACHED,
            "DEFAULT": {"transport_url": transport_url, "compute_driver": "fake.FakeDriver"},
            "api_database": {"connection": database("nova_api")},
            "database": {"connection": database("nova")},
            "conductor": {"workers": WORKERS},
            "scheduler": {"workers": WORKERS},
        },
    }


def gunicorn(program: str, settings: Settings) -> str:
    """Return the gunicorn.conf.py of one program.

    gunicorn finds the file in its working directory. So it needs no arguments, which Nova and Neutron would interpret as their own.
    """
    application, port = GUNICORN[program]
    options = {
        "wsgi_app": application,
        "bind": f"{settings.listens_at(port)}:{settings.ports[port]}",
        "workers": WORKERS,
        "worker_class": "gthread",
        "threads": THREADS,
        "timeout": 120,
        "control_socket_disable": True,
        "worker_tmp_dir": str(settings.directory),
    }
    return "".join(f"{name} = {value!r}\n" for name, value in options.items())


def environment(settings: Settings, paste: Path) -> dict[str, str]:
    """Return the environment variables with the paths of the configuration.

    Args:
        settings: the settings of the services.
        paste: the path of Nova's paste file, which must be the first of Nova's configuration files.
    """
    names = {"KEYSTONE": "keystone", "PLACEMENT": "placement", "GLANCE": "glance", "NEUTRON": "neutron", "NOVA": "nova"}
    directories = {f"OS_{upper}_CONFIG_DIR": str(settings.etc / name) for upper, name in names.items()}
    return directories | {"OS_NEUTRON_CONFIG_FILES": "neutron.conf", "OS_NOVA_CONFIG_FILES": f"{paste};nova.conf"}
