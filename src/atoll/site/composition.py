"""From the model to the runtime: settings, configuration files, and the plan of processes.

`render` and `compose` touch no file; `write` does.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atoll.bus import realms
from atoll.cloud import Cloud, Site
from atoll.cloud.network import outside_of
from atoll.cloud.network_services import LISTENING
from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.namespaces import Namespace
from atoll.runtime.spec import ROOT, ForkServer, Plan, Process
from atoll.services import (
    BASE,
    COMPUTE,
    DATA_PLANES,
    DATABASE_SERVERS,
    LIBVIRT,
    MAP_HOST,
    ROUTER,
    SERVICES,
    TRACING,
    Service,
    Settings,
    ini,
)
from atoll.services.database_urls import REDIS
from atoll.services.neutron import network_services
from atoll.site.bus import has_router, transport_url
from atoll.site.databases import database_of
from atoll.site.gateway import ANNOUNCER, GATEWAY
from atoll.site.machine import Machine
from atoll.site.shared_databases import shared_of
from atoll.site.state import State

SECRETS = ("admin", "nova", "neutron", "glance", "placement", "gateway", "metadata", "database")
"""The names of a site's secrets: passwords of users, the secret of the metadata service, and the password of a database
server. They are generated once."""

BASE_SERVER = "base"
"""The fork server that all services' fork servers are forked from."""

COMPUTE_SECRETS = ("nova", "neutron", "placement")
"""The secrets of its control site that a compute site needs."""

CATALOGUED = "keystone"
"""The service that holds the catalogue of all services."""

MAPPING = "map-host"
"""The job that registers a compute site at its control site, as the process `<site>/map-host`."""

TRACED = (*SERVICES, COMPUTE)
"""The services whose requests are recorded, besides the gateway, which starts its recorder itself."""

OUTSIDE = "172.24.4.1/24"
"""The address and the external network of a site without a topology: those of DevStack, so that examples for it work."""

TEMPLATE_TIMEOUT_S = 600.0
"""Greatest number of seconds for the job that builds a template: Nova's job takes half a minute on an idle core."""


