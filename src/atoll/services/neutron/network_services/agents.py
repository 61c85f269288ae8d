"""The processes of network services, and the programs that killed ones leave behind."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from atoll.services.contract import Service
from atoll.services.neutron import orphans
from atoll.services.neutron.network_services import vpn_agent
from atoll.services.neutron.network_services.registry import REGISTRY, implementations_of, unique
from atoll.services.neutron.ovn import layout


def processes(names: Iterable[str], network: str) -> tuple[Service, ...]:
    """Return the processes of network services.

    Args:
        names: the network services that the site's YAML names.
        network: the site's data plane.
    """
    return unique(chain.from_iterable(implementation.processes for implementation in implementations_of(names, network)))


def templates() -> tuple[str, ...]:
    """Return the names of the processes of network services that have templates of their own."""
    implementations = chain.from_iterable(service.implementations.values() for service in REGISTRY.values())
    return unique(
        process.name
        for implementation in implementations
        for process in implementation.processes
        if process.upstream and not process.forked_from
    )


def end_daemons(site: Path) -> None:
    """End the programs that killed agents of Neutron have left behind, at a site whose processes have ended.

    Args:
        site: the site's directory.
    """
    orphans.kill_orphans(site / "data" / layout.AGENTS)
    vpn_agent.end_daemons(site / "data" / vpn_agent.DIRECTORY)
