"""The processes of a move of databases: the servers that the site starts, the templates, and the jobs that make the schemas."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from atoll.files import make_directory, write_private
from atoll.runtime.spec import ForkServer, Plan, Process
from atoll.services import BASE, DATABASE_SERVERS, SERVICES, Service, Settings
from atoll.services.transfer import schema
from atoll.site.composition import BASE_SERVER, TEMPLATE_TIMEOUT_S, parent_of, template_job
from atoll.site.state import State

SCHEMA = "schema-"
"""Prefix of the names of the jobs that make schemas, such as `paris/schema-nova`."""


def plan_of(state: State, source: Settings, target: Settings, services: Collection[str], templates: Path) -> Plan:
    """Return the processes that must run, or have run, before rows can be copied.

    Args:
        state: the state directory, for logs.
        source: the settings of the site.
        target: the settings with the other place.
        services: the names of the services whose databases are moved.
        templates: the directory of the templates.
    """
    chosen = [service for service in SERVICES if service.name in services]
    servers = [_server(settings) for settings in (source, target) if _starts(settings)]
    if target.engine in schema.FILES:
        jobs = [template_job(service, state, templates) for service in chosen if not (templates / service.name).is_dir()]
    else:
        needs = tuple(server.name for server in servers)
        jobs = [_schema(service, target, needs) for service in chosen]
    used = [service for service in chosen if any(job.fork_server == service.name for job in jobs)]
    forks = [ForkServer(service.name, service.preload, parent_of(service)) for service in used]
    return Plan((*([ForkServer(BASE_SERVER, BASE)] if used else []), *forks), (*servers, *jobs))


def _starts(settings: Settings) -> bool:
    """Return whether the site starts the server of this place itself."""
    return settings.engine in DATABASE_SERVERS and not settings.server


def _server(settings: Settings) -> Process:
    service = DATABASE_SERVERS[settings.engine]
    return Process(
        name=f"{settings.site}/{service.name}",
        fork_server=service.fork_server,
        entry=service.run,
        arguments={"directory": str(settings.directory)},
        log=_log(settings, service.name),
        directory=str(settings.directory),
        ready_timeout_s=TEMPLATE_TIMEOUT_S,  # its first start makes its data directory
    )


def _schema(service: Service, target: Settings, needs: tuple[str, ...]) -> Process:
    return Process(
        name=f"{target.site}/{SCHEMA}{service.name}",
        fork_server=service.name,
        entry=schema.ENTRY,
        arguments={"directory": str(target.directory), "place": target.place, "service": service.name},
        needs=needs,
        job=True,
        log=_log(target, f"{SCHEMA}{service.name}"),
        directory=str(target.directory),
        ready_timeout_s=TEMPLATE_TIMEOUT_S,
    )


def _log(settings: Settings, name: str) -> str:
    return str(settings.directory / "log" / f"{name}.log")


def write_configuration(settings: Sequence[Settings]) -> None:
    """Write the configuration of the servers that the site starts."""
    for each in settings:
        if _starts(each):
            for name, content in DATABASE_SERVERS[each.engine].configuration(each).items():
                make_directory((each.etc / name).parent)
                write_private(each.etc / name, content, durable=False)
