"""Optional service plug-ins of Neutron, each enabled by its name in the cloud's YAML (`network_services`).

Each is an instance of one dataclass, `NetworkService`, in a module of its own. The functions of this package collect, for the other
services of a site, the properties of its network services: of those that every site has, and of those that its YAML names.
"""

from __future__ import annotations

from atoll.services.neutron.network_services.agents import end_daemons, processes, templates
from atoll.services.neutron.network_services.contract import Implementation, NetworkService, Obstacle
from atoll.services.neutron.network_services.installation import EXTRA, installed, models, obstacles, stamps
from atoll.services.neutron.network_services.options import (
    agent_configuration,
    agent_extensions,
    called_by_agents,
    configuration,
    extension_drivers,
    plugins,
)
from atoll.services.neutron.network_services.registry import REGISTRY, implementations

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
