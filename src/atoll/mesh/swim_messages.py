"""The messages of the failure detection (`swim`), and the opinions about members that they carry."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_INCARNATION = (1 << 32) - 1
"""The greatest incarnation number."""


LEAST_ALLOWED = 1 << 20
"""An incarnation number up to which each is allowed at any time, so that a member with a wrong clock refuses none of a cloud in order."""

CLOCKS_APART = 300
"""Greatest difference between the clocks of two members, in seconds, for which the bounds of incarnation numbers are made."""


@dataclass(frozen=True)
class Bounds:
    """The incarnation numbers that a member accepts at a time.

    A member increases its number by one to contradict an opinion. As the bounds are the seconds since 1970, no honest member comes near to
    them. They stop a member that lies from using up the numbers of another one: after the greatest number, neither a suspicion nor its
    contradiction would be possible. A contradiction has a greater bound than the opinion that it contradicts, by more than the clocks of
    members are apart. So each member accepts it.

    Attributes:
        accused: the greatest number with which another member may be called suspected or dead.
        answered: the greatest number of such an opinion that a member contradicts.
        alive: the greatest number with which a member may be called alive.
    """

    accused: int
    answered: int
    alive: int

    @classmethod
    def at(cls, now_s: int) -> Bounds:
        """Return the bounds at a time.

        Args:
            now_s: seconds since 1970.
        """
        accused = min(max(now_s, LEAST_ALLOWED), MAX_INCARNATION - 1 - 3 * CLOCKS_APART)
        return cls(accused, accused + CLOCKS_APART, accused + 3 * CLOCKS_APART)


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
        incarnation: a number that only the member itself increases, to contradict an opinion; for the bounds of it see `Bounds`.
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
    """A request for an `Ack` with the same number.

    Attributes:
        number: the number.
        news: opinions about members.
        digest: in a large cloud, the digest of all opinions of the sender (`opinion_digest`); otherwise `None`.
    """

    number: int
    news: tuple[News, ...] = ()
    digest: int | None = None


@dataclass(frozen=True)
class Ack:
    """The answer to a `Ping`, or to an `Ask` if the target answered.

    Attributes:
        number: the number of the `Ping` or `Ask`.
        news: opinions about members.
        digest: as in `Ping`.
    """

    number: int
    news: tuple[News, ...] = ()
    digest: int | None = None


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
