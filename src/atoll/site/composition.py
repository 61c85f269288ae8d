"""From the model to what the runtime is told: settings, configuration files, and the plan of processes.

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
from atoll.services import BASE, COMPUTE, DATA_PLANES, LIBVIRT, MAP_HOST, ROUTER, SERVICES, Service, Settings, ini, network_services
from atoll.site.bus import has_router, transport_url
from atoll.site.gateway import GATEWAY
from atoll.site.machine import Machine
from atoll.site.state import State

SECRETS = ("admin", "nova", "neutron", "glance", "placement", "gateway", "metadata")
"""Each service's user and what protects the metadata service; made once for each site."""

BASE_SERVER = "base"
"""The fork server that all services' fork servers are forked from."""

COMPUTE_SECRETS = ("nova", "neutron", "placement")
"""Those of its control site that a compute site has to know."""

CATALOGUED = "keystone"
"""The service that tells clients what else there is."""

MAPPING = "map-host"
"""The job by which a compute site becomes known to its control site; its process is called `<site>/map-host`."""

OUTSIDE = "172.24.4.1/24"
"""The address and the external network of a site without a topology: DevStack's, so that examples found elsewhere work."""

TEMPLATE_TIMEOUT_S = 600.0
"""Seconds that a template may take: Nova's takes half a minute on one core, and a busy machine has less than one."""


@dataclass(frozen=True)
class Rendered:
    """One site, ready to be written and run.

    Attributes:
        settings: what its services are told.
        services: those that it runs.
        files: the text of its configuration files, by path below `etc`.
    """

    settings: Settings
    services: tuple[Service, ...]
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """The site's name."""
        return self.settings.site


def services_of(cloud: Cloud, site: Site) -> tuple[Service, ...]:
    """The services that a site runs, each after those it needs."""
    if site.kind == "compute":
        return (COMPUTE,)
    services = tuple(service for service in SERVICES if service.name in site.services.names)
    guests = (*DATA_PLANES[site.data_plane], LIBVIRT) if site.runs_guests else ()
    besides = network_services.processes(site.network_services, site.data_plane)
    return (*guests, *services, *besides, GATEWAY, *((ROUTER,) if has_router(cloud, site) else ()))


def log_names(cloud: Cloud, site: Site) -> list[str]:
    """The names of the logs of a site."""
    names = [service.name for service in services_of(cloud, site)]
    return [*names, MAPPING] if site.kind == "compute" else names


def load_secrets(directory: Path, admin: str | None = None) -> dict[str, str]:
    """The secrets of a site: those it has, or new ones if it doesn't exist yet.

    Args:
        directory: the site's own.
        admin: the password of the cloud's administrator, if the cloud has one already: all sites have the same users.

    Raises:
        AtollError: `state.unusable`: it has databases, but its secrets can't be read.
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
    """The settings of a site that exists.

    Raises:
        AtollError: `state.unusable`.
    """
    try:
        return Settings.load(directory)
    except (OSError, ValueError, KeyError, TypeError):
        raise _unreadable(directory / "settings.json", "can't be read") from None


def _unreadable(path: Path, what: str) -> AtollError:
    hint = f"put the file back, or `atoll destroy {path.parent.name}` and start anew"
    return AtollError("state.unusable", f"{path} {what}: expected the settings and secrets of the site", hint)


def render(  # noqa: PLR0913, PLR0917 - what a site is made of
    cloud: Cloud, site: Site, directory: Path, templates: Path, secret: Mapping[str, str], machine: Machine | None = None
) -> Rendered:
    """The settings and configuration files of one site.

    Args:
        cloud: the model.
        site: one of its sites.
        directory: the site's own.
        templates: where the template databases of this version are.
        secret: see `SECRETS`; of a compute site, its control site's.
        machine: what guests get; None if there are none.

    Raises:
        AtollError: `cloud.invalid`; see `transport_url`.
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
        cloud=cloud.name,
        network_services=site.network_services,
        trust={name: level for name, level in cloud.trust.items() if level != "full"},
        homed={each.key: list(each.sites) for each in cloud.homed},
        lists=cloud.lists,
        durability=control.durability,
        realm=realms.assign(each.name for each in cloud.computes_of(control.name)).get(site.name, realms.OWN),
    )
    if site.runs_guests and machine is not None:
        data_plane = {"network": site.data_plane, "datapath": machine.datapath, "two_zones": machine.two_zones, **_outside(cloud, site)}
        settings = replace(settings, hypervisor=machine.hypervisor, **data_plane)
    services = services_of(cloud, site)
    files: dict[str, str] = {}
    for service in services:
        # Last, for what a file says last about an option holds.
        more = ini.render(site.options.get(service.fork_server, {}))
        rendered = service.configuration(settings)
        files |= {name: f"{text}\n{more}" if more and not name.endswith(".yaml") else text for name, text in rendered.items()}
    return Rendered(settings, services, files)


