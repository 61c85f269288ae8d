"""The models Cloud, Site and ServicePlan, as the YAML describes them.

A field's `description` completes the sentence "expected …" in error messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from atoll.cloud.backbones import resolve
from atoll.cloud.databases import EXPECTED as EXPECTED_DATABASE
from atoll.cloud.databases import Database, complaints_of_databases, read_database
from atoll.cloud.discovery import Discovery, complaint_of_discovery
from atoll.cloud.expansion import expand
from atoll.cloud.guests import DATA_PLANES, complaints_of_guests
from atoll.cloud.network import Network, address_of, number_of
from atoll.cloud.network_services import LISTENING, NETWORKS, complaints_of_network_services, unknown
from atoll.cloud.shared_databases import complaints_of_shared, sharing
from atoll.cloud.topology import Topology
from atoll.cloud.tracing import Tracing
from atoll.cloud.trust import Homed, Trust, complaint_of_homed

BASE_PORT = 15000
"""Base port of the first site without `port`; further sites follow in steps of `PORT_STEP`."""

PORT_STEP = 10

PORT_OFFSETS = {
    "identity": 0, "gateway": 1, "image": 2, "peer": 3, "compute": 4, "metadata": 5, "network": 6, "mesh": 7, "placement": 8, "bus": 9,
}  # fmt: skip
"""Offsets from a site's base port: the last digit of the service's standard port (5000, 9292, 8774, …). The other offsets belong to the
gateway for clients, the gateway for other sites (`peer`), the mesh and the bus."""

STANDARD_PORTS = {
    "identity": 5000, "gateway": 8080, "image": 9292, "peer": 8443, "compute": 8774, "metadata": 8775, "network": 9696, "mesh": 7448,
    "placement": 8778, "bus": 7447,
}  # fmt: skip
"""The ports of a site that has an address of its own, as in a topology."""

RESERVED_NAMES = frozenset({"all", "default", "defaults", "envvars", "public", "supervisor", "template"})
"""Names that no site may have, because they have another meaning: entries of every clouds.yaml, logs of `atoll logs` that belong to no
site, and the file of a site's own token key."""

_NEEDS = {
    "placement": ("keystone",),
    "glance": ("keystone",),
    "neutron": ("keystone",),
    "nova": ("keystone", "placement", "glance", "neutron"),
}

_ONLY_OF_FULL = {
    "port": "nothing listens at a compute site",
    "services": "a compute site runs nova-compute alone",
    "network": "a compute site has its control site's",
    "network_services": "a compute site has its control site's",
    "bus": "a compute site has its control site's",
    "rabbit": "a compute site has its control site's",
    "database": "a compute site has its control site's",
    "durability": "a compute site has its control site's",
    "traffic": "a compute site has its control site's",
}
"""Fields that a compute site may not have, with the reasons."""

_HOST = r"(?:[^\s@:/,?#\[\]]+@)?(?:[^\s@:/,?#\[\]]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_RABBIT_URL = re.compile(rf"rabbit://{_HOST}(?:,{_HOST})*(?:/[^\s?#]*)?")

Options = dict[str, dict[str, dict[str, Any]]]
"""Values of options in the configuration files of services, by service, section and option."""

Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
MemoryKey = Annotated[str, Field(pattern=r"^(any|ed25519:[0-9a-f]{64}|p256:0[23][0-9a-f]{64})$")]


