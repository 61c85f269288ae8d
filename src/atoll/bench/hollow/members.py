"""Hollow members: the mesh's node of a site without services; and the material that all of them share."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography import x509

from atoll.bench.hollow.links import Network
from atoll.bench.workspace import HOST
from atoll.mesh.certificates import CertificateAuthority, authority
from atoll.mesh.clock import HybridClock
from atoll.mesh.document import Document
from atoll.mesh.entry import PRESENT
from atoll.mesh.members import Card
from atoll.mesh.membership import MEMBER
from atoll.mesh.node import Mesh, MeshOptions
from atoll.mesh.parts import Part
from atoll.mesh.record import Change
from atoll.mesh.signing import Signer
from atoll.mesh.store import Store

CLOUD = "hollow"
_PORTS = (40001, 40002, 40003)
"""Ports in the cards of members without a gateway: nobody listens there."""


@dataclass(frozen=True)
class Ports:
    """The ports of a member's gateway."""

    public: int
    peer: int


@dataclass(frozen=True)
class Cloud:
    """The material of a cloud of hollow members.

    Attributes:
        root: the directory of all members' files.
        authority: the cloud's authority.
        cards: the members' cards by name.
        document: a replica with the member records of all.
        replica_mb: the memory of that replica in megabytes. A real member has one of its own; hollow members share it.
    """

    root: Path
    authority: CertificateAuthority
    cards: Mapping[str, Card]
    document: Document
    replica_mb: float

    def home(self, name: str) -> Path:
        """Return a member's directory."""
        return self.root / name

    @property
    def members_file(self) -> Path:
        """The file with the cards of all members."""
        return self.root / "members.json"


def names_of(count: int) -> list[str]:
    """Return the names of a number of members."""
    return [f"site-{number}" for number in range(1, count + 1)]


def create(root: Path, names: list[str], gateways: Mapping[str, Ports]) -> Cloud:
    """Create certificates, cards, the file of members, and the replica of the document that a running cloud would have.

    Args:
        root: an existing directory.
        names: the members' names.
        gateways: the ports of the members that have a gateway.
    """
    issuer = authority(root / "ca", CLOUD)
    cards, certificates = {}, {}
    for name in names:
        tls = root / name / "tls"
        issuer.certify(tls, name, HOST)
        pem = (tls / "cert.pem").read_text(encoding="ascii")
        ports = gateways.get(name)
        public, peer, mesh = (ports.public, ports.peer, _PORTS[2]) if ports else _PORTS
        cards[name] = Card(name, HOST, public, peer, mesh, pem, _token_key(root / name))
        certificates[name] = x509.load_pem_x509_certificate(pem.encode("ascii"))
    (root / "members.json").write_text(json.dumps([card.dump() for card in cards.values()]), encoding="utf-8")
    parts = [_record(root, card, certificates) for card in cards.values()]
    before = psutil.Process().memory_info().rss
    document = _empty("reader", root / names[0], certificates)
    for part in parts:
        document.merge(part)
    return Cloud(root, issuer, cards, document, (psutil.Process().memory_info().rss - before) / 1e6)


def node_of(cloud: Cloud, name: str, network: Network, seed: int) -> Mesh:
    """Return a member's node, which is not started."""
    card = cloud.cards[name]
    options = MeshOptions(
        cloud=CLOUD,
        site=name,
        host=card.host,
        public_port=card.public_port,
        peer_port=card.peer_port,
        mesh_port=card.mesh_port,
        tls=cloud.home(name) / "tls",
        data=cloud.home(name) / "data",
        members_file=cloud.members_file,
        durable=False,
        distrusted=frozenset(cloud.cards),  # their clocks are this machine's, which goes on while the event loop's stands still (`clock`)
    )
    mesh = Mesh(options, rng=random.Random(f"{seed}/{name}"), make_transport=network.transport)
    mesh.document.stream_set.share(cloud.document.stream_set)
    return mesh


def _token_key(home: Path) -> str:
    path = home / "keys" / "public.pem"
    return path.read_text(encoding="ascii") if path.exists() else ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Nowhere(Store):
    """A store that keeps nothing."""

    def __init__(self) -> None:
        """Start without a file."""

    def append(self, _part: Part, *, durable: bool = True) -> None:
        """Drop the part, which nobody reads."""
        del durable

    def grown(self, _author: str) -> bool:
        """Return False: there is nothing to compact."""
        return False

    def authors(self) -> list[str]:
        """Return an empty list, since nothing is kept."""
        return []


def _empty(author: str, home: Path, certificates: Mapping[str, x509.Certificate]) -> Document:
    signer = Signer((home / "tls" / "key.pem").read_bytes())
    return Document(_Nowhere(), author, signer, HybridClock(_now_ms), certificates.get)


def _record(root: Path, card: Card, certificates: Mapping[str, x509.Certificate]) -> bytes:
    """Return the part with a member's record of itself, as its node writes it at its first start."""
    document = _empty(card.name, root / card.name, certificates)
    document.write([Change(MEMBER, card.name, {PRESENT: True, "card": card.dump(), "left": False})])
    return document.difference(_NOTHING)


_NOTHING = b"\x80"
"""The state vector of an empty document."""
