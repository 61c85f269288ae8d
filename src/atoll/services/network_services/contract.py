"""What a network service is: a plug-in of Neutron's that a site may have besides, by the name that the cloud's YAML calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atoll.services.contract import Service, Settings
from atoll.services.ini import Sections

Rendered = Callable[[Settings], Sections]


def nothing(_settings: Settings) -> Sections:
    """No sections."""
    return {}


@dataclass(frozen=True)
class Obstacle:
    """What keeps a network service from working on this machine.

    Attributes:
        text: what is missing, in half a sentence: "ipsec is not installed".
        hint: what to do about it.
    """

    text: str
    hint: str | None = None


def none() -> Obstacle | None:
    """No obstacle."""
    return None


@dataclass(frozen=True)
class Way:
    """How a network service works on one data plane.

    Attributes:
        plugins: Neutron's names for its service plug-ins.
        providers: values of Neutron's `service_provider`, one for each of its kinds.
        extension_drivers: of ML2, besides those that every site has.
        configuration: sections of neutron.conf.
        extensions: the extensions that it needs in Neutron's agents, by the name of the agent: "ovn-agent", "ovs-agent", …
        agents: sections of an agent's own file, by the name of the agent. The one beside OVN has none: it reads neutron.conf.
        processes: what runs besides.
        rpc: True if an agent calls Neutron over the bus.
        programs: what must be installed: the Debian package of each program.
        obstacle: looks for anything else that keeps it from working here.
    """

    plugins: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    extension_drivers: tuple[str, ...] = ()
    configuration: Rendered = nothing
    extensions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    agents: Mapping[str, Rendered] = field(default_factory=dict)
    processes: tuple[Service, ...] = ()
    rpc: bool = False
    programs: Mapping[str, str] = field(default_factory=dict)
    obstacle: Callable[[], Obstacle | None] = none


@dataclass(frozen=True)
class NetworkService:
    """A network service.

    Attributes:
        name: what the cloud's YAML calls it.
        summary: what it is for.
        ways: how it works, by data plane; on others it does not work.
        default: the data planes on which every site has it.
        distributions: the packages on PyPI that must be installed; none if it comes with Neutron.
        models: the modules that make its tables in Neutron's database known.
        stamp: the table in which its migrations note the version of the others; as long as it is not there, none of them is.
    """

    name: str
    summary: str
    ways: Mapping[str, Way]
    default: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    stamp: str = ""