@dataclass(frozen=True)
class Rendered:
    """The settings, services and configuration files of one site.

    Attributes:
        settings: settings for its services.
        services: the services that it runs.
        files: the text of its configuration files, by path below `etc`.
    """

    settings: Settings
    services: tuple[Service, ...]
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the site."""
        return self.settings.site


def services_of(cloud: Cloud, site: Site) -> tuple[Service, ...]:
    """Return the services that a site runs, each after those that it needs."""
    if site.kind == "compute":
        return (COMPUTE,)
    services = tuple(service for service in SERVICES if service.name in site.services.names)
    guests = (*DATA_PLANES[site.data_plane], LIBVIRT) if site.runs_guests else ()
    besides = network_services.processes(site.network_services, site.data_plane)
    server = (DATABASE_SERVERS[site.database.start],) if site.database.start else ()
    announcer = (ANNOUNCER,) if site.name in cloud.discovery.announce else ()
    return (*server, *guests, *services, *besides, GATEWAY, *announcer, *((ROUTER,) if has_router(cloud, site) else ()))


def log_names(cloud: Cloud, site: Site) -> list[str]:
    """Return the names of the logs of a site."""
    names = [service.name for service in services_of(cloud, site)]
    return [*names, MAPPING] if site.kind == "compute" else names


def load_secrets(directory: Path, admin: str | None = None) -> dict[str, str]:
    """Return the secrets of a site, with new ones for those that do not exist yet.

    Args:
        directory: the site's directory.
        admin: password of the cloud's administrator, which all sites share; `None` means that the first site makes one.

    Raises:
        AtollError: `state.unusable`: the site has databases, but its secrets can't be read.
    """
    path = directory / "settings.json"
    known: dict[str, str] = {} if admin is None else {"admin": admin}
    try:
        known |= json.loads(path.read_text(encoding="utf-8"))["secrets"]
    except FileNotFoundError:
        if (directory / "data").exists():
            raise _unreadable(path, "is missing") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise _unreadable(path, "can't be read") from None
    return {name: known.get(name) or secrets.token_urlsafe(32) for name in SECRETS}


def load_settings(directory: Path) -> Settings:
    """Return the settings of an existing site.

    Raises:
        AtollError: `state.unusable`: the file of the settings can't be read.
    """
    try:
        return Settings.load(directory)
    except (OSError, ValueError, KeyError, TypeError):
        raise _unreadable(directory / "settings.json", "can't be read") from None


def _unreadable(path: Path, what: str) -> AtollError:
    hint = f"put the file back, or `atoll destroy {path.parent.name}` and start anew"
    return AtollError("state.unusable", f"{path} {what}: expected the settings and secrets of the site", hint)


def render(  # noqa: PLR0913, PLR0917 - each argument is a part of the site
    cloud: Cloud, site: Site, directory: Path, templates: Path, secret: Mapping[str, str],
    machine: Machine | None = None, passwords: Mapping[str, str] | None = None,
) -> Rendered:  # fmt: skip
    """Return the settings and configuration files of one site.

    Args:
        cloud: the model.
        site: one of its sites.
        directory: the site's directory.
        templates: directory of the template databases for this version of the code.
        secret: secrets by name (see `SECRETS`); for a compute site, those of its control site.
        machine: abilities of this machine for guests; `None` without guests.
        passwords: the password of each site's own user at the server of a shared database, by site.

    Raises:
        AtollError: `cloud.invalid`: as for `transport_url`.
    """
    control = cloud.control_of(site)
    settings = Settings(
        site=site.name,
        directory=directory,
        templates=templates,
        host=control.host,
        ports=control.ports,
        secrets={name: secret[name] for name in (COMPUTE_SECRETS if site.control else SECRETS)},
        debug=site.debug,
        transport_url=transport_url(cloud, site),
        control=site.control or "",
        address=site.host,
        network_services=site.network_services,
        **(database_of(site) | shared_of(cloud, site, directory, passwords or {})),
        durability=control.durability,
        traffic=control.traffic,
        cloudlet_cache_gib=site.cloudlet_cache_gib,
        cloudlet_memory_keys=site.cloudlet_memory_keys,
        **_of_cloud(cloud),
        announce=cloud.discovery.announce.get(site.name, ""),
        realm=realms.assign(each.name for each in cloud.computes_of(control.name)).get(site.name, realms.OWN),
    )
    if site.runs_guests and machine is not None:
        settings = _with_guests(settings, cloud, site, machine)
    services = services_of(cloud, site)
    files: dict[str, str] = {}
    for service in services:
        # Appended last, because the last value of an option wins.
        more = ini.render(site.options.get(service.fork_server, {}))
        rendered = service.configuration(settings)
        files |= {name: f"{text}\n{more}" if more and not name.endswith(".yaml") else text for name, text in rendered.items()}
    return Rendered(settings, services, files)


def _with_guests(settings: Settings, cloud: Cloud, site: Site, machine: Machine) -> Settings:
    """Return the settings of a site that runs real guests."""
    data_plane = {"network": site.data_plane, "datapath": machine.datapath, "two_zones": machine.two_zones, **_outside(cloud, site)}
    return replace(settings, hypervisor=machine.hypervisor, **data_plane)


def _of_cloud(cloud: Cloud) -> dict[str, Any]:
    """Return the settings that all sites of a cloud share."""
    return {
        "cloud": cloud.name,
        "trust": {name: level for name, level in cloud.trust.items() if level != "full"},
        "homed": {each.key: list(each.sites) for each in cloud.homed},
        "groups": {site.name: group[0].name for site in cloud.full_sites if (group := cloud.sharing(site.name))},
        "lists": cloud.lists,
        "discovery": cloud.discovery.options,
        "trace": cloud.trace.options,
    }


def _outside(cloud: Cloud, site: Site) -> dict[str, Any]:
    """Return the settings of a site's external network; in a topology it is part of the site's own range, which all sites can reach."""
    if cloud.topology is None:
        return {"outside": OUTSIDE}
    return {"outside": outside_of(site.host), "forwards": True}


def write(rendered: Rendered) -> None:
    """Write settings and configuration files, and remove files that are no longer rendered."""
    settings = rendered.settings
    for directory in (settings.directory, settings.etc, settings.directory / "log"):
        make_directory(directory)
    settings.save()
    make_directory(settings.data)  # after the secrets, without which a site with data is not usable
    for name, text in rendered.files.items():
        path = settings.etc / name
        for parent in reversed(path.relative_to(settings.etc).parents):
            make_directory(settings.etc / parent)
        write_private(path, text, durable=False)  # each `up` writes missing and different files
    for path in settings.etc.rglob("*"):
        # OpenStack reads whole directories: files that no service renders any more must not stay there.
        if path.is_file() and str(path.relative_to(settings.etc)) not in rendered.files:
            path.unlink()


def compose(sites: Iterable[Rendered], state: State, templates: Path, code: str, networks: Mapping[str, Namespace] | None = None) -> Plan:
    """Return the plan for sites: a fork server for each service, a process for each service and site, and jobs for missing templates.

    Args:
        sites: the sites.
        state: the state directory, for logs.
        templates: directory of the template databases for this version of the code.
        code: key of the installed code; another key restarts everything.
        networks: the network namespaces of sites that have one, by site.
    """
    sites, networks = tuple(sites), networks or {}
    used = {service.name: service for site in sites for service in site.services if not service.forked_from}
    missing = {name for name, service in used.items() if service.upstream and not (templates / name).is_dir()}
    servers = (ForkServer(BASE_SERVER, BASE), *(ForkServer(name, used[name].preload, parent_of(used[name])) for name in used))
    jobs = [template_job(used[name], state, templates) for name in used if name in missing]
    planned = {_called(site, service) for site in sites for service in site.services}
    processes = [_process(site, service, planned, missing, code, networks) for site in sites for service in site.services]
    mappings = [_mapping(site.settings, state, networks) for site in sites if site.settings.control and not _mark(site.settings).exists()]
    return Plan(servers, (*jobs, *processes, *mappings))


def parent_of(service: Service) -> str:
    """Return the parent of a service's fork server: the root, if the service shares few imports with others."""
    return BASE_SERVER if service.upstream else ROOT


