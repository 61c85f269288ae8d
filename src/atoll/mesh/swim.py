"""Failure detection of members, by direct and indirect probes, and gossip about the results.

The protocol is SWIM (Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", DSN 2002)
with suspicion and incarnation numbers (section 4.2), probes in round-robin order (4.3) and gossip that rides on probes (4.1). It differs in
three points:

- Dead members are not removed: the roster decides which sites belong to the cloud. They are still probed, and come back.
- Two opinions are kept apart. The group's opinion (`state`) is whether a site is alive. For requests, another opinion counts: whether the
  site is reached *from here* (`reachable`). A site may be well while the link to it is cut.
- In a small cloud, a suspicion is sent to all at once, and each checks for itself.

In a large cloud (`neighbours`), a member probes its neighbours alone, and less often. It passes news on to them, several in one message, at
most every `SPREAD_S` seconds. It sends all its opinions to a neighbour that it reaches again, and to one whose digest of opinions differs
(`opinion_digest`). For a member that is no neighbour, the group's opinion counts, as long as this site reaches one of its own neighbours; a
member that nobody has reported is not reachable. After a failed request, a member is probed even if it is no neighbour.

The module does no I/O: the clock is an argument, and messages are returned.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field

from atoll.mesh.neighbours import Rings, rings_of
from atoll.mesh.opinion_digest import OpinionDigest
from atoll.mesh.swim_messages import MAX_INCARNATION, Ack, Ask, Bounds, Gossip, Message, News, Outgoing, PeerState, Ping
from atoll.mesh.swim_state import PeerRecord, PendingProbe, Rumour, SwimSettings

__all__ = ["MAX_INCARNATION", "Ack", "Ask", "Bounds", "Gossip", "Message", "News", "Outgoing", "PeerState", "Ping", "Swim", "SwimSettings"]

_MAX_LATE = 64

_MOST_ASKED = 128
"""The greatest number of probes that are under way at the request of one member."""

SPREAD_S = 0.5
"""Seconds for which a member of a large cloud collects news before it passes them on to its neighbours."""

_TELL_S = 10.0
"""The shortest time between two messages with all opinions to the same neighbour because its digest of them differs, in seconds."""

_BATCH = 200
"""The greatest number of opinions in one message of news."""

_MEMBERS_PER_S = 31
"""In a large cloud, a member waits one second between two probes for each so many members, but at most `_MAX_PERIOD_S`. So the traffic of
an idle member is to stay below 250 bit/s at 1,000 members."""
_MAX_PERIOD_S = 32.0


@dataclass
class Swim:
    """The protocol as one site runs it.

    Attributes:
        name: this site's name.
        rng: source of the random order of probes and choice of helpers.
        rtt_s: returns the round trip to a member in seconds; `None` if unknown.
        on_rtt: called with each measurement, in seconds.
        settings: the pace.
        now_s: returns the cloud's agreed time in seconds since 1970, which bounds the incarnation numbers.
    """

    name: str
    rng: random.Random
    rtt_s: Callable[[str], float | None] = lambda _name: None
    on_rtt: Callable[[str, float], None] = lambda _name, _rtt: None
    settings: SwimSettings = field(default_factory=SwimSettings)
    now_s: Callable[[], int] = lambda: MAX_INCARNATION

    def __post_init__(self) -> None:
        self.incarnation = 0
        self._peers: dict[str, PeerRecord] = {}
        self._round: list[str] = []
        self._next_round = -math.inf
        self._number = self.rng.randrange(1 << 24)
        self._probes: dict[int, PendingProbe] = {}
        self._late: OrderedDict[int, PendingProbe] = OrderedDict()  # given up; but an answer may still come
        self._rumours: dict[str, Rumour] = {}
        self._changed: set[str] = set()
        self._rings: Rings | None = None
        self._near: frozenset[str] = frozenset()
        self._candidates: frozenset[str] = frozenset()  # members that are neighbours, or may be if others are dead
        self._doubted: set[str] = set()  # probed although they are no neighbours
        self._joined = False  # a neighbour is reached
        self._outbox: dict[str, tuple[News, set[str]]] = {}  # news to pass on, and the members that know them
        self._newcomers: set[str] = set()  # neighbours that are to be sent all opinions
        self._opinions = OpinionDigest()
        self._opinions.put(self._own())
        self._spread_at = math.inf

    # State of the members

    def state(self, name: str) -> PeerState:
        """Return the group's opinion of a member, as far as this site has learnt it."""
        return self._peers[name].state

    def reachable(self, name: str) -> bool:
        """Return whether a member answers this site's own probes, not only those of other members."""
        peer = self._peers.get(name)
        if peer is None:
            return False
        if self._rings is None or peer.direct:
            return peer.reached
        return self._joined and peer.known and peer.state is not PeerState.DEAD

    def near(self) -> Set[str]:
        """Return the members to keep links to: the neighbours, and those that are in doubt."""
        return self._peers.keys() if self._rings is None else self._near | self._doubted

    def is_wide(self) -> bool:
        """Return whether the cloud is so large that only neighbours are probed."""
        return self._rings is not None

    def doubtful(self, name: str) -> bool:
        """Return whether a member does not answer this site, but the group has not declared it dead yet."""
        peer = self._peers.get(name)
        return peer is not None and not self.reachable(name) and peer.state is not PeerState.DEAD and peer.misses < 2

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
            self._outbox.pop(name, None)
            self._opinions.drop(name)
            self._changed.add(name)
        for name in sorted(wanted - set(self._peers)):
            self._peers[name] = PeerRecord()
            self._changed.add(name)
        self._doubted &= wanted
        self._newcomers &= wanted
        rings = rings_of({*wanted, self.name})
        if (rings is None) != (self._rings is None):
            self._changed |= wanted
        self._rings = rings
        self._candidates = rings.neighbours(self.name, lambda _name: True) if rings is not None else frozenset()
        self._find_neighbours()

    # Events

    def next_tick(self) -> float:
        """Return the time at which `tick` has work to do."""
        probed = {probe.target for probe in self._probes.values() if probe.asker is None}
        times = [self._next_round, self._spread_at, *(probe.deadline for probe in self._probes.values())]
        for name in self.near():
            peer = self._peers[name]
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
        for name in list(self.near()):
            peer = self._peers[name]
            if peer.suspected_until <= now:
                out += self._spread(News(name, PeerState.DEAD, peer.incarnation), now)
        for name in self.near():  # others than before, if a neighbour has died
            peer = self._peers[name]
            if not peer.reached and peer.last_ping + self.settings.retry_s <= now:
                out += self.probe(name, now)
        if self._next_round <= now:
            self._next_round = now + self._period_s()
            out += self.probe(self._next_target(), now) if self._peers else []
        if self._spread_at <= now:
            out += self._pass_on()
        elif self._spread_at == math.inf and (self._outbox or self._newcomers):
            self._spread_at = now + SPREAD_S
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
        if self._rings is not None and name not in self._near and peer.state is not PeerState.DEAD:
            self._doubted.add(name)
        self._set_reached(name, peer, reached=False)
        return self.probe(name, now)

    def vouch(self, name: str) -> None:
        """Record a successful request to a member."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.misses = 0
            self._set_reached(name, peer, reached=True)
            self._doubted.discard(name)
            if name not in self._near and peer.known and peer.state is not PeerState.DEAD:
                peer.direct = False  # it is not probed: from now on the group's opinion counts again

    def receive(self, sender: str, message: Message, now: float) -> Outgoing:
        """Handle a message of another member, and return the messages to send in answer."""
        if sender not in self._peers:
            return []
        out = self._learn_all(sender, message.news, now)
        if isinstance(message, Ping | Ack):
            self._compare(sender, message.digest, now)
        if (self._outbox or self._newcomers) and self._spread_at == math.inf:
            self._spread_at = now + SPREAD_S
        if isinstance(message, Ping):
            out.append((sender, Ack(message.number, self._news_for(sender), self._digest())))
            peer = self._peers[sender]
            if not peer.reached and now - peer.last_ping > 1 and sender in self.near():  # does this site reach it, too?
                out += self.probe(sender, now)
        elif isinstance(message, Ack):
            out += self._on_ack(sender, message, now)
        elif isinstance(message, Ask):
            out += self._on_ask(sender, message, now)
        return out

    # Probes

    def _next_target(self) -> str:
        while self._round:
            name = self._round.pop()
            if name in self._peers and (self._rings is None or name in self._near):
                return name
        self._round = sorted(self._peers if self._rings is None else self._near)
        self.rng.shuffle(self._round)
        return self._round.pop()

    def _period_s(self) -> float:
        if self._rings is None:
            return self.settings.period_s
        return max(self.settings.period_s, min(len(self._peers) / _MEMBERS_PER_S, _MAX_PERIOD_S))

    def _timeout(self, name: str) -> float:
        rtt = self.rtt_s(name)
        settings = self.settings
        return settings.max_timeout_s if rtt is None else min(max(3 * rtt, settings.min_timeout_s), settings.max_timeout_s)

    def _ping(self, name: str, now: float, asker: tuple[str, int] | None = None) -> Outgoing:
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._probes[self._number] = PendingProbe(name, now, now + self._timeout(name), asker=asker)
        self._peers[name].last_ping = now
        return [(name, Ping(self._number, self._news_for(name), self._digest()))]

    def _give_up(self, number: int, probe: PendingProbe) -> None:
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
        self._witness(sender, now)
        if probe.asker is None:
            return []
        asker, number = probe.asker
        return [(asker, Ack(number, self._news_for(asker), self._digest()))] if asker in self._peers else []

    def _on_ask(self, sender: str, ask: Ask, now: float) -> Outgoing:
        asked = sum(probe.asker is not None and probe.asker[0] == sender for probe in self._probes.values())
        return self._ping(ask.target, now, asker=(sender, ask.number)) if ask.target in self._peers and asked < _MOST_ASKED else []

    def _on_silence(self, probe: PendingProbe, now: float) -> Outgoing:
        """Handle a missing answer: first other members are asked, then the member is suspected."""
        peer = self._peers.get(probe.target)
        if peer is None or probe.asker is not None or probe.target not in self.near():
            return []
        peer.misses += 1
        if peer.misses >= 2 or peer.state is not PeerState.ALIVE:
            self._set_reached(probe.target, peer, reached=False)
        if peer.state is not PeerState.ALIVE:
            return []
        if not probe.helped:
            return self._ask_others(probe.target, now)
        if peer.incarnation > Bounds.at(self.now_s()).accused:  # no member would adopt a suspicion now, so the opinions would differ
            return []
        return [] if probe.alive else self._spread(News(probe.target, PeerState.SUSPECT, peer.incarnation), now)

    def _ask_others(self, target: str, now: float) -> Outgoing:
        """Ping the member once more, and ask some other members to ping it."""
        out = self._ping(target, now)
        probe = self._probes[self._number]
        probe.helped = True
        others = [name for name in self.near() if name != target and self._peers[name].reached]
        for name in self.rng.sample(others, min(self.settings.helpers, len(others))):
            out.append((name, Ask(self._number, target, self._news_for(name))))
            probe.deadline = max(probe.deadline, now + self._timeout(name) + self.settings.min_timeout_s)
        return out

    def _set_reached(self, name: str, peer: PeerRecord, *, reached: bool) -> None:
        before = self.reachable(name)
        peer.reached, was, peer.direct = reached, peer.reached, True
        if was != reached or before != reached:
            self._changed.add(name)
        if was != reached and name in self._near:
            if reached:
                self._newcomers.add(name)
            joined = any(self._peers[each].reached for each in self._near)
            if joined != self._joined:
                self._joined = joined
                self._changed |= self._peers.keys()

    # Opinions

    def _learn_all(self, sender: str, news: Iterable[News], now: float) -> Outgoing:
        """Learn the opinions in a message. Those about this site itself are answered once, as a long list would make it send much."""
        out: Outgoing = []
        mine: list[News] = []
        for each in news:
            if each.name == self.name:
                mine.append(each)
            else:
                out += self._learn(sender, each, now)
        return out + (self._answer(sender, max(mine, key=lambda each: each.rank)) if mine else [])

    def _learn(self, sender: str, news: News, now: float) -> Outgoing:
        peer = self._peers.get(news.name)
        bounds = Bounds.at(self.now_s())
        if peer is None or news.incarnation > (bounds.alive if news.state is PeerState.ALIVE else bounds.accused):
            return []
        if news.rank <= (peer.incarnation, peer.state) and (peer.known or self._rings is None):
            if (waiting := self._outbox.get(news.name)) is not None and waiting[0] == news:
                waiting[1].add(sender)
            return []
        self._adopt(news, now, sender)
        out: Outgoing = []
        if news.state is not PeerState.ALIVE and news.name != sender and (self._rings is None or news.name in self._near):
            out += self.probe(news.name, now)
        return out

    def _answer(self, sender: str, news: News) -> Outgoing:
        """Contradict an opinion about this site itself that it is suspected or dead."""
        bounds = Bounds.at(self.now_s())
        if news.incarnation > (bounds.alive if news.state is PeerState.ALIVE else bounds.answered):
            return []  # a lie, which no other member has accepted
        if news.state is PeerState.ALIVE:
            self._set_incarnation(max(self.incarnation, news.incarnation))  # this site was restarted
            return []
        if news.incarnation < self.incarnation:  # the sender missed the contradiction
            return [(sender, Gossip((self._own(),)))]
        self._set_incarnation(news.incarnation + 1)
        return self._tell_all(self._own())

    def _own(self) -> News:
        return News(self.name, PeerState.ALIVE, self.incarnation)

    def _set_incarnation(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self._opinions.put(self._own())

    def _adopt(self, news: News, now: float, sender: str) -> None:
        peer = self._peers[news.name]
        wide, far = self._rings is not None, self._rings is not None and news.name not in self._near
        if peer.state is not news.state or not peer.known:
            self._changed.add(news.name)
        died, peer.known = (peer.state is PeerState.DEAD) != (news.state is PeerState.DEAD), True
        peer.state, peer.incarnation = news.state, news.incarnation
        self._opinions.put(news)
        # In a large cloud, its neighbours judge a member that is suspected.
        peer.suspected_until = now + self.settings.suspicion_s if news.state is PeerState.SUSPECT and not far else math.inf
        if news.state is PeerState.DEAD and peer.misses:
            self._set_reached(news.name, peer, reached=False)
        if far and died:  # what its neighbours have found counts more than this site's last attempt
            peer.direct, peer.reached, peer.misses = False, False, 0
            self._doubted.discard(news.name)
        self._rumour(news)
        if wide:
            self._outbox[news.name] = news, {sender, news.name}
            if died and news.name in self._candidates:
                self._find_neighbours()

    def _rumour(self, news: News) -> None:
        times = 1 if self._rings is not None else 3 * math.ceil(math.log2(len(self._peers) + 2))
        if self._rings is None or news.incarnation:
            self._rumours[news.name] = Rumour(news, times)

    def _spread(self, news: News, now: float) -> Outgoing:
        """Adopt an opinion of this site's own, and send it to all."""
        self._adopt(news, now, self.name)
        self._outbox.pop(news.name, None)
        return self._tell_all(news)

    def _tell_all(self, news: News) -> Outgoing:
        self._rumour(news)
        return [(name, Gossip((news,))) for name in self.near() if self._peers[name].reached or name == news.name]

    # Large clouds

    def _find_neighbours(self) -> None:
        if self._rings is None:
            self._near, self._joined = frozenset(), False
            self._doubted.clear()
            self._outbox.clear()
            self._newcomers.clear()
            return
        near = self._rings.neighbours(self.name, lambda name: self._peers[name].state is PeerState.DEAD)
        for name in (self._near - near) & self._peers.keys():
            peer = self._peers[name]
            peer.direct = peer.reached = False
            peer.misses, peer.suspected_until = 0, math.inf
            self._changed.add(name)
        for name in near - self._near:
            if self._peers[name].reached:
                self._newcomers.add(name)
            self._changed.add(name)
        self._near = near
        self._doubted -= near
        self._joined = any(self._peers[name].reached for name in near)

    def _witness(self, name: str, now: float) -> None:
        """Report a member that has answered, if nobody has reported it yet."""
        peer = self._peers[name]
        if self._rings is not None and not peer.known:
            self._adopt(News(name, peer.state, peer.incarnation), now, name)
        if self._spread_at == math.inf and (self._outbox or self._newcomers):
            self._spread_at = now + SPREAD_S

    def _digest(self) -> int | None:
        return None if self._rings is None else self._opinions.value

    def _compare(self, name: str, digest: int | None, now: float) -> None:
        """Arrange for all opinions to be sent to a neighbour whose digest differs from this site's."""
        peer = self._peers[name]
        if digest not in {None, self._digest()} and name in self._near and now - peer.told >= _TELL_S:
            peer.told = now
            self._newcomers.add(name)

    def _pass_on(self) -> Outgoing:
        """Return the messages that pass the collected news on, and those that tell newcomers everything."""
        known = self._peers.items() if self._newcomers else ()
        everything = [self._own(), *(News(name, peer.state, peer.incarnation) for name, peer in known if peer.known)]
        out: Outgoing = []
        for receiver in self._near:
            if not self._peers[receiver].reached:
                continue
            if receiver in self._newcomers:
                batch = [news for news in everything if news.name != receiver]
            else:
                batch = [news for news, knowing in self._outbox.values() if receiver not in knowing]
            out += [(receiver, Gossip(tuple(batch[start : start + _BATCH]))) for start in range(0, len(batch), _BATCH)]
        self._outbox.clear()
        self._newcomers.clear()
        self._spread_at = math.inf
        return out

    def _news_for(self, receiver: str) -> tuple[News, ...]:
        """Return the opinions for a message: first the one that the receiver must contradict, if any, then those sent least often."""
        found: list[News] = []
        peer = self._peers[receiver]
        if peer.state is not PeerState.ALIVE:
            found.append(News(receiver, peer.state, peer.incarnation))
        for rumour in heapq.nlargest(self.settings.max_news - len(found), self._rumours.values(), key=lambda rumour: rumour.left):
            if rumour.news.name != receiver:
                found.append(rumour.news)
                rumour.left -= 1
        for news in found:
            if (spread := self._rumours.get(news.name)) is not None and spread.left <= 0:
                del self._rumours[news.name]
        return tuple(found)
