"""The protocol between peers: sends and receives probes, coordinates, the document's messages and vouchers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atoll.mesh import swim
from atoll.mesh.agreed_time import AgreedTime
from atoll.mesh.document import Document, Refused
from atoll.mesh.envelope import Channel, Envelopes, Opened, Rejected, carried
from atoll.mesh.members import Card
from atoll.mesh.membership import Membership
from atoll.mesh.parts import Part
from atoll.mesh.probes import ProbeMessage
from atoll.mesh.sync import DocumentSync
from atoll.mesh.sync import Message as Said
from atoll.mesh.transport import MakeTransport, Transport
from atoll.mesh.vivaldi import Coordinate, Vivaldi
from atoll.zenoh_link.config import Tls

_LOG = logging.getLogger(__name__)

_GREET_S = 2.0
"""Seconds between two HELLOs to a member that does not answer them."""
_RENEW_S = 3.0
"""Seconds without an answer after which a link is replaced: TCP would repeat lost packets at ever longer intervals."""
_FILE_S = 1.0
_WHO_S = 2.0
_LOG_S = 10.0
_HOLD_S = 2.0
"""Seconds for which answers to a member are kept while this site's own link to it is being made; after that they would be useless."""
_SAMPLES = 4
_MAX_HELD = 64

_SPARE_S = 60.0
"""Seconds without a message after which a large cloud's site ends its link to a site that is not its neighbour."""


@dataclass(slots=True)
class _Peer:
    """The state of another site.

    Attributes:
        card: the site's address and certificate.
        coordinate: the site's own coordinate; `None` until it has sent one.
        samples: the last round trips, in milliseconds.
        clock_ms: the site's time of day in its last probe, in milliseconds since 1970.
        digest: the digest of the site's document in its last probe.
        acknowledged: the stamp of this site's last write at the time when the two documents were last equal.
        greeted: the time of the last HELLO to the site.
        renew_at: the time at which the link to the site is to be replaced.
        hello: a HELLO from the site that could not be answered for lack of a link.
        heard: the time of its last message.
        wanted: the time of the last message from or to the site; see `_SPARE_S`.
        held: messages that wait until the site has answered this one's HELLO, and their times.
    """

    card: Card
    coordinate: Coordinate | None = None
    samples: tuple[float, ...] = ()
    digest: bytes = b""
    clock_ms: int = 0
    acknowledged: int = 0
    greeted: float = -_GREET_S
    renew_at: float | None = None
    hello: Opened | None = None
    heard: float = -_HOLD_S
    wanted: float = -_SPARE_S
    held: list[tuple[float, Channel, bytes]] = field(default_factory=list)