class _Model(BaseModel):
    # Strict, because YAML has types of its own, and refusing "15000" or `no` in the wrong place is better than guessing the meaning.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ServicePlan(_Model):
    """The services that a site runs.

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


class Rabbit(_Model):
    """An existing RabbitMQ server or cluster.

    Attributes:
        url: the server's URL in oslo.messaging's form, but without a password: `rabbit://USER@HOST:PORT,USER@HOST:PORT/VHOST`.
        password_file: absolute path of a file that contains only the password of all users in `url`. Each `atoll up` reads it. Only its
            owner may have access to it.
    """

    url: str = Field(description="a URL without a password, such as rabbit://openstack@10.0.0.1:5672/")
    password_file: str | None = Field(default=None, pattern="^/", description="the absolute path of a file, such as /etc/rabbit.password")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not _RABBIT_URL.fullmatch(url):
            # The message does not repeat the URL, which may contain a password.
            text = "expected a URL without a password, such as rabbit://openstack@10.0.0.1:5672/; the password belongs in `password_file`"
            raise PydanticCustomError("url_invalid", "{text}", {"text": text})
        return url


class Site(_Model):
    """One small OpenStack, or a part of one.

    Attributes:
        name: the site's name, unique in the cloud; also the name of its directory.
        kind: the site's kind. "full" is a complete OpenStack, "compute" is nova-compute alone, which uses the control plane of its control
            site.
        control: the full site whose control plane a compute site uses.
        port: base port; see `PORT_OFFSETS`. Default: the first free one of 15000, 15010, 15020, … Not allowed in a topology, where every
            site has an address of its own and uses the standard ports.
        host: IPv4 address of this machine to listen on. In a topology: the site's own address, 10.77.N.1; default: the first free one.
        services: the services that run.
        compute: the hypervisor. "libvirt" runs guests in QEMU, with KVM if that works. "fake" is Nova's fake driver: servers are records,
            and no guest runs. Default: "libvirt" if it is installed and the user may use it; see `cloud/hypervisor_defaults.py`.
        network: the data plane. "ovn" is Open vSwitch and OVN. "ovs" is Open vSwitch and Neutron's agents, for services that OVN lacks.
            "fake" binds ports without an agent, and connects no interface. Default: the first of these that works with `compute`.
        network_services: network services in addition to those that every site has; see docs/reference/network-services.md.
        bus: the transport of oslo.messaging. "zenoh" needs no broker. "rabbit" is a RabbitMQ, which `rabbit` describes.
        rabbit: the RabbitMQ of a site with `bus: rabbit`.
        database: the engine of the services' databases. "sqlite", the URL of a server, or a mapping; see docs/how-to/databases.md.
        durability: the changes that survive a loss of power. "full": all acknowledged changes. "relaxed": all except those of the last few
            seconds, which saves a flush of the disk at each change. The death of a process loses nothing in either case.
        traffic: the control traffic between services. "reduced": fewer requests and messages, by the patches marked in
            docs/reference/upstream.md. "stock": the traffic of upstream's own code, for comparisons.
        cloudlet_cache_gib: the largest size in GiB of the site's cache of bases and launch images, from which the least recently used
            images are deleted first. It is also the largest size of an image's disk. See docs/how-to/start-a-server-from-an-overlay.md.
        cloudlet_memory_keys: the names of keys whose overlays' memory the site resumes even if the overlay's image is not public, or if
            another site has `trust: local-admin`. "any" means all keys that a server's creator trusts. See docs/cloudlets.md.
        debug: whether services log at level DEBUG.
        options: more options for the services' own configuration files, by service, section and option; they override Atoll's.
    """

    name: Name = Field(description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    kind: Literal["full", "compute"] = Field(default="full", description="`full` or `compute`")
    control: str | None = Field(default=None, description="the name of a full site")
    # A compute site has port 0. A full site without a port gets one from `Cloud`.
    port: int = Field(default=0, ge=1024, le=65520, description="an integer from 1024 to 65520")
    host: str = Field(default="127.0.0.1", description="an IPv4 address of this machine, such as 127.0.0.1")
    services: ServicePlan = Field(default_factory=ServicePlan, description="a mapping such as {nova: false}")
    compute: Literal["libvirt", "fake"] | None = Field(default=None, description="`libvirt` or `fake`")
    network: Literal["ovn", "ovs", "fake"] | None = Field(default=None, description="`ovn`, `ovs` or `fake`")
    network_services: tuple[str, ...] = Field(default=(), strict=False, description="a list of network services, such as [firewall, bgp]")
    bus: Literal["zenoh", "rabbit"] = Field(default="zenoh", description="`zenoh` or `rabbit`")
    rabbit: Rabbit | None = Field(default=None, description="a mapping such as {url: rabbit://openstack@10.0.0.1:5672/}")
    database: Database = Field(default_factory=Database, description=EXPECTED_DATABASE)
    durability: Literal["full", "relaxed"] = Field(default="full", description="`full` or `relaxed`")
    traffic: Literal["reduced", "stock"] = Field(default="reduced", description="`reduced` or `stock`")
    cloudlet_cache_gib: int = Field(default=20, ge=1, le=16_384, description="an integer from 1 to 16384")
    cloudlet_memory_keys: tuple[MemoryKey, ...] = Field(default=(), strict=False, description="a list of names of keys, such as [any]")
    debug: bool = Field(default=False, description="true or false")
    options: Options = Field(default_factory=dict, description="a mapping such as {nova: {DEFAULT: {cpu_allocation_ratio: 4}}}")

    @property
    def ports(self) -> dict[str, int]:
        """The TCP port of each API and of the bus, by name; a compute site has none."""
        if self.kind == "compute":
            return {}
        if self.port:
            return {name: self.port + offset for name, offset in PORT_OFFSETS.items()}
        return STANDARD_PORTS | {name: port for name, port in LISTENING.items() if name in self.network_services}

    @property
    def runs_guests(self) -> bool:
        """True if the site's servers are real guests on real networks."""
        return self.compute == "libvirt"

    @property
    def data_plane(self) -> str:
        """The data plane of the site's guests: `network`; if it is not given, the default for `compute`."""
        return self.network or DATA_PLANES[self.compute or "fake"][0]

    @property
    def url(self) -> str:
        """The URL of Keystone, behind the site's gateway; only a full site has one."""
        return f"http://{self.host}:{self.ports['gateway']}/identity/v3"

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise PydanticCustomError("name_reserved", "the name {name} is reserved: expected another name", {"name": name})
        return name

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if IPv4Address(host).is_unspecified:
            # Clients use this address too (catalogue, clouds.yaml), and can't connect to 0.0.0.0.
            raise PydanticCustomError("host_unspecified", "expected one address that clients can connect to, got {host}", {"host": host})
        return host

    @field_validator("database", mode="before")
    @classmethod
    def _read_database(cls, database: object) -> object:
        return read_database(database)

    @field_validator("network_services", mode="before")
    @classmethod
    def _check_network_services(cls, names: object) -> object:
        if isinstance(names, list | tuple):
            for index, name in enumerate(names):
                if isinstance(name, str) and (name not in NETWORKS or name in names[:index]):
                    text = unknown(name) if name not in NETWORKS else f"{name} is in the list twice: expected it once"
                    raise PydanticCustomError("network_services_invalid", "{text}", {"text": text})
        return names

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
    # A text must be one line, because further lines would be read as other options.
    return isinstance(value, str | int | float) and "\n" not in str(value)


