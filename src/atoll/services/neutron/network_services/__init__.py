"""Optional service plug-ins of Neutron, each enabled by its name in the cloud's YAML (`network_services`).

Each is an instance of one dataclass, `NetworkService`, in a module of its own. The functions here collect, for the other services of a
site, the properties of its network services: of those that every site has, and of those that its YAML names.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import TypeVar

from atoll.services.contract import Service, Settings
from atoll.services.ini import Repeated, Sections
from atoll.services.neutron import orphans
from atoll.services.neutron.network_services import bgp, bgpvpn, builtin, firewall, load_balancer, sfc, tap, vpn, vpn_agent
from atoll.services.neutron.network_services.contract import Implementation, NetworkService, Obstacle
from atoll.services.neutron.ovn import layout

REGISTRY: dict[str, NetworkService] = {
    service.name: service
    for service in (
        builtin.TRUNK,
        builtin.METERING,
        builtin.QOS,
        builtin.SEGMENTS,
        builtin.PORT_FORWARDING,
        builtin.NETWORK_SEGMENT_RANGE,
        builtin.LOG,
        firewall.FIREWALL,
        tap.TAP,
        sfc.SFC,
        bgpvpn.BGPVPN,
        bgp.BGP,
        vpn.VPN,
        load_balancer.LOAD_BALANCER,
    )
}
"""All network services by name, in the order in which Neutron loads them."""

_T = TypeVar("_T")

EXTRA = "network"
"""The extra of this project that installs the packages of network services."""


def implementations(settings: Settings) -> list[Implementation]:
    """Return the implementations of a site's network services on the site's data plane."""
    return _implementations(settings.network_services, settings.network)


def _implementations(names: Iterable[str], network: str) -> list[Implementation]:
    named = set(names)
    has = (each for each in REGISTRY.values() if each.name in named or network in each.default)
    return [each.implementations[network] for each in has if network in each.implementations]


def plugins(settings: Settings) -> tuple[str, ...]:
    """Return Neutron's names of the service plug-ins of a site."""
    return _joined(implementation.plugins for implementation in implementations(settings))


def extension_drivers(settings: Settings) -> tuple[str, ...]:
    """Return the ML2 extension drivers that a site's network services need."""
    return _joined(implementation.extension_drivers for implementation in implementations(settings))


def configuration(settings: Settings) -> list[Sections]:
    """Return the options of neutron.conf for a site's network services, besides the names of plug-ins."""
    providers = _joined(implementation.providers for implementation in implementations(settings))
    said: list[Sections] = [implementation.configuration(settings) for implementation in implementations(settings)]
    return [*said, {"service_providers": {"service_provider": Repeated(providers)}}] if providers else said


def agent_extensions(settings: Settings, agent: str) -> tuple[str, ...]:
    """Return the extensions that a site's network services need in one of Neutron's agents.

    Args:
        settings: the site's settings.
        agent: the name of the agent.
    """
    return _joined(implementation.extensions.get(agent, ()) for implementation in implementations(settings))


def agent_configuration(settings: Settings, agent: str) -> list[Sections]:
    """Return the options of an agent's file for a site's network services, besides the names of extensions."""
    return [implementation.agents[agent](settings) for implementation in implementations(settings) if agent in implementation.agents]


def called_by_agents(settings: Settings) -> bool:
    """Return whether a network service of the site has an agent that calls Neutron over the bus."""
    return any(implementation.rpc for implementation in implementations(settings))


def processes(names: Iterable[str], network: str) -> tuple[Service, ...]:
    """Return the processes of network services.

    Args:
        names: the network services that the site's YAML names.
        network: the site's data plane.
    """
    return _unique(chain.from_iterable(implementation.processes for implementation in _implementations(names, network)))


def templates() -> tuple[str, ...]:
    """Return the names of the processes of network services that have templates of their own."""
    implementations = chain.from_iterable(service.implementations.values() for service in REGISTRY.values())
    return _unique(
        process.name
        for implementation in implementations
        for process in implementation.processes
        if process.upstream and not process.forked_from
    )


def installed() -> dict[str, str]:
    """Return the versions of the installed packages of network services, by name."""
    found = {}
    for distribution in sorted(_joined(service.distributions for service in REGISTRY.values())):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def models() -> tuple[str, ...]:
    """Return the modules that define the tables of all installed network services."""
    here = installed()
    return _joined(service.models for service in REGISTRY.values() if here.keys() >= set(service.distributions))


def stamps(settings: Settings) -> set[str]:
    """Return the `stamp` tables of a site's network services. If such a table is absent in the database, the service has no tables yet."""
    return {REGISTRY[name].stamp for name in settings.network_services} - {""}


def end_daemons(site: Path) -> None:
    """End the programs that killed agents of Neutron have left behind, at a site whose processes have ended.

    Args:
        site: the site's directory.
    """
    orphans.kill_orphans(site / "data" / layout.AGENTS)
    vpn_agent.end_daemons(site / "data" / vpn_agent.DIRECTORY)


def obstacles(names: Iterable[str], network: str) -> Iterator[tuple[str, Obstacle]]:
    """Return the network services that cannot work on this machine: the name of each, and its obstacle.

    Args:
        names: the network services that a site's YAML names.
        network: the site's data plane.
    """
    here = installed()
    for name in names:
        service = REGISTRY[name]
        missing = [distribution for distribution in service.distributions if distribution not in here]
        if missing:
            text = f"the Python package {missing[0]} is not installed"
            yield name, Obstacle(text, f"`pip install 'atoll[{EXTRA}]'`, or leave out `{name}`")
            continue
        implementation = service.implementations[network]
        obstacle = _missing_programs(implementation) or implementation.obstacle()
        if obstacle:
            yield name, obstacle


def _missing_programs(implementation: Implementation) -> Obstacle | None:
    missing = [program for program in implementation.programs if shutil.which(program) is None]
    packages = sorted({implementation.programs[program] for program in missing})
    return Obstacle(f"not installed: {', '.join(missing)}", f"apt-get install {' '.join(packages)}") if missing else None


def _joined(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return _unique(chain.from_iterable(lists))


def _unique(values: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(values))


__all__ = [
    "EXTRA",
    "REGISTRY",
    "Implementation",
    "NetworkService",
    "Obstacle",
    "agent_configuration",
    "agent_extensions",
    "called_by_agents",
    "configuration",
    "end_daemons",
    "extension_drivers",
    "implementations",
    "installed",
    "models",
    "obstacles",
    "plugins",
    "processes",
    "stamps",
    "templates",
]
