"""How a site joins: with a token that a member gives out, which serves once and for a while.

The token holds a secret, an Ed25519 key (RFC 8032). Who joins signs its request with it; the member keeps only the public half, so that
who reads its files learns nothing that serves. The answer is signed with the member's own key, whose certificate must be of the authority
that the token names by its SHA-256: whatever the connection, nobody in between can put an authority of his own in its place.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import sqlite3
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from atoll.errors import AtollError
from atoll.mesh.certificates import request
from atoll.mesh.members import NAME, Card
from atoll.mesh.signing import Signer, verify

PATH = "/atoll/join"
"""On the peer port; the only path there for which no certificate is asked."""

_PREFIX = "atoll1."
_MAX_ANSWER = 4 * 1024 * 1024
_HINT = "ask for a new token: `atoll site invite NAME`, at a site of the cloud"


def _refused(message: str) -> AtollError:
    return AtollError("join.refused", message, _HINT)


@dataclass(frozen=True)
class Token:
    """What a site needs to know in order to join.

    Attributes:
        name: how it is to be called.
        host: of the member that gave the token out.
        port: of that member's gateway, for sites.
        authority: SHA-256 of the certificate (DER) of the cloud's authority, in hexadecimal.
        id: of the invitation.
        secret: an Ed25519 key, 32 bytes.
    """

    name: str
    host: str
    port: int
    authority: str
    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Token(name={self.name!r}, host={self.host!r}, port={self.port}, id={self.id!r})"

    def dump(self) -> str:
        """As text, for a person to carry."""
        secret = base64.b64encode(self.secret).decode("ascii")
        data = json.dumps([self.name, self.host, self.port, self.authority, self.id, secret], separators=(",", ":"))
        return _PREFIX + base64.urlsafe_b64encode(data.encode()).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Token:
        """What `dump` wrote.

        Raises:
            AtollError: `join.refused`: it is no token.
        """
        try:
            token = cls._parse(text.strip())
        except (ValueError, TypeError):
            raise _refused("this is no join token, or only a part of one") from None
        return token

    @classmethod
    def _parse(cls, text: str) -> Token:
        data = text.removeprefix(_PREFIX)
        name, host, port, authority, identifier, secret = json.loads(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)))
        token = cls(name, host, port, authority, identifier, base64.b64decode(secret, validate=True))
        types = [type(item) for item in (name, host, port, authority, identifier)]
        if not text.startswith(_PREFIX) or types != [str, str, int, str, str] or len(token.secret) != 32:
            raise ValueError(text)
        return token


class Invitations:
    """The tokens that this site has given out, in a file: a restart forgets none.

    Args:
        path: of the SQLite file.
        now_ms: the time of this site's clock, by which tokens expire.
        durable: a loss of power forgets none either.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int], *, durable: bool = True) -> None:
        self._now_ms = now_ms
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            # FULL makes a commit durable in WAL mode only: with a rollback journal it does not flush the journal's end.
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = {'FULL' if durable else 'NORMAL'};"
            "CREATE TABLE IF NOT EXISTS invitation (id TEXT PRIMARY KEY, name TEXT, key BLOB, expires INTEGER, used INTEGER DEFAULT 0);"
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def make(self, name: str, lifetime_s: float) -> tuple[str, bytes]:
        """A new invitation: its id and its secret."""
        identifier = os.urandom(9).hex()
        secret = Ed25519PrivateKey.generate()
        day_ms = 86_400_000
        self._database.execute("DELETE FROM invitation WHERE expires < ?", (self._now_ms() - day_ms,))
        row = (identifier, name, secret.public_key().public_bytes_raw(), self._now_ms() + int(lifetime_s * 1000))
        self._database.execute("INSERT INTO invitation (id, name, key, expires) VALUES (?, ?, ?, ?)", row)
        return identifier, secret.private_bytes_raw()

    def check(self, identifier: str, proof: bytes, signed: bytes) -> str:
        """The name that an invitation is for.

        Raises:
            AtollError: `join.refused`: there is none, the proof is not of its secret, it was used, or its time is over.
        """
        row = self._database.execute("SELECT name, key, expires, used FROM invitation WHERE id = ?", (identifier,)).fetchone()
        if row is None:
            raise _refused("this site has given out no such token")
        name, key, expires, used = row
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(proof, signed)
        except InvalidSignature:
            raise _refused("the request was not made with the token that it names") from None
        if used:
            raise _refused("the token was used already")
        if expires <= self._now_ms():
            raise _refused("the token has expired")
        return str(name)

    def use(self, identifier: str) -> None:
        """Use it up.

        Raises:
            AtollError: `join.refused`: another was faster, or its time is over.
        """
        statement = "UPDATE invitation SET used = 1 WHERE id = ? AND used = 0 AND expires > ?"
        if self._database.execute(statement, (identifier, self._now_ms())).rowcount != 1:
            raise _refused("the token was used already, or has expired")

    def give_back(self, identifier: str) -> None:
        """It was used, but to no effect."""
        self._database.execute("UPDATE invitation SET used = 0 WHERE id = ?", (identifier,))


