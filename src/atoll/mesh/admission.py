"""Joining a cloud with a token, which a member issues and which is valid once and for a limited time.

The token holds a secret, an Ed25519 key (RFC 8032). The joining site signs its request with this key. The member keeps only the public
half, so its files reveal nothing that helps to join. The member signs the answer with its own key, whose certificate must come from the
authority that the token names by SHA-256: whatever the connection, nobody in between can substitute another authority.

Either site may die before the answer arrives. So the first good request binds the token: the member keeps the request's SHA-256, completes
the admission if the same request comes again, and refuses any other. The request names the joining site's key, without which the answer is
useless, so a repetition helps nobody else. The joining site keeps its request (`Application`) until it has the answer.
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
"""The path on the peer port, the only one there for which no client certificate is needed."""

_PREFIX = "atoll1."
_MAX_ANSWER = 4 * 1024 * 1024
_HINT = "ask for a new token: `atoll site invite NAME`, at a site of the cloud"


_REPEAT = "run the same command again: it repeats the same request"


def _refused(message: str) -> AtollError:
    return AtollError("join.refused", message, _HINT)


def _unanswered(message: str) -> AtollError:
    return AtollError("join.unanswered", message, _REPEAT)


@dataclass(frozen=True)
class Token:
    """A token for joining a cloud.

    Attributes:
        name: the name of the joining site.
        host: the host of the member that issued the token.
        port: the port of that member's gateway for sites.
        authority: the SHA-256 of the certificate (DER) of the cloud's authority, in hexadecimal.
        id: the id of the invitation.
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
        """Return the token as text that a person can copy."""
        secret = base64.b64encode(self.secret).decode("ascii")
        data = json.dumps([self.name, self.host, self.port, self.authority, self.id, secret], separators=(",", ":"))
        return _PREFIX + base64.urlsafe_b64encode(data.encode()).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Token:
        """Return the token in a text.

        Raises:
            AtollError: `join.refused`: the text is not a token.
        """
        try:
            token = cls._parse(text.strip())
        except (ValueError, TypeError):
            raise _refused("the text is no join token, or only a part of one") from None
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


@dataclass(frozen=True)
class Invitation:
    """The state of an invitation that a valid request presents.

    Attributes:
        name: the name of the invited site.
        used: whether the same request has used the invitation before.
        expired: whether the invitation has expired.
    """

    name: str
    used: bool
    expired: bool


