"""Fuzz targets without sockets for the mesh, the join port, the bus and the name server of guests.

Each target receives the bytes of an attacker: a stranger; or a member, a node of the bus or the holder of a join token, with valid
signatures.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import msgpack
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ports import Finding, Target

from atoll.bus import frames, payload
from atoll.bus.frames import MalformedFrameError, MessageId, Question, Reply, Request
from atoll.bus.keys import Inbox, Keys, read_listener
from atoll.bus.listener import Mailbox, Subject
from atoll.errors import AtollError
from atoll.identity.rules import rules as identity_rules
from atoll.mesh.admission import Invitations, InvitationService, _signed_request
from atoll.mesh.certificates import authority
from atoll.mesh.envelope import Channel, Opened
from atoll.mesh.members import Card
from atoll.mesh.node import Mesh, MeshOptions
from atoll.mesh.signing import Signer
from atoll.mesh.stream import Stream
from atoll.mesh.sync import _Kind
from atoll.services.neutron.ovn import resolver

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "bus"))
from fakes import FakeNode

START_MS = 1_800_000_000_000
LONGEST_S = 2.0
"""Greatest processor time for one input, in seconds."""


class _Timed:
    """A context that raises a finding if an input takes too long."""

    def __enter__(self) -> None:
        self._begun = time.process_time()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and (took := time.process_time() - self._begun) > LONGEST_S:
            raise Finding(f"it took {took:.1f} s")


# --- The mesh


class _Transport:
    """A transport of a node that drops all messages."""

    traffic = SimpleNamespace(sent=0, received=0, dropped=0)

    async def start(self, _host: str, _port: int) -> None:
        pass

    def send(self, _name: str, _data: bytes) -> bool:
        return True

    queue = send

    def linked(self, _name: str) -> bool:
        return True

    def connect(self, *_: object) -> None:
        pass

    disconnect = renew = connect


class MeshPort:
    """A node that knows one other site, the hostile `lyon`.

    The first byte says what follows: 0 a message as it arrives; 1 to 6 the payload of a message of that channel, signed by lyon; 7 entries,
    of which lyon writes and signs a stream: a name and a text in turn, each ended by a zero byte.
    """

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="fuzz"))
        made = authority(self._home / "ca", "fuzz")
        for number, name in enumerate(("paris", "lyon"), 1):
            made.certify(self._home / name, name, f"127.0.4.{number}")
        cards = [self._options(name, number).card().dump() for number, name in enumerate(("paris", "lyon"), 1)]
        (self._home / "members.json").write_text(json.dumps(cards))
        self._signer = Signer((self._home / "lyon" / "key.pem").read_bytes())
        self._loop = asyncio.new_event_loop()
        self._count = 0
        self._loop.run_until_complete(self._open())

    def _options(self, name: str, number: int) -> MeshOptions:
        return MeshOptions(
            cloud="fuzz",
            site=name,
            host=f"127.0.4.{number}",
            public_port=1,
            peer_port=2,
            mesh_port=3,
            tls=self._home / name,
            data=self._home / "data",
            members_file=self._home / "members.json",
            rules=identity_rules(),
        )

    async def _open(self) -> None:
        self.mesh = Mesh(self._options("paris", 1), lambda: START_MS)
        self._talk: Any = self.mesh._protocol
        self._talk.transport = _Transport()
        await self.mesh.start()

    def feed(self, data: bytes) -> None:
        """Receive the bytes of a message.

        Raises:
            Finding: the code behaved incorrectly.
        """
        if not data:
            return
        self._loop.run_until_complete(self._feed(data[0] % 8, data[1:]))

    async def _feed(self, kind: int, data: bytes) -> None:
        before = self.mesh.document.part("paris"), frozenset(self.mesh.members())
        talk, genuine = self._talk, self._talk._envelopes.open
        channels = {channel.value: channel for channel in Channel}
        try:
            if kind == 7:
                kind, data = Channel.SYNC.value, self._written(data)
            if kind and kind in channels:
                talk._envelopes.open = lambda _: Opened("lyon", channels[kind], data)
            with _Timed():
                talk._on_message(data)
                await asyncio.sleep(0)
        finally:
            talk._envelopes.open = genuine
        if (self.mesh.document.part("paris"), frozenset(self.mesh.members())) != before:
            raise Finding("another member's bytes changed what this site says, or made a member")

    def _written(self, data: bytes) -> bytes:
        """Return a message of lyon with entries that the rules forbid."""
        texts = [text.decode("latin-1") for text in data.split(b"\0")]
        self._count += 1
        stamp = (START_MS << 16) + self._count
        entries = dict(zip(texts[::2], texts[1::2], strict=False)) or {"": ""}
        part = Stream("lyon").write(entries, {}, generation=stamp, stamp=stamp, signer=self._signer)
        return bytes(msgpack.packb([_Kind.PART.value, part.pack()]))


# --- The join port


class JoinPort:
    """An invitation service that receives each body twice: as a stranger's, and with a valid proof of a token."""

    def __init__(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="fuzz"))
        made = authority(home / "ca", "fuzz")
        made.certify(home / "tls", "paris", "127.0.0.1")
        own = Card("paris", "127.0.0.1", 1, 2, 3, (home / "tls" / "cert.pem").read_text())
        self._cards = {"paris": own}
        self._invitations = Invitations(home / "invitations.db", lambda: START_MS)
        self._id, secret = self._invitations.issue("lyon", 3600)
        self._secret = Ed25519PrivateKey.from_private_bytes(secret)
        self._invitation_service = InvitationService(
            cloud="fuzz",
            own=own,
            authority=(home / "tls" / "ca.pem").read_text(),
            signer=Signer((home / "tls" / "key.pem").read_bytes()),
            invitations=self._invitations,
            known=lambda: self._cards,
            is_active=lambda _name: True,
            admit=lambda card: self._cards.update({card.name: card}),
            sign=made.sign_request,
        )

    def feed(self, data: bytes) -> None:
        """Receive the body of a request, as `gateway.app` does.

        Raises:
            Finding: the code behaved incorrectly.
        """
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        self._redeem(body)
        if self._cards.keys() != {"paris"}:
            raise Finding("a stranger has become a member")
        if isinstance(body, dict) and isinstance(body.get("request"), str):
            try:
                proof = self._secret.sign(_signed_request(self._id, body["request"], body.get("card")))
            except AtollError:
                return
            self._redeem({**body, "id": self._id, "proof": base64.b64encode(proof).decode()})
            if not self._cards.keys() <= {"paris", "lyon"}:
                raise Finding(f"a token for lyon has made {sorted(self._cards)} members")
            if self._cards.pop("lyon", None) is not None:
                self._invitations.release(self._id)

    def _redeem(self, body: object) -> None:
        with suppress(AtollError), _Timed():
            orjson.dumps(self._invitation_service.redeem(body))