class PeerProtocol:
    """The protocol of one node, in one event loop.

    Args:
        site: this site's name.
        envelopes: seals and opens messages.
        document: the replicated document.
        membership: the members according to the document.
        tls: this site's certificate, its key and the authority's certificate.
        time: receives the others' clocks.
        pace: the pace of the probes.
        rng: source of the random order of probes.
        on_change: called with the sites whose reachability may have changed.
        on_stranger: called on a message of an unknown site; returns True if more sites are known after it.
        on_vouched: called when vouchers have made a site known.
        make_transport: constructs the links to other sites.

    Attributes:
        unknown: unknown authors of received parts of the document.
        refused: the number of refused messages by reason.
    """

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        site: str,
        envelopes: Envelopes,
        document: Document,
        membership: Membership,
        tls: Tls,
        *,
        time: AgreedTime,
        pace: swim.SwimSettings,
        rng: random.Random,
        on_change: Callable[[frozenset[str]], None],
        on_stranger: Callable[[], bool],
        on_vouched: Callable[[], None],
        make_transport: MakeTransport = Transport,
    ) -> None:
        self.unknown: set[str] = set()
        self.refused: Counter[str] = Counter()
        self._site = site
        self._envelopes = envelopes
        self._document = document
        self._document_sync = DocumentSync(document, relay=self._relays)
        self._membership = membership
        self._time = time
        self._vivaldi = Vivaldi(rng)
        self._swim = swim.Swim(site, rng, self._rtt_s, self._measured, pace, lambda: time.now_ms() // 1000)
        self._on_change = on_change
        self._on_stranger = on_stranger
        self._on_vouched = on_vouched
        self._peers: dict[str, _Peer] = {}
        self._linked: set[str] = set()  # sites to which links are kept
        self._asked_for: dict[str, float] = {}
        self._logged: dict[tuple[str, str | None], float] = {}
        self._stranger_at = -_FILE_S
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self.transport = make_transport(site, tls, self._on_message, self._on_link, rng)
        self._handlers: dict[Channel, Callable[[str, bytes], None]] = {
            Channel.WELCOME: self._on_welcome,
            Channel.PROBE: self._on_probe,
            Channel.SYNC: self._on_sync,
            Channel.WHO: self._on_who,
            Channel.VOUCH: self._on_vouch,
        }

    async def start(self, host: str, port: int) -> None:
        """Start listening and probing.

        Raises:
            zenoh.ZError: the address and port can't be bound.
        """
        self._loop = asyncio.get_running_loop()
        await self.transport.start(host, port)
        self._document.on_update(self._on_update)
        self._tick()

    async def stop(self) -> None:
        """Stop sending and receiving."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.transport.stop()

    def follow(self, cards: Mapping[str, Card]) -> None:
        """Exchange messages with these sites, and with no others."""
        for name, peer in list(self._peers.items()):
            if name not in cards or cards[name].fingerprint != peer.card.fingerprint:
                self.transport.disconnect(name)
                self._linked.discard(name)
                self._envelopes.forget(name)
                del self._peers[name]
        self._swim.set_members(cards)
        self._time.keep(cards)
        for name, card in cards.items():
            if name not in self._peers:
                self._peers[name] = _Peer(card)
            elif self._peers[name].card != card:
                self._peers[name].card = card
                if name in self._linked:
                    self._link(name)
        self._follow_neighbours()
        self._settle()

    def _follow_neighbours(self) -> None:
        """Keep links to the sites that are to be probed, and for some time to others to which messages were sent."""
        now, near = self._loop.time(), self._swim.near()
        for name in [name for name in self._linked if name not in near and now - self._peers[name].wanted > _SPARE_S]:
            self._linked.discard(name)
            self.transport.disconnect(name)
        for name in near - self._linked:
            self._link(name)

    def _link(self, name: str) -> None:
        peer = self._peers[name]
        peer.wanted = self._loop.time()
        self._linked.add(name)
        self.transport.connect(name, peer.card.host, peer.card.mesh_port)

    def neighbours(self) -> list[str]:
        """Return the sites to which links are kept: all but in a large cloud."""
        return sorted(self._linked)

    # State of the other sites

    def reachable(self, name: str) -> bool:
        """Return whether a site answers this one."""
        return self._swim.reachable(name)

    def doubtful(self, name: str) -> bool:
        """Return whether a site does not answer, but is not considered dead yet."""
        return self._swim.doubtful(name)

    def equal(self, name: str) -> bool:
        """Return whether a site's document was equal to this one's at its last probe."""
        return name == self._site or (name in self._peers and self._peers[name].digest == self._document.digest())

    def acknowledged(self) -> int:
        """Return the stamp up to which every followed site has this site's writes; 0 if one of them has not answered yet."""
        return min((peer.acknowledged for peer in self._peers.values()), default=self._document.written)

    def rtt_ms(self, site: str, other: str) -> float | None:
        """Return the round trip between two sites in milliseconds, measured or else estimated; `None` if unknown."""
        if site == other:
            return 0.0
        if self._site in {site, other} and (peer := self._peers.get(other if site == self._site else site)) and peer.samples:
            return min(peer.samples)
        first, second = self._coordinate(site), self._coordinate(other)
        return first.distance(second) if first and second else None

    def report(self, name: str, *, ok: bool) -> None:
        """Record that a request to a site succeeded or failed. After a failure the site is probed immediately."""
        if ok:
            self._swim.vouch(name)
        else:
            self._send_probes(self._swim.doubt(name, self._loop.time()))
        self._settle()

    def probe(self, name: str) -> None:
        """Ping a site; the probe carries the document's digest."""
        self._send_probes(self._swim.probe(name, self._loop.time()))
        self._settle()

    def _coordinate(self, name: str) -> Coordinate | None:
        if name == self._site:
            return self._vivaldi.coordinate
        peer = self._peers.get(name)
        return peer.coordinate if peer else None

    def _rtt_s(self, name: str) -> float | None:
        rtt = self.rtt_ms(self._site, name)
        return None if rtt is None else rtt / 1000

    def _measured(self, name: str, rtt_s: float) -> None:
        peer = self._peers[name]
        self._time.observe(name, peer.clock_ms, rtt_s * 1000)  # the age is known only for an answer
        peer.samples = (*peer.samples, max(rtt_s * 1000, 0.001))[-_SAMPLES:]
        if peer.coordinate is not None:
            self._vivaldi.update(min(peer.samples), peer.coordinate)

    # Timer

    def _tick(self) -> None:
        now = self._loop.time()
        self._send_probes(self._swim.tick(now))
        self._follow_neighbours()
        for name in sorted(self._linked):
            peer = self._peers[name]
            if self.transport.linked(name) and not self._envelopes.ready(name):
                self._send_hello(name)
            if peer.renew_at is not None and peer.renew_at <= now:
                peer.renew_at = now + _RENEW_S
                self.transport.renew(name)
        self._settle()

    def _settle(self) -> None:
        """Apply the changes that SWIM found, and schedule the next `_tick`."""
        now = self._loop.time()
        changed = self._swim.changed()
        for name in changed & self._peers.keys():
            self._peers[name].renew_at = None if self._swim.reachable(name) else now + _RENEW_S
        if changed and self._swim.is_wide():
            self._follow_neighbours()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(max(min(self._swim.next_tick(), now + 1.0), now + 0.01), self._tick)
        if changed:
            self._on_change(changed)

    # Sending

    def _send(self, name: str, channel: Channel, payload: bytes) -> None:
        peer = self._peers.get(name)
        if peer is None:
            return
        on_demand = self._swim.is_wide() and name not in self._swim.near()
        if on_demand:
            self._want(name, peer)
        data = self._envelopes.seal(name, channel, payload) if self.transport.linked(name) else None
        if data is None:
            now = self._loop.time()
            if on_demand or now - peer.heard < _HOLD_S:
                peer.held = [*peer.held, (now, channel, payload)][-_MAX_HELD:]
        elif channel is Channel.PROBE:
            self.transport.send(name, data)
        else:
            self.transport.queue(name, data)

    def _want(self, name: str, peer: _Peer) -> None:
        """Keep a link to a site that is no neighbour for `_SPARE_S` seconds; make it if there is none."""
        peer.wanted = self._loop.time()
        if name not in self._linked:
            self._link(name)

    def _send_probes(self, outgoing: swim.Outgoing) -> None:
        if not outgoing:
            return
        coordinate, digest, clock_ms = self._vivaldi.coordinate, self._document_sync.hello(), self._time.own_ms()
        for name, message in outgoing:
            self._send(name, Channel.PROBE, ProbeMessage(message, coordinate, digest, clock_ms).encode())

    def _exchange_with(self, messages: list[Said]) -> None:
        for name, message in messages:
            self._send(name, Channel.SYNC, message)

    def _on_update(self, part: Part) -> None:
        messages = self._document_sync.live(part)
        for name in self._linked & self._swim.near():
            self._exchange_with([(name, message) for message in messages])

    def _relays(self) -> list[str]:
        """Return the sites to which others' changes of the document are to be passed on: a large cloud's neighbours."""
        return sorted(self._linked & self._swim.near()) if self._swim.is_wide() else []

    def _send_hello(self, name: str) -> None:
        peer, now = self._peers[name], self._loop.time()
        if self.transport.linked(name) and now - peer.greeted >= _GREET_S:
            peer.greeted = now
            self.transport.send(name, self._envelopes.hello(name, self._membership.own_vouchers()))

    # Receiving

    def _on_link(self, name: str, up: bool) -> None:
        peer = self._peers.get(name)
        if up and peer is not None:
            peer.greeted = -_GREET_S
            self._send_hello(name)
            if peer.hello is not None:
                self.transport.send(name, self._envelopes.welcome(peer.hello)[0])
                peer.hello = None

    def _on_message(self, data: bytes) -> None:
        try:
            opened = self._open(data)
        except Rejected as rejected:
            self._refuse(rejected.reason, rejected.sender)
            if rejected.sender in self._peers and rejected.reason != "late":
                self._send_hello(rejected.sender)  # one of the two sites has forgotten the other's challenge
            return
        if opened.sender in self._peers:
            self._peers[opened.sender].heard = self._loop.time()
        try:
            if opened.channel is Channel.HELLO:
                self._on_hello(opened)
            else:
                self._handlers[opened.channel](opened.sender, opened.payload)
        except (ValueError, Refused) as error:
            self._refuse("senseless", opened.sender, str(error))
        self._settle()

    def _open(self, data: bytes) -> Opened:
        try:
            return self._envelopes.open(data)
        except Rejected as rejected:
            if rejected.reason != "stranger":
                raise
            if not (self._take_vouchers(carried(data), of_member=False) or self._look_for_strangers()):
                raise
            return self._envelopes.open(data)

    def _take_vouchers(self, data: bytes, *, of_member: bool) -> bool:
        found = self._membership.take_vouchers(data, of_member=of_member)
        if found:
            self._on_vouched()
        return found

    def _look_for_strangers(self) -> bool:
        now = self._loop.time()
        if now - self._stranger_at < _FILE_S:
            return False
        self._stranger_at = now
        return self._on_stranger()

    def _refuse(self, reason: str, sender: str | None, why: str = "") -> None:
        self.refused[reason] += 1
        now = self._loop.time()
        if now - self._logged.get((reason, sender), -_LOG_S) >= _LOG_S:
            self._logged[reason, sender] = now
            _LOG.log(
                logging.DEBUG if reason == "late" else logging.WARNING,  # late: the second of two answers to one HELLO is ignored
                "refused a message that claims to be from %s: %s %s(%s so far)",
                sender or "an unknown site",
                reason,
                why and f"({why}) ",
                self.refused[reason],
            )

    def _on_hello(self, opened: Opened) -> None:
        name = opened.sender
        welcome, _ = self._envelopes.welcome(opened)
        peer = self._peers.get(name)
        if peer is None:
            return
        if self._swim.is_wide() and name not in self._swim.near():
            self._want(name, peer)
        if self.transport.send(name, welcome):
            self._send_hello(name)  # the site may have been restarted, and not know this one any more
        else:
            peer.hello = opened
            self.transport.renew(name)  # the site reaches this one: try now

    def _on_welcome(self, name: str, _payload: bytes) -> None:
        peer, now = self._peers.get(name), self._loop.time()
        held = peer.held if peer else []
        for since, channel, payload in held:
            if now - since < _HOLD_S:
                self._send(name, channel, payload)
        if peer:
            peer.held = []
        self.probe(name)

    def _on_probe(self, name: str, payload: bytes) -> None:
        peer = self._peers.get(name)
        if peer is None:
            return
        probe = ProbeMessage.decode(payload)
        peer.coordinate, peer.digest, peer.clock_ms = probe.coordinate, probe.digest, probe.clock_ms
        if probe.digest == self._document.digest():
            peer.acknowledged = self._document.written
        self._send_probes(self._swim.receive(name, probe.message, self._loop.time()))
        self._exchange_with(self._document_sync.on_hello(name, probe.digest))

    def _on_sync(self, name: str, payload: bytes) -> None:
        try:
            self._exchange_with(self._document_sync.on_message(name, payload))
        finally:
            unknown, now = self.unknown.copy(), self._loop.time()
            self.unknown.clear()
            for author in unknown:
                if now - self._asked_for.get(author, -_WHO_S) >= _WHO_S:
                    self._asked_for[author] = now
                    self._send(name, Channel.WHO, author.encode())

    def _on_who(self, name: str, payload: bytes) -> None:
        vouchers = self._membership.vouchers_for(payload.decode())
        if vouchers:
            self._send(name, Channel.VOUCH, vouchers)

    def _on_vouch(self, _name: str, payload: bytes) -> None:
        self._take_vouchers(payload, of_member=True)
