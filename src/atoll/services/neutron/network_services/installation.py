"""The packages and programs that network services need on this machine, and the tables that their packages define."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from atoll.services.contract import Settings
from atoll.services.neutron.network_services.contract import Implementation, Obstacle
from atoll.services.neutron.network_services.registry import REGISTRY, joined

EXTRA = "network"
"""The extra of this project that installs the packages of network services."""


def installed() -> dict[str, str]:
    """Return the versions of the installed packages of network services, by name."""
    found = {}
    for distribution in sorted(joined(service.distributions for service in REGISTRY.values())):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def models() -> tuple[str, ...]:
    """Return the modules that define the tables of all installed network services."""
    here = installed()
    return joined(service.models for service in REGISTRY.values() if here.keys() >= set(service.distributions))


def stamps(settings: Settings) -> set[str]:
    """Return the `stamp` tables of a site's network services. If such a table is absent in the database, the service has no tables yet."""
    return {REGISTRY[name].stamp for name in settings.network_services} - {""}


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
