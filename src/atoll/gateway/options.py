"""The settings of a site's gateway: a JSON file that is written when the site is brought up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from atoll.mesh import compute_sites

FILE = "gateway/gateway.json"
"""Path of the file, below the site's directory `etc`."""

ANNOUNCER_FILE = "gateway/announcer.json"
"""Path of the file with the fields of `announcer.Announced`, below the site's directory `etc`."""

CONTROL_SOCKET = "gateway.control"
"""The name of the gateway's control socket. Unlike the names of the message bus's sockets, it does not end in `.sock`."""


@dataclass(frozen=True)
class Options:
    """The settings of one gateway, and of the mesh node in its process.

    Attributes:
        cloud: the cloud's name; messages of other clouds' nodes are ignored.
        site: this site's name.
        region: the region in the catalogue.
        host: the address of all three ports, at which other sites reach this one.
        public_port: the port for clients (HTTP).
        peer_port: the port for other sites' gateways (HTTPS, mutual TLS).
        mesh_port: the port for other sites' mesh nodes (Zenoh over TLS).
        services: the base URL of each of the site's own services, by the first segment of a path (identity, compute, image, …).
        data: the private directory of the gateway's own files.
        sockets: the directory of the Unix sockets of the site's processes.
        tls: the directory of `ca.pem`, `cert.pem` and `key.pem`.
        members_file: member cards (a JSON list) of the sites that were created together with this one.
        identity_database: the SQLAlchemy URL of Keystone's database; it may contain a password.
        token_keys: the directory of the public keys with which Keystone verifies tokens.
        local_users: ids of this site's service accounts, which are not replicated.
        local_endpoints: ids of this site's own endpoints in the catalogue.
        password: the password of the gateway's accounts; see `account_token`.
        authority: the directory of the cloud's certificate authority; `None` if it is not on this machine.
        trust: the trust level (`local-admin` or `full`) by site.
        homed: the sites that administer a domain or project, by `domain/ID` or `project/ID`.
        lists: `partial` or `strict`: whether a list that lacks a site is answered or refused, unless the client chooses.
        discovery: the access networks of sites by prefix, `serves`, and the role that may ask about any device, `role`.
        announce: the interface or network at which this gateway is announced by DNS-SD; empty for none.
        groups: the site that owns the database, for each site of the cloud that shares one with others.
        durable: whether acknowledged changes survive a loss of power.
        trace: the options for recording requests (`atoll.trace.process.start`); empty to record none.
    """

    cloud: str
    site: str
    region: str
    host: str
    public_port: int
    peer_port: int
    mesh_port: int
    services: Mapping[str, str]
    data: Path
    sockets: Path
    tls: Path
    members_file: Path
    identity_database: str = field(repr=False)
    token_keys: Path
    local_users: tuple[str, ...]
    local_endpoints: tuple[str, ...]
    password: str = field(repr=False)
    authority: Path | None = None
    trust: Mapping[str, str] = field(default_factory=dict)
    homed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lists: str = "partial"
    discovery: Mapping[str, Any] = field(default_factory=dict)
    announce: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True
    trace: Mapping[str, Any] = field(default_factory=dict)

    @property
    def launch_images(self) -> Path:
        """The directory of the cache of bases and launch images of nova-compute at this machine, which need not exist."""
        return self.data.parent / "cloudlet" / "cache"

    @property
    def computes_file(self) -> Path:
        """The file that lists this site's compute sites (`atoll.mesh.compute_sites`)."""
        return self.members_file.with_name(compute_sites.FILE)

    def dump(self) -> str:
        """Return the settings as JSON, for `load`."""
        return json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}, indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> Options:
        """Return the settings in a file that `dump` wrote.

        Raises:
            OSError: the file can't be read.
        """
        fields = json.loads(path.read_text(encoding="utf-8"))
        for name in ("data", "sockets", "tls", "members_file", "token_keys"):
            fields[name] = Path(fields[name])
        fields["authority"] = Path(fields["authority"]) if fields["authority"] else None
        for name in ("local_users", "local_endpoints"):
            fields[name] = tuple(fields[name])
        return cls(**fields)
