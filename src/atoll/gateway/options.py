"""What the gateway of a site is told: one JSON file, written when the site is brought up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from atoll.mesh import compute_sites

FILE = "gateway/gateway.json"
"""Where it is, below a site's `etc`."""


@dataclass(frozen=True)
class Options:
    """The settings of one gateway, and of the mesh node in its process.

    Attributes:
        cloud: the cloud's name; nodes of other clouds are not listened to.
        site: this site's name.
        region: the region in the catalogue.
        host: the address that all three ports are opened at, and at which the other sites find this one.
        public_port: where clients connect (HTTP).
        peer_port: where the other sites' gateways connect (HTTPS, mutual TLS).
        mesh_port: where the other sites' mesh nodes connect (Zenoh over TLS).
        services: the base URL of each of the site's own services, by the first segment of a path (identity, compute, image, …).
        data: a directory for the gateway's own files, private.
        sockets: where the Unix sockets of the site's processes are.
        tls: where `ca.pem`, `cert.pem` and `key.pem` are.
        members_file: member cards known beforehand (JSON, a list): of the sites that were made together with this one.
        identity_database: Keystone's SQLite file.
        token_keys: the directory of the public keys that Keystone checks tokens with.
        local_users: ids of this site's service accounts, which no other site knows.
        local_endpoints: ids of this site's own endpoints in the catalogue.
        password: of the gateway's accounts, one for each service; see `admin`.
        authority: the directory of the cloud's certificate authority; None if this machine has not got it.
        trust: `local-admin` by the sites that are trusted no further.
        homed: by `domain/ID` and `project/ID`, the sites that administer it.
        lists: `partial` or `strict`: whether a list that lacks a site is answered, or refused, if the client does not say.
        durable: whether what was acknowledged survives a loss of power.
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
    identity_database: Path
    token_keys: Path
    local_users: tuple[str, ...]
    local_endpoints: tuple[str, ...]
    password: str = field(repr=False)
    authority: Path | None = None
    trust: Mapping[str, str] = field(default_factory=dict)
    homed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lists: str = "partial"
    durable: bool = True

    @property
    def computes_file(self) -> Path:
        """The list of this site's compute sites (`atoll.mesh.compute_sites`)."""
        return self.members_file.with_name(compute_sites.FILE)

    def dump(self) -> str:
        """As JSON, for `load`."""
        return json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}, indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> Options:
        """Read what `dump` wrote.

        Raises:
            OSError: the file can't be read.
        """
        fields = json.loads(path.read_text(encoding="utf-8"))
        for name in ("data", "sockets", "tls", "members_file", "identity_database", "token_keys"):
            fields[name] = Path(fields[name])
        fields["authority"] = Path(fields["authority"]) if fields["authority"] else None
        for name in ("local_users", "local_endpoints"):
            fields[name] = tuple(fields[name])
        return cls(**fields)
