"""Failure detection of members, by direct and indirect probes, and gossip about the results.

The protocol is SWIM (Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", DSN 2002)
with suspicion and incarnation numbers (section 4.2), probes in round-robin order (4.3) and gossip that rides on probes (4.1). It differs in
three points:

- Dead members are not removed: the roster decides which sites belong to the cloud. They are still probed, and become alive again when they
  answer.
- Two states are distinguished. The group's opinion (`state`) is whether a site is alive. For requests, it matters whether the site is
  reached *from here* (`reachable`): a site may be alive while the link to it is cut.
- A suspicion is sent to all members at the same time, since there are few sites, and each member probes the suspect itself.

The module does no I/O: the clock is an argument, and messages are returned.
"""

from __future__ import annotations

import enum
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MAX_INCARNATION = (1 << 32) - 1
_MAX_LATE = 64


class PeerState(enum.IntEnum):
    """The group's opinion of a member; of two opinions with the same incarnation number, that with the greater value overrides."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2


@dataclass(frozen=True)
class News:
    """An opinion about a member.

    Attributes:
        name: the member's name.
        state: the opinion.
        incarnation: a number that only the member itself increases, to contradict an opinion.
    """

    name: str
    state: PeerState
    incarnation: int

    @property
    def rank(self) -> tuple[int, PeerState]:
        """The rank of this news; news of a higher rank about the same peer replaces news of a lower rank."""
        return self.incarnation, self.state


@dataclass(frozen=True)
class Ping:
    """A request for an `Ack` with the same number."""

    number: int
    news: tuple[News, ...] = ()


@dataclass(frozen=True)
class Ack:
    """The answer to a `Ping`, or to an `Ask` if the target answered."""

    number: int
    news: tuple[News, ...] = ()


@dataclass(frozen=True)
class Ask:
    """A request to ping `target` on the sender's behalf."""

    number: int
    target: str
    news: tuple[News, ...] = ()


@dataclass(frozen=True)
class Gossip:
    """Opinions that are sent without waiting for the next probe."""

    news: tuple[News, ...] = ()


Message = Ping | Ack | Ask | Gossip
Outgoing = list[tuple[str, Message]]


@dataclass(frozen=True)
class SwimSettings:
    """The pace of the protocol.

    Attributes:
        period_s: seconds between two probes of the round.
        min_timeout_s: the shortest wait for the answer to a probe, in seconds.
        max_timeout_s: the longest wait, in seconds; also the wait while the round trip is unknown.
        retry_s: seconds between two probes of a member that does not answer.
        suspicion_s: seconds that a member has to contradict a suspicion.
        helpers: the number of other members that are asked to probe.
        max_news: the greatest number of opinions in one message.
    """

    period_s: float = 5.0
    min_timeout_s: float = 0.8
    max_timeout_s: float = 1.5
    retry_s: float = 2.0
    suspicion_s: float = 5.0
    helpers: int = 3
    max_news: int = 6


@dataclass
class _Peer:
    state: PeerState = PeerState.ALIVE
    incarnation: int = 0
    reached: bool = False
    misses: int = 0
    suspected_until: float = math.inf
    last_ping: float = -math.inf


@dataclass
class _Probe:
    target: str
    sent: float
    deadline: float
    helped: bool = False  # other members were asked to ping it, too
    alive: bool = False  # one of them reported that it answers
    asker: tuple[str, int] | None = None  # the member that asked for the probe, and its number


@dataclass
class _Rumour:
    news: News
    left: int