# --- The bus


class BusPort:
    """A listener, and the parsers of frames and keys."""

    def __init__(self) -> None:
        self._node = FakeNode()
        self._inbox = Inbox(Keys(""), 1)

    def feed(self, data: bytes) -> None:
        """Receive the bytes of a frame.

        Raises:
            Finding: the code behaved incorrectly.
        """
        delivered: list[Any] = []
        mailbox = Mailbox(self._node, [Subject("rpc", "e", "t", "s")], delivered.append, seen_per_sender=100, journal_dir=None)
        mailbox.open()
        try:
            with _Timed():
                self._receive(mailbox, data)
        finally:
            mailbox.close()
            del self._node.sent[:]
        text = data.decode("latin-1")
        for read in (read_listener, self._inbox.read):
            with suppress(ValueError):
                read(text)

    def _receive(self, mailbox: Mailbox, data: bytes) -> None:
        try:
            frame = frames.decode(data)
        except MalformedFrameError:
            return
        if frames.decode(frames.encode(frame)) != frame:
            raise Finding(f"written and read it is another frame: {frame}")
        if isinstance(frame, Request):
            mailbox.accept(frame)
            mailbox.accept(frame)
            mailbox.answer(Question(frame.id, 1, mailbox.instance))
        elif isinstance(frame, Question):
            mailbox.answer(frame)
        elif isinstance(frame, Reply):
            with suppress(ValueError):
                payload.decode(frame.body)
        if any(not isinstance(each.id, MessageId) for _, each in self._node.sent):
            raise Finding("an answer to no message")


# --- The name server of guests


def names(data: bytes) -> None:
    """Resolve the question of a guest, as `Resolver._receive` does.

    Raises:
        Finding: the code behaved incorrectly.
    """
    try:
        query = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError):
        return
    if query.flags & dns.flags.QR or query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        return
    with _Timed():
        reply = resolver.answer(query, {"web.cloud": "10.0.0.5 fd00::5", "5.0.0.10.in-addr.arpa": "web.cloud"}, "cloud")
        if reply is not None:
            reply.to_wire()


logging.getLogger("atoll").addHandler(logging.NullHandler())
logging.getLogger("atoll").propagate = False

_PORTS: dict[str, Any] = {"mesh": MeshPort, "join": JoinPort, "bus": BusPort}


def target(name: str) -> Target | None:
    """Return the function to fuzz, or `None` if it belongs to another module."""
    return names if name == "names" else _PORTS[name]().feed if name in _PORTS else None
