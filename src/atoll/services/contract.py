"""The interface between a service and the rest of Atoll, and the settings that a service gets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from atoll.db.address import address
from atoll.files import write_private
from atoll.services import database_urls

SETTINGS_FILE = "settings.json"

LOOPBACK = "127.0.0.1"

DATABASE_SERVERS = (database_urls.REDIS, database_urls.POSTGRESQL, database_urls.MARIADB)
"""The services that run the server of a site's databases; a site has at most one."""

OPEN_ENDPOINTS = frozenset({"gateway", "peer", "mesh", "bus"})
"""Endpoints that clients or other sites connect to; only the site's own processes connect to all others."""


@dataclass(frozen=True)
class Settings:
    """The settings of one site's services.

    Attributes:
        site: the site's name, which is also Nova's host name; in a full site, the availability zone too.
        directory: the site's own directory; `etc`, `data` and `log` are below it.
        templates: the directory of the template databases made by this version.
        host: the address at which other sites and clients reach the control plane; for a compute site, the address of its control site.
        ports: TCP port by endpoint: identity, image, compute, metadata, network, placement; and `gateway`, `peer`, `mesh`, `bus`.
        secrets: passwords by user (admin, nova, neutron, glance, placement, gateway), and the secret `metadata`; a compute site has only
            those that it needs.
        region: the region in the catalogue.
        debug: True to log at debug level.
        transport_url: the URL of the message bus, for oslo.messaging; it may contain a password.
        control: the site whose control plane this site uses; empty if it has its own.
        address: the address of this site itself; empty if it is `host`.
        cloud: the cloud's name.
        hypervisor: the hypervisor: `kvm`, `qemu` (without KVM), or `fake`.
        network: the data plane: `ovn`, `ovs` or `fake`.
        datapath: the data path of Open vSwitch: `system` (the kernel's) or `netdev` (in user space).
        two_zones: True if OVN does source and destination NAT in two conntrack zones; see `atoll.services.neutron.ovn.translation`.
        outside: the site's address and prefix on its external network, from which floating IPs are allocated; empty if it has none.
        forwards: True if the site forwards packets between that network and its other networks.
        network_services: the network services that the site's YAML names.
        trust: the value `local-admin` for each site whose trust is limited, by the site's name.
        homed: by `domain/ID` or `project/ID`, the sites that administer the domain or project.
        lists: `partial` or `strict`: whether a list that lacks a site is answered or refused.
        discovery: the access networks of sites, and the role that may ask about any device (`Discovery.options`).
        announce: the interface or network at which the site's gateway is announced by DNS-SD; empty for none.
        realm: for a compute site, its number on the bus of its control site (`atoll.bus.realms`).
        engine: the engine of the services' databases: `sqlite`, `redis`, `mariadb` or `postgresql`; see `database`.
        server: the URL of the server of that engine, with its password; empty for SQLite, and for a server that the site starts.
        shares: the site whose databases this site shares; empty if its databases are its own. `server` is then that site's.
        sharing: the sites that share the databases, the owner first, each with the address of its bus's router; empty if no two do.
        groups: the site that owns the databases, for each site of the cloud that shares them with others.
        database_users: the users of the other sites at the Redis that this site starts for them, each with the SHA-256 of its password.
        database_port: the TLS port of that Redis, 0 for none.
        durability: `full` or `relaxed`: whether acknowledged changes survive a loss of power, or only the death of a process.
        traffic: `reduced`, or `stock`: without the patches that reduce control traffic (`Patch.traffic`).
        cloudlet_cache_gib: largest size in GiB of the cache of bases and launch images.
        cloudlet_memory_keys: names of keys whose memory guests resume even from images that are not public; `any` means all keys.
        trace: how requests are recorded: `sample`, `size_mb`, `endpoint` (`atoll.trace.process.start`); empty if they are not.
    """

    site: str
    directory: Path
    templates: Path
    host: str
    ports: Mapping[str, int]
    secrets: Mapping[str, str] = field(repr=False)
    region: str = "RegionOne"
    debug: bool = False
    transport_url: str = field(default="zenoh:///", repr=False)
    control: str = ""
    address: str = ""
    cloud: str = "atoll"
    hypervisor: str = "fake"
    network: str = "fake"
    datapath: str = "netdev"
    two_zones: bool = False
    outside: str = ""
    forwards: bool = False
    network_services: tuple[str, ...] = ()
    trust: Mapping[str, str] = field(default_factory=dict)
    homed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lists: str = "partial"
    discovery: Mapping[str, Any] = field(default_factory=dict)
    announce: str = ""
    realm: int = 0
    engine: str = database_urls.SQLITE
    server: str = field(default="", repr=False)
    shares: str = ""
    sharing: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    database_users: Mapping[str, str] = field(default_factory=dict)
    database_port: int = 0
    durability: str = "full"
    traffic: str = "reduced"
    cloudlet_cache_gib: int = 20
    cloudlet_memory_keys: tuple[str, ...] = ()
    trace: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own_address(self) -> str:
        """Address of this site itself."""
        return self.address or self.host

    @property
    def sockets(self) -> Path:
        """Directory of the Unix sockets of the site's processes; their paths must be short."""
        return self.directory / "run"

    @property
    def tls(self) -> Path:
        """Directory of the site's certificate: `ca.pem`, `cert.pem`, `key.pem`."""
        return self.directory / "tls"

    @property
    def etc(self) -> Path:
        """Directory of the rendered configuration."""
        return self.directory / "etc"

    @property
    def data(self) -> Path:
        """Directory of databases, images and keys."""
        return self.directory / "data"

    def listens_at(self, endpoint: str) -> str:
        """Return the address at which a process of the site listens.

        Internal APIs listen at the loopback address of the site's network alone: neither guests nor other sites reach that address.

        Args:
            endpoint: a key of `ports`.
        """
        return self.host if endpoint in OPEN_ENDPOINTS else LOOPBACK

    def url(self, endpoint: str, path: str = "") -> str:
        """Return the URL of one of the site's APIs, for the site's own processes.

        A compute site reaches the internal APIs of its control site through the peer port of the control site's gateway, with its own
        certificate.

        Args:
            endpoint: a key of `ports`.
            path: appended, with its own leading slash.
        """
        if self.control and endpoint not in OPEN_ENDPOINTS:
            return f"https://{self.host}:{self.ports['peer']}/{endpoint}{path}"
        return f"http://{self.listens_at(endpoint)}:{self.ports[endpoint]}{path}"

    def public_url(self, endpoint: str, path: str = "") -> str:
        """Return the URL of an API as clients see it: the URL at the gateway, which answers for the whole cloud.

        Args:
            endpoint: identity, image, compute, network or placement.
            path: appended, with its own leading slash.
        """
        return self.url("gateway", f"/{endpoint}{path}")

    @property
    def gateway_url(self) -> str:
        """URL of the gateway for the site's own processes: the peer port of the control site's gateway, for a compute site."""
        return f"https://{self.host}:{self.ports['peer']}" if self.control else self.url("gateway")

    @property
    def durable(self) -> bool:
        """True if acknowledged changes survive a loss of power."""
        return self.durability == "full"

    @property
    def reduces_traffic(self) -> bool:
        """True if the patches that reduce control traffic are installed."""
        return self.traffic == "reduced"

    def engine_of(self, name: str) -> str:
        """Return the engine of the site's database `name`; the load balancer's is always SQLite, and so is a sharing site's own Glance."""
        own = name == "octavia" or (self.shares and name == database_urls.GLANCE)
        return database_urls.SQLITE if own else self.engine

    @property
    def owner(self) -> database_urls.DatabaseOwner:
        """The site that the databases and the accounts of the services belong to: this site, or the one whose databases it shares."""
        return database_urls.DatabaseOwner(self.cloud, self.shares or self.site)

    def is_shared(self, name: str) -> bool:
        """Return whether other sites use the database `name` too."""
        return bool(self.sharing) and name in database_urls.SHARED

    @property
    def place(self) -> str:
        """Name of the place of the site's databases: the engine, with the address of an existing server, or the site that has them."""
        if self.shares:
            return f"of@{self.shares}"
        return f"{self.engine}@{quote(address(self.server), safe=':')}" if self.server else self.engine

    @property
    def replicas(self) -> Path:
        """Directory of the replicas of databases on Redis; each place has its own, since a replica belongs to one log."""
        return self.data / "replicas" / self.place

    def database_file(self, name: str) -> Path:
        """Return the file of the site's database `name`: the database itself with SQLite, the site's replica of it with Redis."""
        if self.engine_of(name) != database_urls.REDIS:
            return self.data / f"{name}.db"
        return self.replicas / f"{self.owner.log_name(name) if self.is_shared(name) else name}.db"

    @property
    def database_server(self) -> str:
        """URL of the server of the site's databases, with its password: the configured one, or the one that the site starts."""
        return self.server or database_urls.own_server(self.engine, self.sockets, self.secrets["database"])

    def database(self, name: str) -> str:
        """Return the SQLAlchemy URL of the site's database `name`; it may contain a password."""
        engine, file = self.engine_of(name), self.database_file(name)
        if engine == database_urls.SQLITE:
            return f"sqlite:///{file}?plugin=atoll" + ("" if self.durable else f"&durability={self.durability}")
        if self.is_shared(name):
            url = database_urls.of_shared_store(self.database_server, file.parent, self.owner, name, self.site)
            return url + ("" if self.durable else f"&durability={self.durability}")
        if engine == database_urls.REDIS:
            return database_urls.of_store(self.database_server, file, self.owner, name, durable=self.durable)
        return database_urls.of_server(self.database_server, self.owner.database_name(name, engine))

    def save(self) -> None:
        """Write the settings to `directory` atomically, readable by their owner alone."""
        fields = asdict(self) | {"directory": str(self.directory), "templates": str(self.templates)}
        write_private(self.directory / SETTINGS_FILE, json.dumps(fields, indent=2))

    @classmethod
    def load(cls, directory: Path | str) -> Settings:
        """Read the settings that `save` wrote.

        Raises:
            OSError: the file cannot be read.
        """
        fields = json.loads((Path(directory) / SETTINGS_FILE).read_text(encoding="utf-8"))
        paths = {name: Path(fields[name]) for name in ("directory", "templates")}
        lists = {name: tuple(fields.get(name, ())) for name in ("network_services", "cloudlet_memory_keys")}
        return cls(**(fields | paths | lists))


