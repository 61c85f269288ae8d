"""The members of the cloud.

A site is a *member* if the file of members names it (it names all sites that were created together), or if a member has *admitted* it by
signing its card. A *revoked* site is never a member again, and admits no site from the moment of its revocation. From the same admissions
and revocations, every site derives the same members, in whatever order the records arrive.
"""

from __future__ import annotations

import base64
import enum
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509.oid import NameOID

from atoll.mesh.signing import Signer, fingerprint, verify

NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
_MAX_PEM = 8192
_CACHED = 2048
"""The number of cards, and of certificates, that are checked and decoded once. Every change of a member has all of them read again."""
_PORTS = ("public_port", "peer_port", "mesh_port")


class MemberState(enum.StrEnum):
    """The state of a member, as seen from this site."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    UNREACHABLE = "unreachable"
    LEFT = "left"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Card:
    """The public data of a site.

    Attributes:
        name: the site's name.
        host: the site's IP address.
        public_port: the port of its gateway for clients.
        peer_port: the port of its gateway for other sites.
        mesh_port: the port of its mesh node.
        certificate: the site's certificate, issued by the cloud's authority (PEM).
        token_key: the public key with which its tokens are checked (PEM); empty if it issues none.
    """

    name: str
    host: str
    public_port: int
    peer_port: int
    mesh_port: int
    certificate: str
    token_key: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, in hexadecimal."""
        return fingerprint(self.certificate)

    def dump(self) -> dict[str, Any]:
        """Return the card as JSON, for `parse`."""
        return asdict(self)

    @classmethod
    def parse(cls, data: object, authority: x509.Certificate) -> Card:
        """Return a card from JSON, which may be hostile.

        Args:
            data: the JSON that `dump` returned.
            authority: the certificate of the cloud's authority, which must have issued the card's.

        Raises:
            ValueError: the JSON is not a card of this cloud; the text gives the reason.
        """
        if not isinstance(data, dict) or not data.keys() <= cls.__dataclass_fields__.keys():
            raise ValueError("a card is an object with the fields " + ", ".join(cls.__dataclass_fields__))
        texts = {name: data.get(name, "") for name in ("name", "host", "certificate", "token_key")}
        if not all(isinstance(text, str) and len(text) <= _MAX_PEM for text in texts.values()):
            raise ValueError("a field of the card is not a text, or is too long")
        ports: dict[str, Any] = {name: data.get(name) for name in _PORTS}
        if not all(type(port) is int and 0 < port < 65536 for port in ports.values()):
            raise ValueError("a port of the card is not between 1 and 65535")
        return _checked(cls(**{**texts, **ports}), authority)

    def _check(self, authority: x509.Certificate) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r:.40} is not a valid site name")
        # A zone may consist of any characters, even line breaks, and has a meaning on one machine only.
        if "%" in self.host or self.host != str(ipaddress.ip_address(self.host)):
            raise ValueError(f"{self.host!r:.40} is not an IP address")
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.encode("ascii"))
            certificate.verify_directly_issued_by(authority)
        except (TypeError, InvalidSignature):
            raise ValueError(f"the certificate of {self.name} is not of this cloud's authority") from None
        names = [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [self.name]:
            raise ValueError(f"the certificate of {self.name} is for {', '.join(map(str, names)) or 'no name'}")
        if self.token_key:
            load_pem_public_key(self.token_key.encode("ascii"))


@dataclass(frozen=True)
class Member:
    """A card, and the state of its site.

    Attributes:
        card: the site's card.
        state: the site's state as seen from here.
        rtt_ms: the round trip from here in milliseconds, measured or estimated; `None` if unknown.
    """

    card: Card
    state: MemberState
    rtt_ms: float | None = None

    name = property(lambda self: self.card.name)
    host = property(lambda self: self.card.host)
    public_port = property(lambda self: self.card.public_port)
    peer_port = property(lambda self: self.card.peer_port)
    mesh_port = property(lambda self: self.card.mesh_port)
    certificate = property(lambda self: self.card.certificate)
    token_key = property(lambda self: self.card.token_key)
    fingerprint = property(lambda self: self.card.fingerprint)


@dataclass(frozen=True)
class Admission:
    """The admission of a site by a member.

    Attributes:
        card: the site's card.
        by: the name of the admitting member.
        stamp: the time of the admission (`HybridClock`).
        signature: the member's signature.
    """

    card: Card
    by: str
    stamp: int
    signature: bytes

    @classmethod
    def make(cls, cloud: str, card: Card, by: str, stamp: int, signer: Signer) -> Admission:
        """Return the admission of a site by the member `by`, signed with that member's key."""
        return cls(card, by, stamp, signer.sign(_admission_text(cloud, card, by, stamp)))

    def genuine(self, cloud: str, certificate: x509.Certificate) -> bool:
        """Return whether the admission was signed with the key of a certificate."""
        return verify(certificate, _admission_text(cloud, self.card, self.by, self.stamp), self.signature)

    def dump(self) -> dict[str, Any]:
        """Return the admission as JSON, for `parse`."""
        return {"card": self.card.dump(), "by": self.by, "stamp": self.stamp, "signature": base64.b64encode(self.signature).decode("ascii")}

    @classmethod
    def parse(cls, data: object, authority: x509.Certificate) -> Admission:
        """Return an admission from JSON, which may be hostile. Its signature is not checked.

        Raises:
            ValueError: the JSON is not an admission.
        """
        if not isinstance(data, dict) or data.keys() != {"card", "by", "stamp", "signature"}:
            raise ValueError("an admission is an object with card, by, stamp, signature")
        by, stamp, signature = data["by"], data["stamp"], data["signature"]
        if not (isinstance(by, str) and type(stamp) is int and stamp >= 0 and isinstance(signature, str) and len(signature) < 200):
            raise ValueError("an admission's field is of the wrong type")
        return cls(Card.parse(data["card"], authority), by, stamp, base64.b64decode(signature, validate=True))


def _admission_text(cloud: str, card: Card, by: str, stamp: int) -> bytes:
    return b"atoll admission 1\n" + json.dumps([cloud, card.dump(), by, stamp], sort_keys=True).encode()


@dataclass
class Roster:
    """The members, as they follow from cards, admissions and revocations.

    Attributes:
        cloud: the cloud's name.
        own: this site's card.
        authority: the certificate of the cloud's authority.
        listed: cards from the file of members, which need no admission, by name.
        listed_at: the time at which that file was written, in milliseconds since 1970.
        revoked: by revoked site, the stamp after which its entries are ignored.
        left: the sites that left of their own accord.
        stated: members' own statements of their cards, with their times; they may be newer than the admissions.
        former: cards of sites that are no longer members, but whose entries remain in the document.
    """

    cloud: str
    own: Card
    authority: x509.Certificate
    listed: Mapping[str, Card] = field(default_factory=dict)
    listed_at: int = 0
    revoked: Mapping[str, int] = field(default_factory=dict)
    left: frozenset[str] = frozenset()
    stated: Mapping[str, tuple[int, Card]] = field(default_factory=dict)
    former: dict[str, Card] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._admissions: dict[str, list[Admission]] = {}
        self._checked: dict[tuple[str, bytes], bool] = {}
        self._cards: dict[str, Card] = {}
        self._certificates: dict[str, x509.Certificate] = {}
        self._by_short: dict[bytes, str] = {}
        self._by_fingerprint: dict[str, str] = {}
        self.conclude()

    # State

    def cards(self) -> Mapping[str, Card]:
        """Return the cards of all sites that were ever admitted, this one included."""
        return self._cards

    def is_member(self, name: str) -> bool:
        """Return whether a site is admitted and not revoked."""
        return name in self._cards and name not in self.revoked

    def is_active(self, name: str) -> bool:
        """Return whether a site is a member that has not left."""
        return self.is_member(name) and name not in self.left

    def certificate(self, name: str) -> x509.Certificate | None:
        """Return the certificate of a present or former member, whose entries remain its own."""
        if name in self._certificates:
            return self._certificates[name]
        return _load(self.former[name]) if name in self.former else None

    def fingerprint(self, name: str) -> str | None:
        """Return the fingerprint of a member's certificate; `None` for a site that is not a member."""
        return self._cards[name].fingerprint if self.is_member(name) else None

    def by_short(self, sender: bytes) -> tuple[str, x509.Certificate] | None:
        """Return the member for 8 bytes of a fingerprint, and its certificate."""
        name = self._by_short.get(sender)
        return (name, self._certificates[name]) if name is not None and self.is_member(name) else None

    def by_fingerprint(self, fingerprint: str) -> str | None:
        """Return the member with a certificate; `None` if no member has it, or if the member was revoked or has left."""
        name = self._by_fingerprint.get(fingerprint.lower())
        return name if name is not None and self.is_active(name) else None

    def admission_of(self, name: str) -> Admission | None:
        """Return the latest admission of a site that names the site's present certificate; `None` if there is none."""
        known = [each for each in self._admissions.get(name, ()) if each.card.fingerprint == self._cards[name].fingerprint]
        return max(known, key=lambda each: each.stamp, default=None)

    def chain(self, name: str) -> list[Admission]:
        """Return the admissions of a site, of the site that admitted it, and so on, back to a site that needed none."""
        found: list[Admission] = []
        while (admission := self.admission_of(name)) is not None and admission not in found and name not in self.listed:
            found.append(admission)
            name = admission.by
            if name not in self._cards:
                break
        return found

    # Events

    def admit(self, admissions: Iterable[Admission]) -> bool:
        """Add admissions; those that are not genuine have no effect.

        Returns:
            True if the admissions have made a site a member.
        """
        for admission in admissions:
            known = self._admissions.setdefault(admission.card.name, [])
            if admission not in known and len(known) < 16:
                known.append(admission)
        before = set(self._by_fingerprint)
        self.conclude()
        return set(self._by_fingerprint) > before

    def conclude(self) -> None:
        """Compute the members again, after a field was set."""
        cards = {**self.listed, self.own.name: self.own}
        admitted: dict[str, Admission] = {}
        pending = sorted((a for known in self._admissions.values() for a in known), key=lambda a: (a.stamp, a.card.fingerprint))
        certificates = {name: [_load(card)] for name, card in cards.items()}
        found = True
        while found:
            found = False
            for admission in [a for a in pending if self._is_valid(a, certificates)]:
                pending.remove(admission)
                found = True
                name = admission.card.name
                certificates.setdefault(name, []).append(_load(admission.card))
                if name not in admitted or admission.stamp > admitted[name].stamp:
                    admitted[name] = admission
        for name, admission in admitted.items():
            cards.setdefault(name, admission.card)
        self._adopt({name: self._newest(name, card) for name, card in cards.items()})

    def _is_valid(self, admission: Admission, certificates: Mapping[str, list[x509.Certificate]]) -> bool:
        if admission.stamp > self.revoked.get(admission.by, admission.stamp):
            return False
        return any(self._genuine(admission, certificate) for certificate in certificates.get(admission.by, ()))

    def _genuine(self, admission: Admission, certificate: x509.Certificate) -> bool:
        key = (f"{certificate.serial_number}/{admission.card.fingerprint}/{admission.stamp}", admission.signature)
        if key not in self._checked:
            self._checked[key] = admission.genuine(self.cloud, certificate)
        return self._checked[key]

    def _newest(self, name: str, card: Card) -> Card:
        """Return the site's own statement of its card, unless the file is newer, as after an `atoll up` with other ports."""
        stamp, stated = self.stated.get(name, (-1, card))
        if name == self.own.name or stated.certificate != card.certificate:
            return card
        if name in self.listed and stamp < self.listed_at:
            return replace(card, token_key=card.token_key or stated.token_key)
        return stated

    def _adopt(self, cards: dict[str, Card]) -> None:
        if cards != self._cards:
            self._cards = cards
            self._certificates = {name: _load(card) for name, card in cards.items()}
            self._by_fingerprint = {card.fingerprint: name for name, card in cards.items()}
            self._by_short = {bytes.fromhex(found[:16]): name for found, name in self._by_fingerprint.items()}


def read_cards(text: str, authority: x509.Certificate, on_error: Callable[[str], None]) -> dict[str, Card]:
    """Return the cards in the text of a file (JSON, a list) by name, without malformed ones.

    Args:
        text: the text of the file.
        authority: the certificate of the cloud's authority.
        on_error: called with the reason for each malformed card.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        on_error(f"no JSON: {error}")
        return {}
    cards = {}
    for item in data if isinstance(data, list) else [data]:
        try:
            card = Card.parse(item, authority)
            cards[card.name] = card
        except ValueError as error:
            on_error(str(error))
    return cards


@lru_cache(maxsize=_CACHED)
def _checked(card: Card, authority: x509.Certificate) -> Card:
    """Return a card that is valid; equal cards are checked and kept once."""
    card._check(authority)
    return card


def _load(card: Card) -> x509.Certificate:
    return _certificate(card.certificate)


@lru_cache(maxsize=_CACHED)
def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode("ascii"))
