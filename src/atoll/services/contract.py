"""What a service is to the rest of Atoll, and what it is told about its site."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from atoll.files import write_private

SETTINGS_FILE = "settings.json"

LOOPBACK = "127.0.0.1"

OPEN_ENDPOINTS = frozenset({"gateway", "peer", "mesh", "bus"})
"""Endpoints that clients or other sites reach; all others are the site's own processes' alone."""


@dataclass(frozen=True)
class Settings:
    """All that the services of one site are told.

    Attributes:
        site: the site's name; Nova's host name carries it, and in a full site the availability zone.
        directory: the site's own directory; `etc`, `data` and `log` are below it.
        templates: the directory of the template databases made by this version.
        host: the address at which other sites and clients reach the control plane; that of a compute site is its control site's.
        ports: TCP port by endpoint: identity, image, compute, metadata, network, placement; and `gateway`, `peer`, `mesh`, `bus`.
        secrets: password by user (admin, nova, neutron, glance, placement, gateway), and `metadata`; a compute site has only what it needs.
        region: the region in the catalogue.
        debug: log at debug level.
        transport_url: of the message bus, for oslo.messaging; it may hold a password.
        control: the site whose control plane this one uses, if that is another.
        address: of this site itself; empty if it is `host`.
        cloud: the cloud's name.
        hypervisor: what runs guests: `kvm`, `qemu` (without KVM), or `fake`.
        network: what carries their packets: `ovn`, `ovs` or `fake`.
        datapath: of the switch: `system` (the kernel's) or `netdev` (its own, in user space).
        two_zones: True if OVN translates sources and destinations in two zones; see `atoll.services.ovn.translation`.
        outside: the site's address on its external network, with the prefix: floating IPs are beside it. Empty: none.
        forwards: True if the site forwards packets between that network and the others that it is in.
        network_services: the network services that the site's YAML names.
        trust: `local-admin` by the sites that are trusted no further.
        homed: by `domain/ID` and `project/ID`, the sites that administer it.
        lists: `partial` or `strict`: whether a list that lacks a site is answered or refused.
        realm: of a compute site: its number on the bus of its control site (`atoll.bus.realms`).
        durability: `full` or `relaxed`: whether what was acknowledged survives a loss of power, or only the death of a process.
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
    realm: int = 0
    durability: str = "full"

    @property
    def own_address(self) -> str:
        """The address of this site itself."""
        return self.address or self.host

    @property
    def sockets(self) -> Path:
        """Where the site's processes find one another: the directory of the bus's Unix sockets, whose paths must be short."""
        return self.directory / "run"

    @property
    def tls(self) -> Path:
        """Where the site's certificate is: `ca.pem`, `cert.pem`, `key.pem`."""
        return self.directory / "tls"

    @property
    def etc(self) -> Path:
        """Where the rendered configuration stands."""
        return self.directory / "etc"

    @property
    def data(self) -> Path:
        """Where databases, images and keys are kept."""
        return self.directory / "data"

    def listens_at(self, endpoint: str) -> str:
        """Return the address that a process of the site listens at.

        Internal APIs listen at the loopback address of the site's network alone: neither guests nor other sites reach them there.

        Args:
            endpoint: a key of `ports`.
        """
        return self.host if endpoint in OPEN_ENDPOINTS else LOOPBACK

    def url(self, endpoint: str, path: str = "") -> str:
        """Return the URL of one of the site's APIs, for the site's own processes.

        A compute site reaches the internal APIs of its control site on the peer port of that one's gateway, with its certificate.

        Args:
            endpoint: a key of `ports`.
            path: appended, with its own leading slash.
        """
        if self.control and endpoint not in OPEN_ENDPOINTS:
            return f"https://{self.host}:{self.ports['peer']}/{endpoint}{path}"
        return f"http://{self.listens_at(endpoint)}:{self.ports[endpoint]}{path}"

    def public_url(self, endpoint: str, path: str = "") -> str:
        """The URL of one of the site's APIs as clients are told it: behind the gateway, where the whole cloud answers.

        Args:
            endpoint: identity, image, compute, network or placement.
            path: appended, with its own leading slash.
        """
        return self.url("gateway", f"/{endpoint}{path}")

    @property
    def durable(self) -> bool:
        """True if what was acknowledged survives a loss of power."""
        return self.durability == "full"

    def database(self, name: str) -> str:
        """The SQLAlchemy URL of the site's database `name`."""
        return f"sqlite:///{self.data}/{name}.db?plugin=atoll" + ("" if self.durable else f"&durability={self.durability}")

    def save(self) -> None:
        """Write the settings to `directory`, whole or not at all, readable by their owner alone."""
        fields = asdict(self) | {"directory": str(self.directory), "templates": str(self.templates)}
        write_private(self.directory / SETTINGS_FILE, json.dumps(fields, indent=2))

    @classmethod
    def load(cls, directory: Path | str) -> Settings:
        """Read what `save` wrote.

        Raises:
            OSError: the file cannot be read.
        """
        fields = json.loads((Path(directory) / SETTINGS_FILE).read_text(encoding="utf-8"))
        paths = {name: Path(fields[name]) for name in ("directory", "templates")}
        return cls(**(fields | paths | {"network_services": tuple(fields.get("network_services", ()))}))


@dataclass(frozen=True)
class Service:
    """One OpenStack service of a site, run as one process.

    Attributes:
        name: the process is called `<site>/<name>`.
        module: where `preload()`, `template(child)` and `run(child)` are.
        configuration: renders the files below `Settings.etc`: their text by relative path.
        listens: the endpoints whose sockets it is given, in this order.
        needs: services of the same site that must be ready first; for a compute site, of its control site.
        forked_from: the fork server of another service, whose `options` it takes too. It has no databases of its own then.
        opens: the endpoints that it listens on by itself.
        upstream: True for a service of OpenStack: its fork server shares what all of them import, and it has a template.
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
        """The name of the fork server that it is forked from."""
        return self.forked_from or self.name

    @property
    def preload(self) -> str:
        """The entry point that a fork server calls before its first fork."""
        return f"{self.module}:preload"

    @property
    def run(self) -> str:
        """The entry point of the service's process."""
        return f"{self.module}:run"

    @property
    def template(self) -> str:
        """The entry point of the job that makes the template databases."""
        return f"{self.module}:template"
