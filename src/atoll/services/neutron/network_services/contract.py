"""The definition of a network service: an optional plug-in of Neutron, with the name that the cloud's YAML gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections

Rendered = Callable[[Settings], Sections]


def no_sections(_settings: Settings) -> Sections:
    """Return no sections of configuration."""
    return {}


@dataclass(frozen=True)
class Obstacle:
    """The reason why a network service cannot work on this machine.

    Attributes:
        text: a clause that names the missing requirement: "ipsec is not installed".
        hint: the remedy; `None` if there is none.
    """

    text: str
    hint: str | None = None


def no_obstacle() -> Obstacle | None:
    """Return `None`, for a service that has no requirements besides its programs."""
    return None


@dataclass(frozen=True)
class Implementation:
    """The implementation of a network service on one data plane.

    Attributes:
        plugins: Neutron's names of its service plug-ins.
        providers: values of Neutron's `service_provider`, one for each kind of provider.
        extension_drivers: ML2's extension drivers, besides those that every site has.
        configuration: sections of neutron.conf.
        extensions: the extensions that it needs in Neutron's agents, by the name of the agent: "ovn-agent", "ovs-agent", …
        agents: sections of an agent's own file, by the name of the agent; the agent beside OVN has no file, and reads neutron.conf.
        processes: the service's processes.
        rpc: True if an agent calls Neutron over the bus.
        programs: the programs that the service needs, each with its Debian package.
        obstacle: returns any other reason why the service cannot work on this machine.
    """

    plugins: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    extension_drivers: tuple[str, ...] = ()
    configuration: Rendered = no_sections
    extensions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    agents: Mapping[str, Rendered] = field(default_factory=dict)
    processes: tuple[Service, ...] = ()
    rpc: bool = False
    programs: Mapping[str, str] = field(default_factory=dict)
    obstacle: Callable[[], Obstacle | None] = no_obstacle


@dataclass(frozen=True)
class NetworkService:
    """A network service that a site may have.

    Attributes:
        name: the service's name in the cloud's YAML.
        summary: the service's purpose.
        implementations: the service's implementations by data plane; on a data plane that is not a key, the service does not work.
        default: the data planes on which every site has the service.
        distributions: the service's packages on PyPI; none if it comes with Neutron.
        models: the modules that define its tables in Neutron's database.
        stamp: the table in which the service's migrations record their version; if it is absent, the service has no tables yet.
    """

    name: str
    summary: str
    implementations: Mapping[str, Implementation]
    default: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    stamp: str = ""
