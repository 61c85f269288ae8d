"""What two members say to each other is signed by the sender, for this receiver, and counts once.

TLS below proves only that somebody has a certificate of the cloud's authority. An envelope proves which member it is, by the key of the
certificate that the member was admitted with. Before a site's first message the receiver gives it a *challenge*: 16 random bytes, which go
into what every later message signs but are not sent again, so a message that was meant for another receiver, or for an earlier life of this
one, does not verify; a window of counters (RFC 4303, section 3.4.3) refuses what came before. No clock is needed.

    HELLO      nonce                          signed; anybody may repeat it, and all it does is to ask for a WELCOME
    WELCOME    challenge                      signed together with the nonce of the HELLO that it answers
    others     channel's payload              signed together with the challenge

    1 byte channel | 8 bytes sender | 4 bytes counter | 1 byte length of the signature | signature | payload
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509

from atoll.mesh.signing import Signer, verify

_HEAD = struct.Struct(">B8sI")
_NONCE_SIZE = 16
_WINDOW = 1024
"""Messages that may overtake one another: those of the queue for big ones, and those that go past it."""


class Channel(enum.IntEnum):
    """What a message is for."""

    HELLO = 0
    WELCOME = 1
    PROBE = 2
    SYNC = 3
    WHO = 4
    VOUCH = 5


class Rejected(Exception):  # noqa: N818 - what happened, as Refused is
    """A message that is not listened to.

    Attributes:
        reason: one word, to count by.
        sender: the site that it says it is from, if it is a member.
    """

    def __init__(self, reason: str, sender: str | None = None) -> None:
        super().__init__(f"{reason}, said to be from {sender}" if sender else reason)
        self.reason = reason
        self.sender = sender


@dataclass(frozen=True)
class Opened:
    """A message that is genuine."""

    sender: str
    channel: Channel
    payload: bytes


def short(fingerprint: str) -> bytes:
    """The 8 bytes that stand for a certificate in an envelope."""
    return bytes.fromhex(fingerprint[:16])


@dataclass
class _Incoming:
    """What a peer's messages must be signed with."""

    challenge: bytes
    nonce: bytes  # of the HELLO that it was given for
    highest: int = -1
    window: int = 0

    def fresh(self, counter: int) -> bool:
        behind = self.highest - counter
        return behind < 0 or (behind < _WINDOW and not self.window >> behind & 1)

    def take(self, counter: int) -> None:
        ahead = counter - self.highest
        if ahead > 0:
            self.window = (self.window << min(ahead, _WINDOW) | 1) & ((1 << _WINDOW) - 1)
            self.highest = counter
        else:
            self.window |= 1 << -ahead


@dataclass
class _Peer:
    nonce: bytes = b""  # of our HELLO that is not answered
    challenge: bytes = b""  # what we sign with
    counter: int = 0
    current: _Incoming | None = None
    promised: _Incoming | None = None  # given in a WELCOME, not used yet
    previous: _Incoming | None = None  # what was sent over a link that hung may come after what was sent over the next


