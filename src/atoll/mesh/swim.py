"""Who of the members can be reached: failure detection by probes, direct and by way of others, and gossip on what they found.

The protocol is SWIM (Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", DSN 2002)
with suspicion and incarnation numbers (section 4.2), probes in round-robin order (4.3) and gossip that rides on probes (4.1). What differs:

- Members are not removed when they are dead: who belongs to the cloud is written elsewhere. They are probed on, and come back.
- Two opinions are kept apart. The group's (`state`) says whether a site lives. Whether it is reached *from here* (`reachable`) counts for
  requests: a site may be well, and the way to it cut.
- News of a suspicion goes to all at once, since there are few sites, and each looks for itself.

Pure: the clock is an argument, messages are returned.
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


class State(enum.IntEnum):
    """What the group thinks of a member; of two opinions with one incarnation, the greater counts."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2


@dataclass(frozen=True)
class News:
    """An opinion.

    Attributes:
        name: of the member.
        state: the opinion.
        incarnation: a number that only the member itself increases, to contradict.
    """

    name: str
    state: State
    incarnation: int

    @property
    def rank(self) -> tuple[int, State]:
        """News of higher rank overrides."""
        return self.incarnation, self.state


@dataclass(frozen=True)
class Ping:
    """Are you there? Asks for an `Ack` with this number."""

    number: int
    news: tuple[News, ...] = ()


@dataclass(frozen=True)
class Ack:
    """The answer to a `Ping`, or to an `Ask` if the member asked about answered."""

    number: int
    news: tuple[News, ...] = ()


@dataclass(frozen=True)
class Ask:
    """Ping `target` for me."""

    number: int
    target: str
    news: tuple[News, ...] = ()


@dataclass(frozen=True)
class Gossip:
    """News that do not wait for a probe."""

    news: tuple[News, ...] = ()


Message = Ping | Ack | Ask | Gossip
Outgoing = list[tuple[str, Message]]