def _options_error(text: str) -> PydanticCustomError:
    return PydanticCustomError("options_invalid", "{text}", {"text": text})


class Cloud(_Model):
    """One cloud made of sites.

    Attributes:
        name: the cloud's name.
        sites: the sites of the cloud, at least one.
        topology: the emulated network between the sites. Without it, all sites are on the loopback interface.
        trust: how far the other sites trust each site; see docs/cloud.md. "full": the site may administer the cloud. "local-admin": tokens
            that the site issues to administrators, and its changes of identity, are valid only at the site itself, except in domains and
            projects that are homed at it.
        homed: domains and projects that only some sites may administer.
        lists: the answer to a list while a site is unreachable. "partial": the resources of the other sites, and the header
            `X-Atoll-Missing`. "strict": status 503, with the name of the site. A client may choose either; see docs/cloud.md.
        trace: how requests are recorded; see docs/how-to/traces.md.
        discovery: the access networks of sites, the role that may ask about any device, and announcements on local networks; see
            docs/edge-discovery.md.
    """

    name: Name = Field(default="atoll", description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    sites: tuple[Site, ...] = Field(strict=False, description="a list of at least one site, such as [{name: paris}]")
    topology: Topology | None = Field(default=None, description="a mapping such as {preset: mesh, defaults: {delay: 10ms}}")
    trust: Trust = Field(default_factory=dict, description="a mapping of sites to `full` or `local-admin`, such as {nice: local-admin}")
    homed: tuple[Homed, ...] = Field(default=(), strict=False, description="a list such as [{domain: 2f0c, sites: [paris]}]")
    lists: Literal["partial", "strict"] = Field(default="partial", description="`partial` or `strict`")
    trace: Tracing = Field(default_factory=Tracing, description="a mapping such as {sample: 0.01, endpoint: http://127.0.0.1:4318}")
    discovery: Discovery = Field(default_factory=Discovery, description="a mapping such as {serves: {paris: [10.1.0.0/16]}}")

    @classmethod
    def default(cls) -> Cloud:
        """Return the cloud for a start without a YAML file: one site, "local"."""
        return cls.model_validate({"sites": [{"name": "local"}]})

    @property
    def site_names(self) -> tuple[str, ...]:
        """The names of the sites, in the order of the file."""
        return tuple(site.name for site in self.sites)

    @property
    def full_sites(self) -> tuple[Site, ...]:
        """The sites that have a control plane, in the order of the file."""
        return tuple(site for site in self.sites if site.kind == "full")

    def control_of(self, site: Site) -> Site:
        """Return the site whose control plane a site uses; a full site uses its own."""
        return next(other for other in self.sites if other.name == (site.control or site.name))

    def computes_of(self, name: str) -> tuple[Site, ...]:
        """Return the compute sites of a full site."""
        return tuple(site for site in self.sites if site.control == name)

    def sharing(self, name: str) -> tuple[Site, ...]:
        """Return the sites that share a database with a full site, the owner first; empty if it shares with no other."""
        return sharing(self.sites, name)

    @cached_property
    def network(self) -> Network | None:
        """The expanded topology; `None` if the cloud has no topology."""
        if self.topology is None:
            return None
        network = expand(self.site_names, self.topology)
        addresses = {site.name: site.host for site in self.sites}
        return Network(tuple(replace(node, address=addresses.get(node.name)) for node in network.nodes), network.wires)

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
        known = (info.context or {}).get("known", {})
        fill = _with_ports if data.get("topology") is None else _with_addresses
        return {**data, "sites": fill(data["sites"], known)}

    @field_validator("sites")
    @classmethod
    def _check_unique(cls, sites: tuple[Site, ...]) -> tuple[Site, ...]:
        if not sites:  # not `min_length`: pydantic counts only valid items, and would report a second error
            text = "expected a list of at least one site, such as [{name: paris}]"
            raise PydanticCustomError("cloud_inconsistent", "{text}", {"text": text, "path": ("sites",)})
        names: dict[str, int] = {}
        listeners: dict[tuple[str, int], str] = {}
        for index, site in enumerate(sites):
            if site.name in names:
                raise _site_error(index, "name", f"a second site named {site.name}: expected another name")
            names[site.name] = index
            for port in site.ports.values():
                # Internal APIs listen on the loopback interface, which sites without networks of their own share, whatever their addresses.
                other = listeners.setdefault(("" if site.port else site.host, port), site.name)
                if other != site.name and not site.port:
                    raise _site_error(index, "host", f"a second site at {site.host}: expected another address")
                if other != site.name:
                    text = f"port {port} of {site.name} is a port of {other} too: expected base ports at least 10 apart"
                    raise _site_error(index, "port", text)
        return sites

    @field_validator("homed")
    @classmethod
    def _check_homed(cls, homed: tuple[Homed, ...]) -> tuple[Homed, ...]:
        if complaint := complaint_of_homed(homed):
            raise PydanticCustomError("homed_invalid", "{text}", {"text": complaint[1], "path": ("homed", complaint[0])})
        return homed

    @model_validator(mode="after")
    def _check_guests(self) -> Cloud:
        for index, text in complaints_of_guests(self.sites, emulated=self.topology is not None):
            raise _site_error(index, "compute", text)
        for index, text in complaints_of_network_services(self.sites, emulated=self.topology is not None):
            raise _site_error(index, "network_services", text)
        for index, text in complaints_of_databases(self.name, self.sites, emulated=self.topology is not None):
            raise _site_error(index, "database", text)
        for index, field, text in complaints_of_shared(self.sites, self.trust, self.homed):
            raise _site_error(index, field, text)
        return self

    @model_validator(mode="after")
    def _check_discovery(self) -> Cloud:
        if found := complaint_of_discovery(self.discovery, [site.name for site in self.sites if site.kind == "compute"]):
            raise PydanticCustomError("cloud_inconsistent", "{text}", {"text": found[1], "path": ("discovery", found[0])})
        return self

    @model_validator(mode="after")
    def _check_addresses(self) -> Cloud:
        for index, site in enumerate(self.sites if self.topology is not None else ()):
            if site.port:
                text = "in a topology, every site has an address of its own and uses the standard ports: expected no `port`"
                raise _site_error(index, "port", text)
            if number_of(site.host) is None:
                raise _site_error(index, "host", f"expected an address of the form 10.77.N.1 in a topology, got {site.host}")
            if site.host in {other.host for other in self.sites[:index]}:
                raise _site_error(index, "host", f"a second site at {site.host}: expected another address")
        return self

    @field_validator("sites")
    @classmethod
    def _check_kinds(cls, sites: tuple[Site, ...]) -> tuple[Site, ...]:
        full = {site.name: site for site in sites if site.kind == "full"}
        for index, site in enumerate(sites):
            check = _complaints_of_full if site.kind == "full" else _complaints_of_compute
            for field, text in check(site, full):
                raise _site_error(index, field, text)
        return sites


def _complaints_of_full(site: Site, _full: Mapping[str, Site]) -> Iterator[tuple[str, str]]:
    """Yield the errors in a full site, each as a field and the message."""
    if site.control is not None:
        yield "control", f"{site.name} is a full site and its own control site: expected no `control`, or `kind: compute`"
    if site.bus == "rabbit" and site.rabbit is None:
        yield "bus", "`bus: rabbit` needs a `rabbit` beside it: expected a mapping such as {url: rabbit://openstack@10.0.0.1:5672/}"
    if site.rabbit and site.rabbit.password_file and "@" not in site.rabbit.url:
        yield "rabbit", "`password_file` is given: expected a `url` with the user whose password it holds"
    if site.bus != "rabbit" and site.rabbit is not None:
        yield "rabbit", "`rabbit` has no effect without `bus: rabbit`: expected both or neither"


def _complaints_of_compute(site: Site, full: Mapping[str, Site]) -> Iterator[tuple[str, str]]:
    """Yield the errors in a compute site, each as a field and the message."""
    expected = f"expected one of {', '.join(full)}" if full else "expected a full site in this cloud"
    if site.control is None:
        yield "kind", f"{site.name} is a compute site: expected `control` beside it, the name of a full site"
    elif site.control not in full:
        yield "control", f"no full site is called {site.control}: {expected}"
    elif not full[site.control].services.nova:
        yield "control", f"{site.control} runs no Nova: expected a full site with all services"
    for field, why in _ONLY_OF_FULL.items():
        if field in site.model_fields_set:
            yield field, f"{why}: expected no `{field}`"
    if site.options.keys() - {"nova"}:
        yield "options", f"{_ONLY_OF_FULL['services']}: expected options of nova"


def _site_error(index: int, field: str, text: str) -> PydanticCustomError:
    # A validator of all sites can name the place of the error only by the key `path` of the error's context.
    return PydanticCustomError("cloud_inconsistent", "{text}", {"text": text, "path": ("sites", index, field)})


def _with_addresses(sites: list[Any], known: Mapping[str, Site]) -> list[Any]:
    """Return the sites with addresses; a site without an address gets its previous one or the first free one."""
    had = {name: site.host for name, site in known.items() if number_of(site.host) is not None}
    taken = {str(site["host"]) for site in sites if isinstance(site, Mapping) and "host" in site} | set(had.values())
    free = (address for number in range(256) if (address := str(address_of(number))) not in taken)
    filled = []
    for site in sites:
        if isinstance(site, Mapping) and "host" not in site:
            host = had.get(str(site.get("name"))) or next(free, "")
            filled.append({**site, "host": host})
        else:
            filled.append(site)
    return filled


def _with_ports(sites: list[Any], known: Mapping[str, Site]) -> list[Any]:
    """Return the sites with base ports; a full site without one gets its previous one, or the first that overlaps with no other site's."""
    taken = [site["port"] for site in sites if isinstance(site, Mapping) and isinstance(site.get("port"), int)]
    names = {str(site.get("name")) for site in sites if isinstance(site, Mapping) and "port" not in site}
    had = {name: site.port for name, site in known.items() if site.port}
    taken += [port for name, port in had.items() if name in names]
    filled = []
    for index, site in enumerate(sites):
        if not isinstance(site, Mapping) or "port" in site or site.get("kind") == "compute":
            filled.append(site)
            continue
        port = had.get(str(site.get("name")))
        if port is None:
            port = BASE_PORT + PORT_STEP * index
            while any(abs(port - other) < PORT_STEP for other in taken):
                port += PORT_STEP
            taken.append(port)
        filled.append({**site, "port": port})
    return filled
