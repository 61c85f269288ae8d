"""Cloud, Site and ServicePlan: what a person writes down about a cloud.

A field's `description` ends the sentence "expected …": error messages are made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from atoll.cloud.backbones import resolve
from atoll.cloud.expansion import expand
from atoll.cloud.network import Network
from atoll.cloud.topology import Topology

BASE_PORT = 15000
"""Base port of the first site that names none; the next ones follow in steps of `PORT_STEP`."""

PORT_STEP = 10

PORT_OFFSETS = {"identity": 0, "image": 2, "compute": 4, "metadata": 5, "network": 6, "placement": 8}
"""A service's port is the site's base plus the last digit of the service's standard port (5000, 9292, 8774, …)."""

RESERVED_NAMES = frozenset({"all", "default", "defaults", "envvars", "supervisor", "template"})
"""Names that mean something else: entries of every clouds.yaml, pseudo sites of `atoll logs`."""

_NEEDS = {
    "placement": ("keystone",),
    "glance": ("keystone",),
    "neutron": ("keystone",),
    "nova": ("keystone", "placement", "glance", "neutron"),
}

Options = dict[str, dict[str, dict[str, Any]]]
"""By service, section and option: what a service's own configuration file is to say."""

Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]


class _Model(BaseModel):
    # Strict: YAML has types of its own, and "15000" or `no` in the wrong place is better refused than guessed at.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ServicePlan(_Model):
    """Which services a site runs.

    Attributes:
        keystone: Identity; every other service needs it.
        placement: Placement.
        glance: Image.
        neutron: Network.
        nova: Compute; needs all the others.
    """

    keystone: Literal[True] = Field(default=True, description="true (every site needs Keystone)")
    placement: bool = Field(default=True, description="true or false")
    glance: bool = Field(default=True, description="true or false")
    neutron: bool = Field(default=True, description="true or false")
    nova: bool = Field(default=True, description="true or false")

    @property
    def names(self) -> frozenset[str]:
        """The names of the services that run."""
        return frozenset(name for name in type(self).model_fields if getattr(self, name))

    @model_validator(mode="after")
    def _check_needs(self) -> ServicePlan:
        for name in sorted(self.names):
            missing = [need for need in _NEEDS.get(name, ()) if need not in self.names]
            if missing:
                raise PydanticCustomError(
                    "services_needed",
                    "{name} needs {missing}: expected `{name}: false` too, or {missing} switched on",
                    {"name": name, "missing": " and ".join(missing)},
                )
        return self


