"""The messages of the failure detection (`swim`), and the opinions about members that they carry."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_INCARNATION = (1 << 32) - 1
"""The greatest incarnation number."""


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