@dataclass(frozen=True)
class Service:
    """A service of a site, run as one process.

    Attributes:
        name: the service's name; its process is called `<site>/<name>`.
        module: the module with `preload()`, `template(child)` and `run(child)`.
        configuration: renders the files below `Settings.etc`: their text by relative path.
        listens: the endpoints whose listening sockets the process gets, in this order.
        needs: services of the same site that must be ready first; for a compute site, services of its control site.
        forked_from: the name of another service, whose fork server and `options` this one uses; it then has no databases of its own.
        opens: the endpoints that the process opens by itself.
        upstream: True for a service of OpenStack, whose fork server is forked from the common one, and which has a template.
    """

    name: str
    module: str
    configuration: Callable[[Settings], dict[str, str]]
    listens: tuple[str, ...]
    needs: tuple[str, ...] = ()
    forked_from: str = ""
    opens: tuple[str, ...] = ()
    upstream: bool = True

    @property
    def fork_server(self) -> str:
        """Name of the fork server that the process is forked from."""
        return self.forked_from or self.name

    @property
    def preload(self) -> str:
        """Entry point that a fork server calls before its first fork."""
        return f"{self.module}:preload"

    @property
    def run(self) -> str:
        """Entry point of the service's process."""
        return f"{self.module}:run"

    @property
    def template(self) -> str:
        """Entry point of the job that makes the template databases."""
        return f"{self.module}:template"