def opened(site: Rendered) -> dict[str, tuple[str, int]]:
    """Return, by process, the addresses at which a site's processes listen without a socket from the supervisor."""
    settings = site.settings
    return {
        _called(site, service): (settings.listens_at(name), settings.ports[name]) for service in site.services for name in service.opens
    }


def _called(site: Rendered, service: Service) -> str:
    return f"{site.name}/{service.name}"


def template_job(service: Service, state: State, templates: Path) -> Process:
    """Return the job that makes the template of a service."""
    return Process(
        name=f"template/{service.name}",
        fork_server=service.name,
        entry=service.template,
        arguments={"directory": str(templates / service.name)},
        job=True,
        log=str(state.logs / f"template-{service.name}.log"),
        directory=str(state.root),
        ready_timeout_s=TEMPLATE_TIMEOUT_S,
    )


def _mapping(settings: Settings, state: State, networks: Mapping[str, Namespace]) -> Process:
    return Process(
        name=f"{settings.site}/{MAPPING}",
        fork_server=COMPUTE.fork_server,
        entry=MAP_HOST,
        arguments={"directory": str(state.site(settings.control)), "host": settings.site, "mark": str(_mark(settings))},
        needs=(f"{settings.site}/{COMPUTE.name}",),
        job=True,
        log=str(settings.directory / "log" / f"{MAPPING}.log"),
        directory=str(settings.directory),
        network=networks.get(settings.control),
    )


