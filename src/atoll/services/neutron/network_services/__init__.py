"""Optional service plug-ins of Neutron, each enabled by its name in the cloud's YAML (`network_services`).

Each is an instance of one dataclass, `NetworkService`, in a module of its own. The functions here collect what a site's services need to
know about the network services of the site: those that every site has, and those that its YAML names.
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
from atoll.services.neutron.network_services.contract import NetworkService, Obstacle, Way
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


def ways(settings: Settings) -> list[Way]:
    """Return the implementations of a site's network services on the site's data plane."""
    return _ways(settings.network_services, settings.network)


def _ways(names: Iterable[str], network: str) -> list[Way]:
    named = set(names)
    has = (each for each in REGISTRY.values() if each.name in named or network in each.default)
    return [each.ways[network] for each in has if network in each.ways]


def plugins(settings: Settings) -> tuple[str, ...]:
    """Return Neutron's names of the service plug-ins of a site."""
    return _joined(way.plugins for way in ways(settings))


def extension_drivers(settings: Settings) -> tuple[str, ...]:
    """Return the ML2 extension drivers that a site's network services need."""
    return _joined(way.extension_drivers for way in ways(settings))


def configuration(settings: Settings) -> list[Sections]:
    """Return the options of neutron.conf for a site's network services, besides the names of plug-ins."""
    providers = _joined(way.providers for way in ways(settings))
    said: list[Sections] = [way.configuration(settings) for way in ways(settings)]
    return [*said, {"service_providers": {"service_provider": Repeated(providers)}}] if providers else said


def agent_extensions(settings: Settings, agent: str) -> tuple[str, ...]:
    """Return the extensions that a site's network services need in one of Neutron's agents.

    Args:
        settings: the site's settings.
        agent: the name of the agent.
    """
    return _joined(way.extensions.get(agent, ()) for way in ways(settings))


def agent_configuration(settings: Settings, agent: str) -> list[Sections]:
    """Return the options of an agent's file for a site's network services, besides the names of extensions."""
    return [way.agents[agent](settings) for way in ways(settings) if agent in way.agents]


def called_by_agents(settings: Settings) -> bool:
    """Return whether a network service of the site has an agent that calls Neutron over the bus."""
    return any(way.rpc for way in ways(settings))


def processes(names: Iterable[str], network: str) -> tuple[Service, ...]:
    """Return the processes of network services.

    Args:
        names: the network services that the site's YAML names.
        network: the site's data plane.
    """
    return _unique(chain.from_iterable(way.processes for way in _ways(names, network)))


def templates() -> tuple[str, ...]:
    """Return the names of the processes of network services that have templates of their own."""
    ways = chain.from_iterable(service.ways.values() for service in REGISTRY.values())
    return _unique(process.name for way in ways for process in way.processes if process.upstream and not process.forked_from)


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
        way = service.ways[network]
        obstacle = _missing_programs(way) or way.obstacle()
        if obstacle:
            yield name, obstacle


def _missing_programs(way: Way) -> Obstacle | None:
    missing = [program for program in way.programs if shutil.which(program) is None]
    packages = sorted({way.programs[program] for program in missing})
    return Obstacle(f"not installed: {', '.join(missing)}", f"apt-get install {' '.join(packages)}") if missing else None


def _joined(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return _unique(chain.from_iterable(lists))


def _unique(values: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(values))


__all__ = [
    "EXTRA",
    "REGISTRY",
    "NetworkService",
    "Obstacle",
    "Way",
    "agent_configuration",
    "agent_extensions",
    "called_by_agents",
    "configuration",
    "end_daemons",
    "extension_drivers",
    "installed",
    "models",
    "obstacles",
    "plugins",
    "processes",
    "stamps",
    "templates",
    "ways",
]