def _outside(cloud: Cloud, site: Site) -> dict[str, Any]:
    """Where a site's external network is: in a topology in the site's own range, which all sites have a way to."""
    if cloud.topology is None:
        return {"outside": OUTSIDE}
    return {"outside": outside_of(site.host), "forwards": True}


def write(rendered: Rendered) -> None:
    """Write settings and configuration files, and remove those of an earlier version."""
    settings = rendered.settings
    for directory in (settings.directory, settings.etc, settings.directory / "log", settings.data):
        make_directory(directory)
    settings.save()
    for name, text in rendered.files.items():
        path = settings.etc / name
        for parent in reversed(path.relative_to(settings.etc).parents):
            make_directory(settings.etc / parent)
        write_private(path, text, durable=False)  # each `up` writes what is not as it has to be
    for path in settings.etc.rglob("*"):
        # OpenStack reads whole directories: what no service renders any more must not be found there.
        if path.is_file() and str(path.relative_to(settings.etc)) not in rendered.files:
            path.unlink()


def compose(sites: Iterable[Rendered], state: State, templates: Path, code: str, networks: Mapping[str, Namespace] | None = None) -> Plan:
    """What must run for these sites: a fork server per service, a process per service and site, and missing templates.

    Args:
        sites: the sites.
        state: where logs go.
        templates: the directory of the templates made by this code.
        code: the key of the installed code: with another one, everything is started anew.
        networks: of the sites that have one of their own.
    """
    sites, networks = tuple(sites), networks or {}
    used = {service.name: service for site in sites for service in site.services if not service.forked_from}
    missing = {name for name, service in used.items() if service.upstream and not (templates / name).is_dir()}
    servers = (ForkServer(BASE_SERVER, BASE), *(ForkServer(name, used[name].preload, _parent(used[name])) for name in used))
    jobs = [_template(used[name], state, templates) for name in used if name in missing]
    planned = {_called(site, service) for site in sites for service in site.services}
    processes = [_process(site, service, planned, missing, code, networks) for site in sites for service in site.services]
    mappings = [_mapping(site.settings, state, networks) for site in sites if site.settings.control and not _mark(site.settings).exists()]
    return Plan(servers, (*jobs, *processes, *mappings))


def _parent(service: Service) -> str:
    """The fork server that a service's own is forked from: the root, where little is imported, if it shares nothing with the others."""
    return BASE_SERVER if service.upstream else ROOT


def opened(site: Rendered) -> dict[str, tuple[str, int]]:
    """The addresses that a site's processes listen on by themselves, by process."""
    settings = site.settings
    return {
        _called(site, service): (settings.listens_at(name), settings.ports[name]) for service in site.services for name in service.opens
    }


def _called(site: Rendered, service: Service) -> str:
    return f"{site.name}/{service.name}"


def _template(service: Service, state: State, templates: Path) -> Process:
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
    """The file that says that a compute site is known to its control site."""
    return settings.data / "mapped"


def _process(  # noqa: PLR0913, PLR0917 - what a process is made of
    site: Rendered, service: Service, planned: set[str], missing: set[str], code: str, networks: Mapping[str, Namespace]
) -> Process:
    settings = site.settings
    needs = [name for need in service.needs if (name := f"{settings.control or site.name}/{need}") in planned]
    if service.name in missing:
        needs.append(f"template/{service.name}")
    return Process(
        name=_called(site, service),
        fork_server=service.fork_server,
        entry=service.run,
        # The service reads its files, not the digest: that is for the runtime, which restarts a process whose arguments change.
        arguments={"directory": str(settings.directory), "digest": _digest(site, service, code)},
        needs=tuple(needs),
        listen=tuple((settings.listens_at(name), settings.ports[name]) for name in service.listens),
        log=str(settings.directory / "log" / f"{service.name}.log"),
        directory=str(settings.directory),
        network=networks.get(site.name),
    )


def _digest(site: Rendered, service: Service, code: str) -> str:
    settings = site.settings
    # Of what listens at some sites alone, others are not restarted when it comes or goes: their guests would notice.
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
    ]
    if service in (COMPUTE, GATEWAY, ROUTER):
        with suppress(OSError):  # the first `up` looks before it makes one
            told.append((settings.tls / "cert.pem").read_text(encoding="ascii"))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