@dataclass
class Envelopes:
    """Seals what this site sends and opens what it receives.

    Attributes:
        cloud: its name; messages of another do not verify.
        fingerprint: of this site's certificate (SHA-256, hexadecimal).
        signer: this site's key.
        member: the name and the certificate of the admitted, unrevoked member that 8 bytes stand for.
        fingerprint_of: of a member.
        random_bytes: a source of them.
    """

    cloud: str
    fingerprint: str
    signer: Signer
    member: Callable[[bytes], tuple[str, x509.Certificate] | None]
    fingerprint_of: Callable[[str], str | None]
    random_bytes: Callable[[int], bytes]
    _peers: dict[str, _Peer] = field(default_factory=dict)

    def forget(self, name: str) -> None:
        """The site is no member any more, or has another certificate."""
        self._peers.pop(name, None)

    def ready(self, name: str) -> bool:
        """Whether messages to a member can be sealed: it has answered a HELLO."""
        return bool(self._peer(name).challenge)

    def hello(self, name: str, payload: bytes = b"") -> bytes:
        """Ask a member for its challenge.

        Raises:
            KeyError: no member has that name.
        """
        peer = self._peer(name)
        # Until it is answered it is the same question: the answer to an earlier HELLO serves as well.
        peer.nonce = peer.nonce or self.random_bytes(_NONCE_SIZE)
        return self._seal(name, Channel.HELLO, 0, b"", peer.nonce + payload)

    def seal(self, name: str, channel: Channel, payload: bytes) -> bytes | None:
        """A message to a member; None as long as it has not answered a HELLO.

        Raises:
            KeyError: no member has that name.
        """
        peer = self._peer(name)
        if not peer.challenge:
            return None
        peer.counter += 1
        return self._seal(name, channel, peer.counter, peer.challenge, payload)

    def open(self, data: bytes) -> Opened:
        """Check a message. A HELLO's payload is what it carries beside the nonce; answer it with `welcome`.

        Raises:
            Rejected: it is malformed, of no member, not signed by that member for this site, or not new.
        """
        head, signature, payload = _split(data)
        channel, sender, counter = Channel(head[0]), *_HEAD.unpack(head)[1:]
        found = self.member(sender)
        if found is None:
            raise Rejected("stranger")
        name, certificate = found
        peer = self._peer(name)

        def genuine(secret: bytes) -> bool:
            return verify(certificate, self._signed(self.fingerprint, head, secret, payload), signature)

        if channel is Channel.HELLO:
            if len(payload) < _NONCE_SIZE or not genuine(b""):
                raise Rejected("forged", name)
        elif channel is Channel.WELCOME:
            if not peer.nonce:
                raise Rejected("late", name)
            if len(payload) != _NONCE_SIZE or not genuine(peer.nonce):
                raise Rejected("forged", name)
            peer.nonce, peer.challenge, peer.counter = b"", payload, 0
        else:
            self._take(name, peer, counter, genuine)
        return Opened(name, channel, payload)

    def welcome(self, hello: Opened) -> tuple[bytes, bytes]:
        """The answer to a HELLO, and what the HELLO carried."""
        peer = self._peer(hello.sender)
        nonce = hello.payload[:_NONCE_SIZE]
        if peer.promised is None or peer.promised.nonce != nonce:
            peer.promised = _Incoming(self.random_bytes(_NONCE_SIZE), nonce)
        return self._seal(hello.sender, Channel.WELCOME, 0, nonce, peer.promised.challenge), hello.payload[_NONCE_SIZE:]

    def _take(self, name: str, peer: _Peer, counter: int, genuine: Callable[[bytes], bool]) -> None:
        for incoming in (peer.current, peer.promised, peer.previous):
            if incoming is not None and genuine(incoming.challenge):
                if not incoming.fresh(counter):
                    raise Rejected("replayed", name)
                incoming.take(counter)
                if incoming is peer.promised:
                    peer.previous, peer.current, peer.promised = peer.current, incoming, None
                return
        raise Rejected("forged" if peer.current else "unexpected", name)

    def _seal(self, name: str, channel: Channel, counter: int, secret: bytes, payload: bytes) -> bytes:
        receiver = self.fingerprint_of(name)
        if receiver is None:
            raise KeyError(name)
        head = _HEAD.pack(channel, short(self.fingerprint), counter)
        signature = self.signer.sign(self._signed(receiver, head, secret, payload))
        return head + bytes([len(signature)]) + signature + payload

    def _signed(self, receiver: str, head: bytes, secret: bytes, payload: bytes) -> bytes:
        text = f"atoll mesh 1\n{self.cloud}\n{receiver}\n{head.hex()}\n{secret.hex()}\n"
        return text.encode() + hashlib.sha256(payload).digest()

    def _peer(self, name: str) -> _Peer:
        return self._peers.setdefault(name, _Peer())


def carried(data: bytes) -> bytes:
    """What a HELLO carries beside its nonce, whoever sent it: nothing of it is checked.

    Raises:
        Rejected: it is no HELLO.
    """
    head, _, payload = _split(data)
    if head[0] != Channel.HELLO:
        raise Rejected("stranger")
    return payload[_NONCE_SIZE:]


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The head, the signature and the payload."""
    size = _HEAD.size
    if len(data) <= size or data[0] not in list(Channel) or len(data) <= size + data[size]:
        raise Rejected("malformed")
    end = size + 1 + data[size]
    return data[:size], data[size + 1 : end], data[end:]