@dataclass
class Swim:
    """The protocol as one site runs it.

    Attributes:
        name: this site's name.
        rng: source of the random order of probes and choice of helpers.
        rtt_s: returns the round trip to a member in seconds; `None` if unknown.
        on_rtt: called with each measurement, in seconds.
        settings: the pace.
    """

    name: str
    rng: random.Random
    rtt_s: Callable[[str], float | None] = lambda _name: None
    on_rtt: Callable[[str, float], None] = lambda _name, _rtt: None
    settings: SwimSettings = field(default_factory=SwimSettings)

    def __post_init__(self) -> None:
        self.incarnation = 0
        self._peers: dict[str, _Peer] = {}
        self._round: list[str] = []
        self._next_round = -math.inf
        self._number = self.rng.randrange(1 << 24)
        self._probes: dict[int, _Probe] = {}
        self._late: OrderedDict[int, _Probe] = OrderedDict()  # given up; but an answer may still come
        self._rumours: dict[str, _Rumour] = {}
        self._changed: set[str] = set()

    # State of the members

    def state(self, name: str) -> PeerState:
        """Return the group's opinion of a member, as far as this site has learnt it."""
        return self._peers[name].state

    def reachable(self, name: str) -> bool:
        """Return whether a member answers this site's own probes, not only those of other members."""
        peer = self._peers.get(name)
        return peer is not None and peer.reached

    def doubtful(self, name: str) -> bool:
        """Return whether a member does not answer this site, but the group has not declared it dead yet."""
        peer = self._peers.get(name)
        return peer is not None and not peer.reached and peer.state is not PeerState.DEAD and peer.misses < 2

    def changed(self) -> frozenset[str]:
        """Return the members whose state or reachability has changed since the last call."""
        changed, self._changed = frozenset(self._changed), set()
        return changed

    def set_members(self, names: Iterable[str]) -> None:
        """Set the members to probe; this site itself may be among them."""
        wanted = set(names) - {self.name}
        for name in set(self._peers) - wanted:
            del self._peers[name]
            self._rumours.pop(name, None)
            self._changed.add(name)
        for name in sorted(wanted - set(self._peers)):
            self._peers[name] = _Peer()
            self._changed.add(name)

    # Events

    def next_tick(self) -> float:
        """Return the time at which `tick` has work to do."""
        probed = {probe.target for probe in self._probes.values() if probe.asker is None}
        times = [self._next_round, *(probe.deadline for probe in self._probes.values())]
        for name, peer in self._peers.items():
            times.append(peer.suspected_until)
            if not peer.reached and name not in probed:
                times.append(peer.last_ping + self.settings.retry_s)
        return min(times)

    def tick(self, now: float) -> Outgoing:
        """Handle missing answers, and return the probes that are due, to be sent."""
        out: Outgoing = []
        for number, probe in [(number, probe) for number, probe in self._probes.items() if probe.deadline <= now]:
            self._give_up(number, probe)
            out += self._on_silence(probe, now)
        for name, peer in self._peers.items():
            if peer.suspected_until <= now:
                out += self._spread(News(name, PeerState.DEAD, peer.incarnation), now)
            if not peer.reached and peer.last_ping + self.settings.retry_s <= now:
                out += self.probe(name, now)
        if self._next_round <= now:
            self._next_round = now + self.settings.period_s
            out += self.probe(self._next_target(), now) if self._peers else []
        return out

    def probe(self, name: str, now: float) -> Outgoing:
        """Return a ping to a member, to be sent now; nothing if a ping to it is under way."""
        if name not in self._peers or any(probe.target == name and probe.asker is None for probe in self._probes.values()):
            return []
        return self._ping(name, now)

    def doubt(self, name: str, now: float) -> Outgoing:
        """Record a failed request to a member, which is unreachable until it answers a probe; return that probe."""
        peer = self._peers.get(name)
        if peer is None:
            return []
        peer.misses = max(peer.misses, 1)
        self._set_reached(name, peer, reached=False)
        return self.probe(name, now)

    def vouch(self, name: str) -> None:
        """Record a successful request to a member."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.misses = 0
            self._set_reached(name, peer, reached=True)

    def receive(self, sender: str, message: Message, now: float) -> Outgoing:
        """Handle a message of another member, and return the messages to send in answer."""
        if sender not in self._peers:
            return []
        out: Outgoing = []
        for news in message.news:
            out += self._learn(sender, news, now)
        if isinstance(message, Ping):
            out.append((sender, Ack(message.number, self._news_for(sender))))
            peer = self._peers[sender]
            if not peer.reached and now - peer.last_ping > 1:  # the member reaches this site: does this site reach it?
                out += self.probe(sender, now)
        elif isinstance(message, Ack):
            out += self._on_ack(sender, message, now)
        elif isinstance(message, Ask):
            out += self._ping(message.target, now, asker=(sender, message.number)) if message.target in self._peers else []
        return out

    # Probes

    def _next_target(self) -> str:
        while self._round:
            name = self._round.pop()
            if name in self._peers:
                return name
        self._round = sorted(self._peers)
        self.rng.shuffle(self._round)
        return self._round.pop()

    def _timeout(self, name: str) -> float:
        rtt = self.rtt_s(name)
        settings = self.settings
        return settings.max_timeout_s if rtt is None else min(max(3 * rtt, settings.min_timeout_s), settings.max_timeout_s)

    def _ping(self, name: str, now: float, asker: tuple[str, int] | None = None) -> Outgoing:
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._probes[self._number] = _Probe(name, now, now + self._timeout(name), asker=asker)
        self._peers[name].last_ping = now
        return [(name, Ping(self._number, self._news_for(name)))]

    def _give_up(self, number: int, probe: _Probe) -> None:
        del self._probes[number]
        self._late[number] = probe
        while len(self._late) > _MAX_LATE:
            self._late.popitem(last=False)

    def _on_ack(self, sender: str, ack: Ack, now: float) -> Outgoing:
        probe = self._probes.get(ack.number) or self._late.get(ack.number)
        if probe is None:
            return []
        if sender != probe.target:
            # A helper reached it: it is alive for the group, even if this site does not reach it.
            probe.alive = True
            return []
        self._probes.pop(ack.number, None)
        self._late.pop(ack.number, None)
        self.on_rtt(sender, now - probe.sent)
        self.vouch(sender)
        if probe.asker is None:
            return []
        asker, number = probe.asker
        return [(asker, Ack(number, self._news_for(asker)))] if asker in self._peers else []

    def _on_silence(self, probe: _Probe, now: float) -> Outgoing:
        """Handle a missing answer: first other members are asked, then the member is suspected."""
        peer = self._peers.get(probe.target)
        if peer is None or probe.asker is not None:
            return []
        peer.misses += 1
        if peer.misses >= 2 or peer.state is not PeerState.ALIVE:
            self._set_reached(probe.target, peer, reached=False)
        if peer.state is not PeerState.ALIVE:
            return []
        if not probe.helped:
            return self._ask_others(probe.target, now)
        return [] if probe.alive else self._spread(News(probe.target, PeerState.SUSPECT, peer.incarnation), now)

    def _ask_others(self, target: str, now: float) -> Outgoing:
        """Ping the member once more, and ask some other members to ping it."""
        out = self._ping(target, now)
        probe = self._probes[self._number]
        probe.helped = True
        others = [name for name, peer in self._peers.items() if name != target and peer.reached]
        for name in self.rng.sample(others, min(self.settings.helpers, len(others))):
            out.append((name, Ask(self._number, target, self._news_for(name))))
            probe.deadline = max(probe.deadline, now + self._timeout(name) + self.settings.min_timeout_s)
        return out

    def _set_reached(self, name: str, peer: _Peer, *, reached: bool) -> None:
        if peer.reached != reached:
            peer.reached = reached
            self._changed.add(name)

    # Opinions

    def _learn(self, sender: str, news: News, now: float) -> Outgoing:
        if news.name == self.name:
            if news.state is PeerState.ALIVE or news.incarnation < self.incarnation:
                return []
            self.incarnation = min(news.incarnation + 1, MAX_INCARNATION)
            return self._tell_all(News(self.name, PeerState.ALIVE, self.incarnation))
        peer = self._peers.get(news.name)
        if peer is None or news.rank <= (peer.incarnation, peer.state):
            return []
        out = self._adopt(news, now)
        if news.state is not PeerState.ALIVE and news.name != sender:
            out += self.probe(news.name, now)
        return out

    def _adopt(self, news: News, now: float) -> Outgoing:
        peer = self._peers[news.name]
        if peer.state is not news.state:
            self._changed.add(news.name)
        peer.state, peer.incarnation = news.state, news.incarnation
        peer.suspected_until = now + self.settings.suspicion_s if news.state is PeerState.SUSPECT else math.inf
        if news.state is PeerState.DEAD and peer.misses:
            self._set_reached(news.name, peer, reached=False)
        self._rumours[news.name] = _Rumour(news, 3 * math.ceil(math.log2(len(self._peers) + 2)))
        return []

    def _spread(self, news: News, now: float) -> Outgoing:
        """Adopt an opinion of this site's own, and send it to all."""
        return self._adopt(news, now) + self._tell_all(news)

    def _tell_all(self, news: News) -> Outgoing:
        self._rumours[news.name] = _Rumour(news, 3 * math.ceil(math.log2(len(self._peers) + 2)))
        return [(name, Gossip((news,))) for name, peer in self._peers.items() if peer.reached or name == news.name]

    def _news_for(self, receiver: str) -> tuple[News, ...]:
        """Return the opinions for a message: first the one that the receiver must contradict, if any, then those sent least often."""
        found: list[News] = []
        peer = self._peers[receiver]
        if peer.state is not PeerState.ALIVE:
            found.append(News(receiver, peer.state, peer.incarnation))
        for rumour in sorted(self._rumours.values(), key=lambda rumour: -rumour.left)[: self.settings.max_news - len(found)]:
            if rumour.news.name != receiver:
                found.append(rumour.news)
                rumour.left -= 1
        self._rumours = {name: rumour for name, rumour in self._rumours.items() if rumour.left > 0}
        return tuple(found)