class Invitations:
    """The invitations of this site, in a file that survives a restart.

    Args:
        path: the SQLite file.
        now_ms: the clock by which tokens expire, in milliseconds since 1970: the agreed time, because this site's own clock may be set.
        durable: flush changes to the disk, so that they survive a loss of power.
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
        if "request" not in [row[1] for row in self._database.execute("PRAGMA table_info(invitation)")]:
            self._database.execute("ALTER TABLE invitation ADD COLUMN request BLOB")

    def close(self) -> None:
        """Close the file of invitations."""
        self._database.close()

    def issue(self, name: str, lifetime_s: float) -> tuple[str, bytes]:
        """Return the id and the secret of a new invitation."""
        identifier = os.urandom(9).hex()
        secret = Ed25519PrivateKey.generate()
        day_ms = 86_400_000
        # A used invitation stays: it answers the site that it admitted, whose answer may have been lost. There is one for each name.
        self._database.execute("DELETE FROM invitation WHERE expires < ? AND used = 0", (self._now_ms() - day_ms,))
        row = (identifier, name, secret.public_key().public_bytes_raw(), self._now_ms() + int(lifetime_s * 1000))
        self._database.execute("INSERT INTO invitation (id, name, key, expires) VALUES (?, ?, ?, ?)", row)
        return identifier, secret.private_bytes_raw()

    def check(self, identifier: str, proof: bytes, signed: bytes) -> Invitation:
        """Return the invitation that a request presents.

        Raises:
            AtollError: `join.refused`: the invitation does not exist or another request has used it, or the proof was not made with the
                invitation's secret.
        """
        row = self._database.execute("SELECT name, key, expires, used, request FROM invitation WHERE id = ?", (identifier,)).fetchone()
        if row is None:
            raise _refused("this site has issued no such token")
        name, key, expires, used, request = row
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(proof, signed)
        except InvalidSignature:
            raise _refused("the request was not signed with the token that it names") from None
        if used and request != _sha256(signed):
            raise _refused("the token was already used")
        return Invitation(str(name), bool(used), expires <= self._now_ms())

    def use(self, identifier: str, signed: bytes) -> None:
        """Mark an invitation as used by a request, unless this request has used it before.

        Raises:
            AtollError: `join.refused`: another request has used it, or it has expired.
        """
        statement = "UPDATE invitation SET used = 1, request = ?1 WHERE id = ?2 AND (used = 0 OR request = ?1) AND expires > ?3"
        if self._database.execute(statement, (_sha256(signed), identifier, self._now_ms())).rowcount != 1:
            raise _refused("the token was already used, or has expired")

    def release(self, identifier: str) -> None:
        """Make an invitation valid again, after the request that used it was refused."""
        self._database.execute("UPDATE invitation SET used = 0, request = NULL WHERE id = ?", (identifier,))


@dataclass(frozen=True)
class InvitationService:
    """The service by which a member issues tokens, and admits the sites that present them.

    Attributes:
        cloud: the cloud's name.
        own: this site's card.
        authority: the authority's certificate (PEM).
        signer: this site's key.
        invitations: the invitations of this site.
        known: returns the cards of all present and former sites by name.
        is_active: returns whether a site is a member that was not revoked and has not left.
        admit: makes a site a member.
        sign: certifies a key: (request, name, host) -> certificate, all PEM; `None` if the authority's key is not at this site.
    """

    cloud: str
    own: Card
    authority: str
    signer: Signer
    invitations: Invitations
    known: Callable[[], Mapping[str, Card]]
    is_active: Callable[[str], bool]
    admit: Callable[[Card], None]
    sign: Callable[[str, str, str], str] | None

    def invite(self, name: str, lifetime_s: float) -> str:
        """Return a token for a site named `name`.

        Raises:
            AtollError: `mesh.refused`: the name is invalid or was used before, or this site can't certify others.
        """
        self._can_sign()
        if not NAME.fullmatch(name):
            raise AtollError("mesh.refused", f"{name!r} is not a valid site name: expected 1 to 32 lower-case letters, digits and hyphens")
        if name in self.known():
            raise AtollError("mesh.refused", f"a site {name} exists or existed: a name can be used only once", "choose another name")
        identifier, secret = self.invitations.issue(name, lifetime_s)
        return Token(name, self.own.host, self.own.peer_port, _digest(self.authority), identifier, secret).dump()

    def redeem(self, body: object) -> dict[str, Any]:
        """Make the holder of a token a member.

        Args:
            body: the JSON of the request, which may be hostile.

        Returns:
            The JSON of the answer.

        Raises:
            AtollError: `join.refused`, `mesh.refused`: nothing was changed.
        """
        fields = _texts(body, ("id", "request", "proof"))
        signed = _signed_request(fields["id"], fields["request"], body["card"] if isinstance(body, dict) else None)
        invitation = self.invitations.check(fields["id"], _decode(fields["proof"]), signed)
        known = self.known().get(invitation.name)
        if known is not None and not (invitation.used and _is_of(known, fields["request"])):
            raise _refused(f"a site {invitation.name} exists already")
        if known is not None and not self.is_active(invitation.name):
            raise _refused(f"the site {invitation.name} was revoked, or has left the cloud")
        if known is None and invitation.expired:
            raise _refused("the token has expired")
        certificate = known.certificate if known is not None else self._admit(invitation.name, fields, signed, body)
        answer = {
            "cloud": self.cloud,
            "authority": self.authority,
            "certificate": certificate,
            "members": [each.dump() for each in self.known().values()],
            "by": self.own.name,
        }
        signature = self.signer.sign(_signed_answer(fields["proof"], answer))
        return {**answer, "signature": base64.b64encode(signature).decode("ascii")}

    def _admit(self, name: str, fields: Mapping[str, str], signed: bytes, body: object) -> str:
        """Make a site a member, and return its certificate (PEM)."""
        sign = self._can_sign()
        data = body["card"] if isinstance(body, dict) and isinstance(body["card"], dict) else {}
        self.invitations.use(fields["id"], signed)
        try:
            certificate = sign(fields["request"], name, str(data.get("host")))
            authority = x509.load_pem_x509_certificate(self.authority.encode("ascii"))
            self.admit(Card.parse({**data, "name": name, "certificate": certificate}, authority))
        except (ValueError, TypeError) as error:
            self.invitations.release(fields["id"])
            raise _refused(f"the site's card is invalid: {error}") from None
        except AtollError:
            self.invitations.release(fields["id"])
            raise
        return certificate

    def _can_sign(self) -> Callable[[str, str, str], str]:
        if self.sign is None:
            hint = "issue the token at a site on the machine where `atoll up` created the cloud"
            raise AtollError("mesh.refused", f"{self.own.name} can't certify sites: it does not have the authority's key", hint)
        return self.sign


@dataclass(frozen=True)
class Joined:
    """The credentials of a site that has joined.

    Attributes:
        cloud: the cloud's name.
        key: the site's key (PEM).
        certificate: the site's certificate (PEM).
        authority: the certificate of the cloud's authority (PEM).
        members: the cards of all sites, this one included.
    """

    cloud: str
    key: str
    certificate: str
    authority: str
    members: tuple[Card, ...]


Post = Callable[[str, int, Any], Any]
"""A function that posts JSON to a host and a port, and returns the JSON of the answer."""


@dataclass(frozen=True)
class Application:
    """A request to join, which can be sent again.

    Attributes:
        key: the site's key (PEM).
        body: the JSON of the request: the token's id, the request for a certificate, the site's card, and the proof.
    """

    key: str
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Application(id={self.body.get('id')!r})"

    @classmethod
    def make(cls, token: Token, host: str, ports: Mapping[str, int], token_key: str) -> Application:
        """Return a new application, with a new key.

        Args:
            token: the join token.
            host: the IP address of the joining site.
            ports: the site's public_port, peer_port and mesh_port.
            token_key: the public key of the site's tokens (PEM).
        """
        key, asked = request(token.name)
        card = {"host": host, **ports, "token_key": token_key}
        secret = Ed25519PrivateKey.from_private_bytes(token.secret)
        proof = base64.b64encode(secret.sign(_signed_request(token.id, asked, card))).decode("ascii")
        return cls(key, {"id": token.id, "request": asked, "card": card, "proof": proof})

    def dump(self) -> dict[str, Any]:
        """Return the application as JSON, for `parse`."""
        return {"key": self.key, "body": dict(self.body)}

    @classmethod
    def parse(cls, data: object) -> Application:
        """Return the application from the JSON of `dump`.

        Raises:
            ValueError: the JSON is not an application.
        """
        if not isinstance(data, dict) or data.keys() != {"key", "body"} or not isinstance(data["key"], str):
            raise ValueError("an application is an object with key and body")
        if not isinstance(data["body"], dict) or data["body"].keys() != {"id", "request", "card", "proof"}:
            raise ValueError("an application's body is an object with id, request, card and proof")
        return cls(data["key"], data["body"])


def join(token: Token, application: Application, post: Post | None = None) -> Joined:
    """Join a cloud by a token.

    Args:
        token: the join token.
        application: the request, which may have been sent before.
        post: sends the request.

    Raises:
        AtollError: `join.refused`, `join.unreachable`: the site is not a member; `join.unanswered`: the site may be a member.
    """
    answer = (post or _post)(token.host, token.port, application.body)
    try:
        return _checked(token, application.key, application.body["proof"], answer)
    except (ValueError, TypeError, KeyError, InvalidSignature, StopIteration):
        raise _unanswered(f"the site at {token.host}:{token.port} is not the one that issued the token") from None


def _checked(token: Token, key: str, proof: str, answer: dict[str, Any]) -> Joined:
    answer = dict(answer)
    signature = base64.b64decode(answer.pop("signature"), validate=True)
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
    # The authority is not known yet: the answer is checked by its signature.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
    try:
        _connect(connection)
        connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            status, data = response.status, response.read(_MAX_ANSWER)
        answer = json.loads(data)
    except (OSError, http.client.HTTPException) as error:
        raise _unanswered(f"{host}:{port}, which issued the token, has not answered: {error or type(error).__name__}") from None
    except ValueError:
        raise _unanswered(f"the server at {host}:{port} is not a gateway") from None
    finally:
        connection.close()
    if status == http.client.OK:
        return answer
    message = answer.get("message") if isinstance(answer, dict) else None
    if status >= http.client.INTERNAL_SERVER_ERROR:
        raise _unanswered(f"{host}:{port} has failed: {message or status}")
    raise _refused(f"{host}:{port} refuses: {message or status}")


def _connect(connection: http.client.HTTPSConnection) -> None:
    try:
        connection.connect()
    except OSError as error:
        hint = "check that the site runs, and that its gateway can be reached from here"
        message = f"{connection.host}:{connection.port}, which issued the token, does not answer: {error}"
        raise AtollError("join.unreachable", message, hint) from None


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
    except RecursionError:  # deeply nested JSON
        raise _refused("the request is malformed") from None


def _signed_answer(proof: str, answer: object) -> bytes:
    return b"atoll joined 1\n" + json.dumps([proof, answer], sort_keys=True).encode()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _is_of(card: Card, asked: str) -> bool:
    """Return whether a site's certificate is for the key of a certificate request (PEM)."""
    try:
        key = x509.load_pem_x509_csr(asked.encode("ascii")).public_key()
    except ValueError:
        return False
    return key == x509.load_pem_x509_certificate(card.certificate.encode("ascii")).public_key()


def _digest(pem: str) -> str:
    return hashlib.sha256(x509.load_pem_x509_certificate(pem.encode("ascii")).public_bytes(Encoding.DER)).hexdigest()