@dataclass(frozen=True)
class Settings:
    """The pace.

    Attributes:
        period_s: seconds between two probes of the round.
        min_timeout_s: how long a probe is waited for, at least.
        max_timeout_s: at most; also while the round trip is unknown.
        retry_s: seconds between two probes of a member that does not answer.
        suspicion_s: how long a member has to contradict a suspicion.
        helpers: how many others are asked to probe.
        max_news: pieces of news on one message.
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
    state: State = State.ALIVE
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
    helped: bool = False  # others were asked to ping it, too
    alive: bool = False  # one of them says that it answers
    asker: tuple[str, int] | None = None  # who asked for it, and with which number


@dataclass
class _Rumour:
    news: News
    left: int


@dataclass
class Swim:
    """One site's part in the protocol.

    Attributes:
        name: this site's.
        rng: for the order of probes and the choice of helpers.
        rtt_s: the round trip to a member in seconds, None if unknown.
        on_rtt: told of each measurement, in seconds.
        settings: the pace.
    """

    name: str
    rng: random.Random
    rtt_s: Callable[[str], float | None] = lambda _name: None
    on_rtt: Callable[[str, float], None] = lambda _name, _rtt: None
    settings: Settings = field(default_factory=Settings)

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

    # What is known

    def state(self, name: str) -> State:
        """The group's opinion of a member, as far as it is known here."""
        return self._peers[name].state

    def reachable(self, name: str) -> bool:
        """Whether a member answers this site itself."""
        peer = self._peers.get(name)
        return peer is not None and peer.reached

    def doubtful(self, name: str) -> bool:
        """Whether a member does not answer this site, and may yet: it was not found dead."""
        peer = self._peers.get(name)
        return peer is not None and not peer.reached and peer.state is not State.DEAD and peer.misses < 2

    def changed(self) -> frozenset[str]:
        """The members whose state or reachability changed since the last call."""
        changed, self._changed = frozenset(self._changed), set()
        return changed

    def set_members(self, names: Iterable[str]) -> None:
        """Whom to probe; this site itself may be among them."""
        wanted = set(names) - {self.name}
        for name in set(self._peers) - wanted:
            del self._peers[name]
            self._rumours.pop(name, None)
            self._changed.add(name)
        for name in sorted(wanted - set(self._peers)):
            self._peers[name] = _Peer()
            self._changed.add(name)

    # What happens

    def next_tick(self) -> float:
        """When `tick` has something to do."""
        probed = {probe.target for probe in self._probes.values() if probe.asker is None}
        times = [self._next_round, *(probe.deadline for probe in self._probes.values())]
        for name, peer in self._peers.items():
            times.append(peer.suspected_until)
            if not peer.reached and name not in probed:
                times.append(peer.last_ping + self.settings.retry_s)
        return min(times)

    def tick(self, now: float) -> Outgoing:
        """Probe whose turn it is; draw conclusions from silence."""
        out: Outgoing = []
        for number, probe in [(number, probe) for number, probe in self._probes.items() if probe.deadline <= now]:
            self._give_up(number, probe)
            out += self._on_silence(probe, now)
        for name, peer in self._peers.items():
            if peer.suspected_until <= now:
                out += self._spread(News(name, State.DEAD, peer.incarnation), now)
            if not peer.reached and peer.last_ping + self.settings.retry_s <= now:
                out += self.probe(name, now)
        if self._next_round <= now:
            self._next_round = now + self.settings.period_s
            out += self.probe(self._next_target(), now) if self._peers else []
        return out

    def probe(self, name: str, now: float) -> Outgoing:
        """Ping a member now, unless an answer of it is waited for."""
        if name not in self._peers or any(probe.target == name and probe.asker is None for probe in self._probes.values()):
            return []
        return self._ping(name, now)

    def doubt(self, name: str, now: float) -> Outgoing:
        """A request to a member failed: it does not count as reached until it answers."""
        peer = self._peers.get(name)
        if peer is None:
            return []
        peer.misses = max(peer.misses, 1)
        self._reached(name, peer, yes=False)
        return self.probe(name, now)

    def vouch(self, name: str) -> None:
        """A request to a member succeeded."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.misses = 0
            self._reached(name, peer, yes=True)

    def receive(self, sender: str, message: Message, now: float) -> Outgoing:
        """A message of another member came."""
        if sender not in self._peers:
            return []
        out: Outgoing = []
        for news in message.news:
            out += self._learn(sender, news, now)
        if isinstance(message, Ping):
            out.append((sender, Ack(message.number, self._news_for(sender))))
            peer = self._peers[sender]
            if not peer.reached and now - peer.last_ping > 1:  # it reaches us: do we reach it?
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
            # A helper reached it: the group need not worry, even if we do not reach it.
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
        """No answer in time: first others are asked, then the member is suspected."""
        peer = self._peers.get(probe.target)
        if peer is None or probe.asker is not None:
            return []
        peer.misses += 1
        if peer.misses >= 2 or peer.state is not State.ALIVE:
            self._reached(probe.target, peer, yes=False)
        if peer.state is not State.ALIVE:
            return []
        if not probe.helped:
            return self._ask_others(probe.target, now)
        return [] if probe.alive else self._spread(News(probe.target, State.SUSPECT, peer.incarnation), now)

    def _ask_others(self, target: str, now: float) -> Outgoing:
        """Ping once more, and ask some others to."""
        out = self._ping(target, now)
        probe = self._probes[self._number]
        probe.helped = True
        others = [name for name, peer in self._peers.items() if name != target and peer.reached]
        for name in self.rng.sample(others, min(self.settings.helpers, len(others))):
            out.append((name, Ask(self._number, target, self._news_for(name))))
            probe.deadline = max(probe.deadline, now + self._timeout(name) + self.settings.min_timeout_s)
        return out

    def _reached(self, name: str, peer: _Peer, *, yes: bool) -> None:
        if peer.reached != yes:
            peer.reached = yes
            self._changed.add(name)

    # News

    def _learn(self, sender: str, news: News, now: float) -> Outgoing:
        if news.name == self.name:
            if news.state is State.ALIVE or news.incarnation < self.incarnation:
                return []
            self.incarnation = min(news.incarnation + 1, MAX_INCARNATION)
            return self._tell_all(News(self.name, State.ALIVE, self.incarnation))
        peer = self._peers.get(news.name)
        if peer is None or news.rank <= (peer.incarnation, peer.state):
            return []
        out = self._adopt(news, now)
        if news.state is not State.ALIVE and news.name != sender:
            out += self.probe(news.name, now)
        return out

    def _adopt(self, news: News, now: float) -> Outgoing:
        peer = self._peers[news.name]
        if peer.state is not news.state:
            self._changed.add(news.name)
        peer.state, peer.incarnation = news.state, news.incarnation
        peer.suspected_until = now + self.settings.suspicion_s if news.state is State.SUSPECT else math.inf
        if news.state is State.DEAD and peer.misses:
            self._reached(news.name, peer, yes=False)
        self._rumours[news.name] = _Rumour(news, 3 * math.ceil(math.log2(len(self._peers) + 2)))
        return []

    def _spread(self, news: News, now: float) -> Outgoing:
        """An opinion of our own: adopted, and told to all."""
        return self._adopt(news, now) + self._tell_all(news)

    def _tell_all(self, news: News) -> Outgoing:
        self._rumours[news.name] = _Rumour(news, 3 * math.ceil(math.log2(len(self._peers) + 2)))
        return [(name, Gossip((news,))) for name, peer in self._peers.items() if peer.reached or name == news.name]

    def _news_for(self, receiver: str) -> tuple[News, ...]:
        """What to put on a message: first what the receiver must contradict, then what was told least often."""
        found: list[News] = []
        peer = self._peers[receiver]
        if peer.state is not State.ALIVE:
            found.append(News(receiver, peer.state, peer.incarnation))
        for rumour in sorted(self._rumours.values(), key=lambda rumour: -rumour.left)[: self.settings.max_news - len(found)]:
            if rumour.news.name != receiver:
                found.append(rumour.news)
                rumour.left -= 1
        self._rumours = {name: rumour for name, rumour in self._rumours.items() if rumour.left > 0}
        return tuple(found)
