"""The settings of the failure detection (`swim`), and the state that it keeps of members, probes and news."""

from __future__ import annotations

import math
from dataclasses import dataclass

from atoll.mesh.swim_messages import News, PeerState


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


@dataclass(slots=True)
class PeerRecord:
    """The state of another member.

    Attributes:
        state: the group's opinion of it.
        incarnation: its incarnation number in that opinion.
        known: whether some member has reported its state, or it has answered.
        direct: whether this site itself has tried to reach it, so that `reached` counts.
        reached: whether it answered the last attempt.
        misses: the number of probes without an answer since the last answer.
        suspected_until: the time at which it is to be declared dead.
        last_ping: the time of the last ping to it.
        told: the time at which it was last sent all opinions because its digest of them differed.
    """

    state: PeerState = PeerState.ALIVE
    incarnation: int = 0
    known: bool = False
    direct: bool = False
    reached: bool = False
    misses: int = 0
    suspected_until: float = math.inf
    last_ping: float = -math.inf
    told: float = -math.inf


@dataclass
class PendingProbe:
    """A ping without an answer yet.

    Attributes:
        target: the member that is probed.
        sent: the time of the ping.
        deadline: the time until which the answer is awaited.
        helped: whether other members were asked to ping it, too.
        alive: whether one of them reported that it answers.
        asker: the member that asked this site for the probe, and the number of its request.
    """

    target: str
    sent: float
    deadline: float
    helped: bool = False
    alive: bool = False
    asker: tuple[str, int] | None = None


@dataclass
class Rumour:
    """News that are added to probes.

    Attributes:
        news: the news.
        left: the number of messages to which they are still to be added.
    """

    news: News
    left: int
