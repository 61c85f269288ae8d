"""The options of Neutron and of its agents that a site's network services need."""

from __future__ import annotations

from atoll.services.contract import Settings
from atoll.services.ini import Repeated, Sections
from atoll.services.neutron.network_services.registry import implementations, joined


def plugins(settings: Settings) -> tuple[str, ...]:
    """Return Neutron's names of the service plug-ins of a site."""
    return joined(implementation.plugins for implementation in implementations(settings))


def extension_drivers(settings: Settings) -> tuple[str, ...]:
    """Return the ML2 extension drivers that a site's network services need."""
    return joined(implementation.extension_drivers for implementation in implementations(settings))


def configuration(settings: Settings) -> list[Sections]:
    """Return the options of neutron.conf for a site's network services, besides the names of plug-ins."""
    providers = joined(implementation.providers for implementation in implementations(settings))
    said: list[Sections] = [implementation.configuration(settings) for implementation in implementations(settings)]
    return [*said, {"service_providers": {"service_provider": Repeated(providers)}}] if providers else said


def agent_extensions(settings: Settings, agent: str) -> tuple[str, ...]:
    """Return the extensions that a site's network services need in one of Neutron's agents.

    Args:
        settings: the site's settings.
        agent: the name of the agent.
    """
    return joined(implementation.extensions.get(agent, ()) for implementation in implementations(settings))


def agent_configuration(settings: Settings, agent: str) -> list[Sections]:
    """Return the options of an agent's file for a site's network services, besides the names of extensions."""
    return [implementation.agents[agent](settings) for implementation in implementations(settings) if agent in implementation.agents]


def called_by_agents(settings: Settings) -> bool:
    """Return whether a network service of the site has an agent that calls Neutron over the bus."""
    return any(implementation.rpc for implementation in implementations(settings))