@dataclass(frozen=True)
class Desk:
    """Where a member gives out tokens, and takes them.

    Attributes:
        cloud: its name.
        own: this site's card.
        authority: the authority's certificate (PEM).
        signer: this site's key.
        invitations: those that it gave out.
        known: the cards of all sites that this one has ever heard of, by name.
        admit: make a site a member.
        sign: certify a key: (request, name, host) -> certificate, all PEM; None if the authority's key is not at this site.
    """

    cloud: str
    own: Card
    authority: str
    signer: Signer
    invitations: Invitations
    known: Callable[[], Mapping[str, Card]]
    admit: Callable[[Card], None]
    sign: Callable[[str, str, str], str] | None

    def invite(self, name: str, lifetime_s: float) -> str:
        """A token for a site that is to be called `name`.

        Raises:
            AtollError: `mesh.refused`: no site can be called that, or one is or was; or this site can't certify others.
        """
        self._can_sign()
        if not NAME.fullmatch(name):
            raise AtollError("mesh.refused", f"{name!r} is no name of a site: 1 to 32 lower-case letters, digits and hyphens")
        if name in self.known():
            raise AtollError("mesh.refused", f"there is or was a site {name}: a name serves once", "choose another name")
        identifier, secret = self.invitations.make(name, lifetime_s)
        return Token(name, self.own.host, self.own.peer_port, _digest(self.authority), identifier, secret).dump()

    def redeem(self, body: object) -> dict[str, Any]:
        """Make a member of who has a token.

        Args:
            body: the JSON of the request, which may be hostile.

        Returns:
            The JSON of the answer.

        Raises:
            AtollError: `join.refused`, `mesh.refused`: nothing was changed.
        """
        fields = _texts(body, ("id", "request", "proof"))
        signed = _signed_request(fields["id"], fields["request"], body["card"] if isinstance(body, dict) else None)
        name = self.invitations.check(fields["id"], _decode(fields["proof"]), signed)
        sign = self._can_sign()
        if name in self.known():
            raise _refused(f"there is a site {name} by now")
        data = body["card"] if isinstance(body, dict) and isinstance(body["card"], dict) else {}
        self.invitations.use(fields["id"])
        try:
            certificate = sign(fields["request"], name, str(data.get("host")))
            authority = x509.load_pem_x509_certificate(self.authority.encode("ascii"))
            card = Card.parse({**data, "name": name, "certificate": certificate}, authority)
            self.admit(card)
        except (ValueError, TypeError) as error:
            self.invitations.give_back(fields["id"])
            raise _refused(f"the site's card is not as it has to be: {error}") from None
        except AtollError:
            self.invitations.give_back(fields["id"])
            raise
        answer = {
            "cloud": self.cloud,
            "authority": self.authority,
            "certificate": certificate,
            "members": [each.dump() for each in self.known().values()],
            "by": self.own.name,
        }
        signature = self.signer.sign(_signed_answer(fields["proof"], answer))
        return {**answer, "signature": base64.b64encode(signature).decode("ascii")}

    def _can_sign(self) -> Callable[[str, str, str], str]:
        if self.sign is None:
            hint = "give out the token at a site on the machine where `atoll up` made the cloud"
            raise AtollError("mesh.refused", f"{self.own.name} can't certify sites: the authority's key is not there", hint)
        return self.sign