class Site(_Model):
    """One small OpenStack.

    Attributes:
        name: its name, unique in the cloud; also the name of its directory.
        port: base port; see `PORT_OFFSETS`. Default: the first free one of 15000, 15010, 15020, …
        host: IPv4 address of this machine to listen at.
        services: which services run.
        compute: the hypervisor. "fake" is Nova's fake driver: servers are records, no guest runs.
        network: the data plane. "fake" binds ports without any agent: nothing is plugged.
        bus: what carries oslo.messaging's calls. "local" stays within the process.
        debug: log at level DEBUG.
        options: more options for the services' own configuration files, by service, section and option; they win over Atoll's.
    """

    name: Name = Field(description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    port: int = Field(ge=1024, le=65520, description="an integer from 1024 to 65520")
    host: str = Field(default="127.0.0.1", description="an IPv4 address of this machine, such as 127.0.0.1")
    services: ServicePlan = Field(default_factory=ServicePlan, description="a mapping such as {nova: false}")
    compute: Literal["fake"] = Field(default="fake", description="`fake`, the only hypervisor for now")
    network: Literal["fake"] = Field(default="fake", description="`fake`, the only data plane for now")
    bus: Literal["local"] = Field(default="local", description="`local`, the only bus for now")
    debug: bool = Field(default=False, description="true or false")
    options: Options = Field(default_factory=dict, description="a mapping such as {nova: {DEFAULT: {cpu_allocation_ratio: 4}}}")

    @property
    def ports(self) -> dict[str, int]:
        """The TCP port of each API, by the API's name."""
        return {name: self.port + offset for name, offset in PORT_OFFSETS.items()}

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise PydanticCustomError("name_reserved", "the name {name} is reserved: expected another", {"name": name})
        return name

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if IPv4Address(host).is_unspecified:
            # Clients are told this address too (catalogue, clouds.yaml), and 0.0.0.0 leads nowhere.
            raise PydanticCustomError("host_unspecified", "expected one address that clients can connect to, got {host}", {"host": host})
        return host

    @field_validator("options", mode="before")
    @classmethod
    def _check_options(cls, options: object) -> object:
        for service, sections in _items(options, "services"):
            if service not in ServicePlan.model_fields:
                raise _options_error(f"no service is called {service}: expected one of {', '.join(ServicePlan.model_fields)}")
            for _section, pairs in _items(sections, "sections"):
                for name, value in _items(pairs, "options"):
                    if not all(map(_is_value, value if isinstance(value, list) else [value])):
                        raise _options_error(f"option {name}: expected a text, a number, true, false, or a list of these")
        return options


def _items(value: object, what: str) -> Iterable[tuple[Any, Any]]:
    if not isinstance(value, Mapping):
        raise _options_error(f"expected {what} by name, such as {{nova: {{DEFAULT: {{cpu_allocation_ratio: 4}}}}}}")
    return value.items()


def _is_value(value: object) -> bool:
    # One line: more would be read as other options.
    return isinstance(value, str | int | float) and "\n" not in str(value)


def _options_error(text: str) -> PydanticCustomError:
    return PydanticCustomError("options_invalid", "{text}", {"text": text})


class Cloud(_Model):
    """One cloud made of sites.

    Attributes:
        name: the cloud's name.
        sites: at least one.
        topology: the emulated network between the sites. Without it there is none: all sites are on the loopback interface.
    """

    name: Name = Field(default="atoll", description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    sites: tuple[Site, ...] = Field(strict=False, description="a list of at least one site, such as [{name: paris}]")
    topology: Topology | None = Field(default=None, description="a mapping such as {preset: mesh, defaults: {delay: 10ms}}")

    @classmethod
    def default(cls) -> Cloud:
        """The cloud of somebody who wrote none down: one site, "local"."""
        return cls.model_validate({"sites": [{"name": "local"}]})

    @property
    def site_names(self) -> tuple[str, ...]:
        """The names of the sites, in the order of the file."""
        return tuple(site.name for site in self.sites)

    @cached_property
    def network(self) -> Network | None:
        """The topology, expanded; None if there is none."""
        return None if self.topology is None else expand(self.site_names, self.topology)

    @model_validator(mode="before")
    @classmethod
    def _read_topology(cls, data: object, info: ValidationInfo) -> object:
        return resolve(data, Path((info.context or {}).get("directory", ".")))

    @model_validator(mode="after")
    def _check_topology(self) -> Cloud:
        _ = self.network
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill_ports(cls, data: object, info: ValidationInfo) -> object:
        if not isinstance(data, Mapping) or not isinstance(data.get("sites"), list):
            return data
        known = (info.context or {}).get("ports", {})
        return {**data, "sites": _with_ports(data["sites"], known)}

    @field_validator("sites")
    @classmethod
    def _check_unique(cls, sites: tuple[Site, ...]) -> tuple[Site, ...]:
        if not sites:  # not `min_length`: pydantic counts valid items only, and would complain twice
            text = "expected a list of at least one site, such as [{name: paris}]"
            raise PydanticCustomError("cloud_inconsistent", "{text}", {"text": text, "path": ("sites",)})
        names: dict[str, int] = {}
        listeners: dict[tuple[str, int], str] = {}
        for index, site in enumerate(sites):
            if site.name in names:
                raise _site_error(index, "name", f"a second site named {site.name}: expected another name")
            names[site.name] = index
            for port in site.ports.values():
                other = listeners.setdefault((site.host, port), site.name)
                if other != site.name:
                    text = f"port {port} of {site.name} is a port of {other} too: expected bases at least 10 apart"
                    raise _site_error(index, "port", text)
        return sites


def _site_error(index: int, field: str, text: str) -> PydanticCustomError:
    # `path` tells the reader of the error where it is, as a validator over all sites can't say so otherwise.
    return PydanticCustomError("cloud_inconsistent", "{text}", {"text": text, "path": ("sites", index, field)})


def _with_ports(sites: list[Any], known: Mapping[str, int]) -> list[Any]:
    """Give each site that names no port the one it had, or the first that overlaps no other's."""
    taken = [site["port"] for site in sites if isinstance(site, Mapping) and isinstance(site.get("port"), int)]
    names = {str(site.get("name")) for site in sites if isinstance(site, Mapping) and "port" not in site}
    taken += [port for name, port in known.items() if name in names]
    filled = []
    for index, site in enumerate(sites):
        if not isinstance(site, Mapping) or "port" in site:
            filled.append(site)
            continue
        port = known.get(str(site.get("name")))
        if port is None:
            port = BASE_PORT + PORT_STEP * index
            while any(abs(port - other) < PORT_STEP for other in taken):
                port += PORT_STEP
            taken.append(port)
        filled.append({**site, "port": port})
    return filled