def _mark(settings: Settings) -> Path:
    """Return the file that marks a compute site as registered at its control site."""
    return settings.data / "mapped"


def _process(  # noqa: PLR0913, PLR0917 - each argument is a part of the process
    site: Rendered, service: Service, planned: set[str], missing: set[str], code: str, networks: Mapping[str, Namespace]
) -> Process:
    settings = site.settings
    traced = bool(settings.trace) and service in TRACED
    needs = [name for need in service.needs if (name := f"{settings.control or site.name}/{need}") in planned]
    if settings.shares:
        # The owner alone makes the schemas; each service then prepares the shared database at one site after the other.
        needs += [name for need in (service.name, *DATABASE_SERVERS) if (name := f"{settings.shares}/{need}") in planned]
    if service.name in missing:
        needs.append(f"template/{service.name}")
    return Process(
        name=_called(site, service),
        fork_server=service.fork_server,
        entry=TRACING if traced else service.run,
        # The digest is for the runtime, which restarts a process whose arguments change; the service reads its files.
        arguments={"directory": str(settings.directory), "digest": _digest(site, service, code)} | ({"run": service.run} if traced else {}),
        needs=tuple(needs),
        listen=tuple((settings.listens_at(name), settings.ports[name]) for name in service.listens),
        log=str(settings.directory / "log" / f"{service.name}.log"),
        directory=str(settings.directory),
        network=networks.get(site.name),
    )


def _digest(site: Rendered, service: Service, code: str) -> str:
    settings = site.settings
    # Ports of optional services are left out of the other services' digests: a new one must not restart them and disturb guests.
    concerned = LISTENING if service.name == CATALOGUED else service.listens
    told = [
        code,
        {name: text for name, text in site.files.items() if name.startswith(f"{service.fork_server}/")},
        settings.host,
        {name: port for name, port in settings.ports.items() if name not in LISTENING or name in concerned},
        dict(settings.secrets),
        settings.region,
        settings.debug,
        settings.hypervisor,
        settings.network,
        settings.datapath,
        settings.outside,
        settings.realm,
        settings.durability,
        settings.engine,
        settings.server,
        settings.traffic,
        *([dict(settings.database_users), settings.database_port] if service.name == REDIS and settings.database_users else []),
        *([dict(settings.sharing)] if settings.sharing and (service is ROUTER or service.name == CATALOGUED) else []),
        *([dict(settings.trace)] if service in TRACED or service is GATEWAY else []),
    ]
    if service in (COMPUTE, GATEWAY, ROUTER):
        with suppress(OSError):  # the first `up` computes digests before it creates the certificate
            told.append((settings.tls / "cert.pem").read_text(encoding="ascii"))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def render_sites(state: State, cloud: Cloud, templates: Path, machine: Machine | None = None) -> list[Rendered]:
    """Render all sites of a cloud; new sites get the administrator's password of an existing one.

    Args:
        state: the state directory.
        cloud: the cloud.
        templates: the directory of the templates.
        machine: abilities of this machine for guests; `None` if no site runs guests.
    """
    secrets: dict[str, dict[str, str]] = {}
    # Existing sites first, because new sites get their password.
    for site in sorted(cloud.full_sites, key=lambda each: not state.site(each.name).exists()):
        admin = next((known["admin"] for known in secrets.values()), None)
        secrets[site.name] = load_secrets(state.site(site.name), admin)
    passwords = {name: each["database"] for name, each in secrets.items()}
    for site in cloud.full_sites:
        if site.database.of:  # one Keystone has one account of each service
            secrets[site.name] = secrets[site.database.of] | {"database": passwords[site.name]}
    return [
        render(cloud, site, state.site(site.name), templates, secrets[site.control or site.name], machine, passwords)
        for site in cloud.sites
    ]