@dataclass(frozen=True)
class Joined:
    """What a site has when it has joined.

    Attributes:
        cloud: the cloud's name.
        key: its key (PEM).
        certificate: its certificate (PEM).
        authority: the certificate of the cloud's authority (PEM).
        members: the cards of all sites, its own included.
    """

    cloud: str
    key: str
    certificate: str
    authority: str
    members: tuple[Card, ...]


Post = Callable[[str, int, Any], Any]
"""POST JSON to a host and a port; the JSON of the answer."""


def join(token: Token, host: str, ports: Mapping[str, int], token_key: str, post: Post | None = None) -> Joined:
    """Join a cloud.

    Args:
        token: what its member gave out.
        host: the IP address of the site that joins.
        ports: its public_port, peer_port, mesh_port.
        token_key: the public key of its tokens (PEM).
        post: sends the request.

    Raises:
        AtollError: `join.refused`, `join.unreachable`.
    """
    key, asked = request(token.name)
    card = {"host": host, **ports, "token_key": token_key}
    secret = Ed25519PrivateKey.from_private_bytes(token.secret)
    proof = base64.b64encode(secret.sign(_signed_request(token.id, asked, card))).decode("ascii")
    answer = (post or _post)(token.host, token.port, {"id": token.id, "request": asked, "card": card, "proof": proof})
    try:
        return _checked(token, key, proof, answer)
    except (ValueError, TypeError, KeyError, InvalidSignature, StopIteration):
        raise _refused(f"what answers at {token.host}:{token.port} is not the site that gave the token out") from None


def _checked(token: Token, key: str, proof: str, answer: dict[str, Any]) -> Joined:
    answer = dict(answer)
    signature = _decode(answer.pop("signature"))
    if _digest(answer["authority"]) != token.authority:
        raise ValueError
    authority = x509.load_pem_x509_certificate(answer["authority"].encode("ascii"))
    members = tuple(Card.parse(item, authority) for item in answer["members"])
    inviter = next(card for card in members if card.name == answer["by"])
    if not verify(x509.load_pem_x509_certificate(inviter.certificate.encode("ascii")), _signed_answer(proof, answer), signature):
        raise ValueError
    return Joined(answer["cloud"], key, answer["certificate"], answer["authority"], members)


def _post(host: str, port: int, body: Any) -> Any:
    context = ssl.create_default_context()
    # What answers is known by its signature: the authority is not known yet.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
    try:
        connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            status, data = response.status, response.read(_MAX_ANSWER)
    except OSError as error:
        hint = "is that site running, and can its gateway be reached from here?"
        raise AtollError("join.unreachable", f"{host}:{port} gave the token out, and does not answer: {error}", hint) from None
    except http.client.HTTPException:
        raise _refused(f"what answers at {host}:{port} is no gateway") from None
    finally:
        connection.close()
    try:
        answer = json.loads(data)
    except ValueError:
        raise _refused(f"what answers at {host}:{port} is no gateway") from None
    if status != http.client.OK:
        message = answer.get("message") if isinstance(answer, dict) else None
        raise _refused(f"{host}:{port} refuses: {message or status}")
    return answer


def _texts(body: object, names: Iterable[str]) -> dict[str, str]:
    if not isinstance(body, dict) or "card" not in body:
        raise _refused("the request is malformed")
    fields = {name: body.get(name) for name in names}
    if not all(isinstance(text, str) and len(text) < 8192 for text in fields.values()):
        raise _refused("the request is malformed")
    return {name: str(text) for name, text in fields.items()}


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _refused("the request is malformed") from None


def _signed_request(identifier: str, asked: str, card: object) -> bytes:
    try:
        return b"atoll join 1\n" + json.dumps([identifier, asked, card], sort_keys=True).encode()
    except RecursionError:  # a thousand brackets
        raise _refused("the request is malformed") from None


def _signed_answer(proof: str, answer: object) -> bytes:
    return b"atoll joined 1\n" + json.dumps([proof, answer], sort_keys=True).encode()


def _digest(pem: str) -> str:
    return hashlib.sha256(x509.load_pem_x509_certificate(pem.encode("ascii")).public_bytes(Encoding.DER)).hexdigest()
