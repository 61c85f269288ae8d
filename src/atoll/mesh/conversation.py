"""What a node says to the others and makes of what they say: probes, coordinates, the document, who is who."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atoll.bus.zenoh_config import Tls
from atoll.mesh import swim
from atoll.mesh.agreed_time import AgreedTime
from atoll.mesh.document import Document, Refused
from atoll.mesh.envelope import Channel, Envelopes, Opened, Rejected, carried
from atoll.mesh.members import Card
from atoll.mesh.membership import Membership
from atoll.mesh.probes import Probe
from atoll.mesh.sync import Exchange
from atoll.mesh.sync import Message as Said
from atoll.mesh.transport import Transport
from atoll.mesh.vivaldi import Coordinate, Vivaldi

_LOG = logging.getLogger(__name__)

_GREET_S = 2.0
"""Between two HELLOs to a member that does not answer them."""
_RENEW_S = 3.0
"""A link over which a member does not answer for so long is replaced: TCP would repeat what was lost ever more seldom."""
_FILE_S = 1.0
_WHO_S = 2.0
_LOG_S = 10.0
_HOLD_S = 2.0
"""A member that speaks to us while our own link to it is being made has its answers when it is; later they would be of no use."""
_SAMPLES = 4


@dataclass
class _Peer:
    """What is known of another site.

    Attributes:
        card: where it is found, and its certificate.
        coordinate: where it says it is; None as long as it said nothing.
        samples: the last round trips, in milliseconds.
        clock_ms: its clock in the last probe, milliseconds since 1970.
        digest: of its document, when it last said.
        acknowledged: the last of our writes that it had, when its document was last equal to ours.
        greeted: when it was last sent a HELLO.
        renew_at: when its link is to be replaced.
        hello: of it, which is not answered because there was no link to it.
        heard: when something of it came.
        held: what is to be said to it when it has answered our HELLO, and since when.
    """

    card: Card
    coordinate: Coordinate | None = None
    samples: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    digest: bytes = b""
    clock_ms: int = 0
    acknowledged: int = 0
    greeted: float = -_GREET_S
    renew_at: float | None = None
    hello: Opened | None = None
    heard: float = -_HOLD_S
    held: deque[tuple[float, Channel, bytes]] = field(default_factory=lambda: deque(maxlen=64))


class Conversation:
    """A node's part in it. In one event loop.

    Args:
        site: this site's name.
        envelopes: seal and open messages.
        document: the replicated document.
        membership: who is a member.
        tls: this site's certificate, its key and the authority's certificate.
        time: told of the others' clocks.
        pace: of the probes.
        rng: for the order of probes.
        on_change: called when who is reached may have changed.
        on_stranger: called when somebody is not known; True if more is known after it.
        on_vouched: called when a voucher has made somebody known.

    Attributes:
        unknown: authors of whom parts of the document came and who are not known.
        refused: how many messages were not listened to, by reason.
    """

    def __init__(  # noqa: PLR0913 - what it stands on
        self,
        site: str,
        envelopes: Envelopes,
        document: Document,
        membership: Membership,
        tls: Tls,
        *,
        time: AgreedTime,
        pace: swim.Settings,
        rng: random.Random,
        on_change: Callable[[], None],
        on_stranger: Callable[[], bool],
        on_vouched: Callable[[], None],
    ) -> None:
        self.unknown: set[str] = set()
        self.refused: Counter[str] = Counter()
        self._site = site
        self._envelopes = envelopes
        self._document = document
        self._exchange = Exchange(document)
        self._membership = membership
        self._time = time
        self._vivaldi = Vivaldi(rng)
        self._swim = swim.Swim(site, rng, self._rtt_s, self._measured, pace)
        self._on_change = on_change
        self._on_stranger = on_stranger
        self._on_vouched = on_vouched
        self._peers: dict[str, _Peer] = {}
        self._asked_for: dict[str, float] = {}
        self._logged: dict[tuple[str, str | None], float] = {}
        self._stranger_at = -_FILE_S
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self.transport = Transport(site, tls, self._on_message, self._on_link, rng)
        self._handlers: dict[Channel, Callable[[str, bytes], None]] = {
            Channel.WELCOME: self._on_welcome,
            Channel.PROBE: self._on_probe,
            Channel.SYNC: self._on_sync,
            Channel.WHO: self._on_who,
            Channel.VOUCH: self._on_vouch,
        }

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            zenoh.ZError: nobody can, at this address and port.
        """
        self._loop = asyncio.get_running_loop()
        await self.transport.start(host, port)
        self._document.on_update(self._on_update)
        self._tick()

    async def stop(self) -> None:
        """Be silent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.transport.stop()

    def follow(self, cards: Mapping[str, Card]) -> None:
        """Talk with these sites, and with no others."""
        for name, peer in list(self._peers.items()):
            if name not in cards or cards[name].fingerprint != peer.card.fingerprint:
                self.transport.disconnect(name)
                self._envelopes.forget(name)
                del self._peers[name]
        self._swim.set_members(cards)
        self._time.keep(cards)
        for name, card in cards.items():
            self._peers.setdefault(name, _Peer(card)).card = card
            self.transport.connect(name, card.host, card.mesh_port)
        self._settle()

    # What is known of the others

    def reachable(self, name: str) -> bool:
        """Whether it answers this site."""
        return self._swim.reachable(name)

    def doubtful(self, name: str) -> bool:
        """Whether it does not answer, and may yet."""
        return self._swim.doubtful(name)

    def equal(self, name: str) -> bool:
        """Whether its document was equal to ours when it last said."""
        return name == self._site or (name in self._peers and self._peers[name].digest == self._document.digest())

    def acknowledged(self) -> int:
        """The stamp up to which each site that this one follows has had this site's writes; 0 if one of them has not been heard."""
        return min((peer.acknowledged for peer in self._peers.values()), default=self._document.written)

    def rtt_ms(self, a: str, b: str) -> float | None:
        """The round trip between two sites in milliseconds, measured if it was, estimated otherwise; None if unknown."""
        if a == b:
            return 0.0
        if self._site in {a, b} and (peer := self._peers.get(b if a == self._site else a)) and peer.samples:
            return min(peer.samples)
        one, two = self._coordinate(a), self._coordinate(b)
        return one.distance(two) if one and two else None

    def report(self, name: str, *, ok: bool) -> None:
        """A request to a site succeeded or failed. After a failure it is asked at once."""
        if ok:
            self._swim.vouch(name)
        else:
            self._say(self._swim.doubt(name, self._loop.time()))
        self._settle()

    def probe(self, name: str) -> None:
        """Ask whether it is there, and tell it the document's digest."""
        self._say(self._swim.probe(name, self._loop.time()))
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
        self._time.hear(name, peer.clock_ms, rtt_s * 1000)  # of an answer alone is known how long it may have been on its way
        peer.samples.append(max(rtt_s * 1000, 0.001))
        if peer.coordinate is not None:
            self._vivaldi.update(min(peer.samples), peer.coordinate)

    # Time passes

    def _tick(self) -> None:
        now = self._loop.time()
        self._say(self._swim.tick(now))
        for name, peer in self._peers.items():
            if self.transport.linked(name) and not self._envelopes.ready(name):
                self._greet(name)
            if peer.renew_at is not None and peer.renew_at <= now:
                peer.renew_at = now + _RENEW_S
                self.transport.renew(name)
        self._settle()

    def _settle(self) -> None:
        """Follow what SWIM found, and see to it that `_tick` is called when there is something to do."""
        now = self._loop.time()
        changed = self._swim.changed()
        for name in changed & self._peers.keys():
            self._peers[name].renew_at = None if self._swim.reachable(name) else now + _RENEW_S
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(max(min(self._swim.next_tick(), now + 1.0), now + 0.01), self._tick)
        if changed:
            self._on_change()

    # Saying

    def _send(self, name: str, channel: Channel, payload: bytes) -> None:
        peer = self._peers.get(name)
        if peer is None:
            return
        data = self._envelopes.seal(name, channel, payload) if self.transport.linked(name) else None
        if data is None:
            now = self._loop.time()
            if now - peer.heard < _HOLD_S:
                peer.held.append((now, channel, payload))
        elif channel is Channel.PROBE:
            self.transport.send(name, data)
        else:
            self.transport.queue(name, data)

    def _say(self, outgoing: swim.Outgoing) -> None:
        coordinate, digest, clock_ms = self._vivaldi.coordinate, self._exchange.hello(), self._time.own_ms()
        for name, message in outgoing:
            self._send(name, Channel.PROBE, Probe(message, coordinate, digest, clock_ms).encode())

    def _exchange_with(self, messages: list[Said]) -> None:
        for name, message in messages:
            self._send(name, Channel.SYNC, message)

    def _on_update(self, update: bytes) -> None:
        messages = self._exchange.live(update)
        for name in self._peers:
            self._exchange_with([(name, message) for message in messages])

    def _greet(self, name: str) -> None:
        peer, now = self._peers[name], self._loop.time()
        if self.transport.linked(name) and now - peer.greeted >= _GREET_S:
            peer.greeted = now
            self.transport.send(name, self._envelopes.hello(name, self._membership.own_vouchers()))

    # Hearing

    def _on_link(self, name: str, up: bool) -> None:
        peer = self._peers.get(name)
        if up and peer is not None:
            peer.greeted = -_GREET_S
            self._greet(name)
            if peer.hello is not None:
                self.transport.send(name, self._envelopes.welcome(peer.hello)[0])
                peer.hello = None

    def _on_message(self, data: bytes) -> None:
        try:
            opened = self._open(data)
        except Rejected as rejected:
            self._refuse(rejected.reason, rejected.sender)
            if rejected.sender in self._peers and rejected.reason != "late":
                self._greet(rejected.sender)  # one of us two has forgotten the other's challenge
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
                logging.DEBUG if reason == "late" else logging.WARNING,  # late: of two answers to one HELLO the second is of no use
                "a message said to be from %s is refused: %s %s(%s so far)",
                sender,
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
        if self.transport.send(name, welcome):
            self._greet(name)  # it may have been started anew, and not know us any more
        else:
            peer.hello = opened
            self.transport.renew(name)  # it reaches us: try at once

    def _on_welcome(self, name: str, _payload: bytes) -> None:
        peer, now = self._peers.get(name), self._loop.time()
        held = list(peer.held) if peer else []
        for since, channel, payload in held:
            if now - since < _HOLD_S:
                self._send(name, channel, payload)
        if peer:
            peer.held.clear()
        self.probe(name)

    def _on_probe(self, name: str, payload: bytes) -> None:
        peer = self._peers.get(name)
        if peer is None:
            return
        probe = Probe.decode(payload)
        peer.coordinate, peer.digest, peer.clock_ms = probe.coordinate, probe.digest, probe.clock_ms
        if probe.digest == self._document.digest():
            peer.acknowledged = self._document.written
        self._say(self._swim.receive(name, probe.message, self._loop.time()))
        self._exchange_with(self._exchange.on_hello(name, probe.digest))

    def _on_sync(self, name: str, payload: bytes) -> None:
        try:
            self._exchange_with(self._exchange.on_message(name, payload))
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
