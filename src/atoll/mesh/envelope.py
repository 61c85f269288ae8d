"""Envelopes: messages between two members, signed by the sender for one receiver, and accepted once.

The TLS connection below proves only that a peer has a certificate of the cloud's authority. An envelope proves which member it is, by the
key of the certificate that the member was admitted with. Before a site's first message the receiver sends it a *challenge*: 16 random
bytes, which every later message signs but does not repeat. So a message for another receiver, or for an earlier life of this one, does not
verify; and a window of counters (RFC 4303, section 3.4.3) refuses repeated ones. No clock is needed.

    HELLO      nonce                          signed; anybody may repeat it, and it only asks for a WELCOME
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
_NONCE_BYTES = 16
_WINDOW = 1024
"""The number of messages by which one may overtake another: small messages go past queued large ones."""


class Channel(enum.IntEnum):
    """The purpose of a message, by its number."""

    HELLO = 0
    WELCOME = 1
    PROBE = 2
    SYNC = 3
    WHO = 4
    VOUCH = 5


class Rejected(Exception):
    """The refusal of a message.

    Attributes:
        reason: one word, under which refusals are counted.
        sender: the site that the message names as its sender, if that is a member.
    """

    def __init__(self, reason: str, sender: str | None = None) -> None:
        super().__init__(f"{reason}, claims to be from {sender}" if sender else reason)
        self.reason = reason
        self.sender = sender


@dataclass(frozen=True)
class Opened:
    """The content of a message whose signature was verified."""

    sender: str
    channel: Channel
    payload: bytes


def short(fingerprint: str) -> bytes:
    """Return the 8 bytes that identify a certificate in an envelope."""
    return bytes.fromhex(fingerprint[:16])


@dataclass
class _Incoming:
    """The challenge that a peer's messages must sign, and the counters seen."""

    challenge: bytes
    nonce: bytes  # the nonce of the HELLO that asked for it
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
    nonce: bytes = b""  # of this site's HELLO that has no answer yet
    challenge: bytes = b""  # which this site's messages sign
    counter: int = 0
    current: _Incoming | None = None
    promised: _Incoming | None = None  # sent in a WELCOME, not used yet
    previous: _Incoming | None = None  # messages of a hung link may arrive after messages of the next link


@dataclass
class Envelopes:
    """Seals the messages of this site, and opens those that it receives.

    Attributes:
        cloud: the cloud's name; messages of another cloud do not verify.
        fingerprint: the fingerprint of this site's certificate (SHA-256, hexadecimal).
        signer: this site's key.
        member: returns the name and the certificate of the admitted member with a fingerprint, given as `short` returns it.
        fingerprint_of: returns the fingerprint of a member.
        random_bytes: returns a number of random bytes.
    """

    cloud: str
    fingerprint: str
    signer: Signer
    member: Callable[[bytes], tuple[str, x509.Certificate] | None]
    fingerprint_of: Callable[[str], str | None]
    random_bytes: Callable[[int], bytes]
    _peers: dict[str, _Peer] = field(default_factory=dict)

    def forget(self, name: str) -> None:
        """Drop the state of a site that is no longer a member, or has another certificate."""
        self._peers.pop(name, None)

    def ready(self, name: str) -> bool:
        """Return whether messages to a member can be sealed: it has answered a HELLO."""
        return bool(self._peer(name).challenge)

    def hello(self, name: str, payload: bytes = b"") -> bytes:
        """Return a HELLO, which asks a member for its challenge.

        Raises:
            KeyError: no member has that name.
        """
        peer = self._peer(name)
        # Until it is answered, the nonce stays: the answer to an earlier HELLO is valid too.
        peer.nonce = peer.nonce or self.random_bytes(_NONCE_BYTES)
        return self._seal(name, Channel.HELLO, 0, b"", peer.nonce + payload)

    def seal(self, name: str, channel: Channel, payload: bytes) -> bytes | None:
        """Return a sealed message to a member; `None` until it has answered a HELLO.

        Raises:
            KeyError: no member has that name.
        """
        peer = self._peer(name)
        if not peer.challenge:
            return None
        peer.counter += 1
        return self._seal(name, channel, peer.counter, peer.challenge, payload)

    def open(self, data: bytes) -> Opened:
        """Verify a message, and return its content. The payload of a HELLO is returned without the nonce; answer a HELLO with `welcome`.

        Raises:
            Rejected: the message is malformed, from no member, not signed by that member for this site, or repeated.
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
            if len(payload) < _NONCE_BYTES or not genuine(b""):
                raise Rejected("forged", name)
        elif channel is Channel.WELCOME:
            if not peer.nonce:
                raise Rejected("late", name)
            if len(payload) != _NONCE_BYTES or not genuine(peer.nonce):
                raise Rejected("forged", name)
            peer.nonce, peer.challenge, peer.counter = b"", payload, 0
        else:
            self._take(name, peer, counter, genuine)
        return Opened(name, channel, payload)

    def welcome(self, hello: Opened) -> tuple[bytes, bytes]:
        """Return the answer to a HELLO, and the payload that the HELLO carried."""
        peer = self._peer(hello.sender)
        nonce = hello.payload[:_NONCE_BYTES]
        if peer.promised is None or peer.promised.nonce != nonce:
            peer.promised = _Incoming(self.random_bytes(_NONCE_BYTES), nonce)
        return self._seal(hello.sender, Channel.WELCOME, 0, nonce, peer.promised.challenge), hello.payload[_NONCE_BYTES:]

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
    """Return the payload of a HELLO without its nonce. Neither is verified.

    Raises:
        Rejected: the message is not a HELLO.
    """
    head, _, payload = _split(data)
    if head[0] != Channel.HELLO:
        raise Rejected("stranger")
    return payload[_NONCE_BYTES:]


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the head, the signature and the payload."""
    size = _HEAD.size
    if len(data) <= size or data[0] not in list(Channel) or len(data) <= size + data[size]:
        raise Rejected("malformed")
    end = size + 1 + data[size]
    return data[:size], data[size + 1 : end], data[end:]
