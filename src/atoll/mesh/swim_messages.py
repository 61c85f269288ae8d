"""The messages of the failure detection (`swim`), and the opinions about members that they carry."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_INCARNATION = (1 << 32) - 1
"""The greatest incarnation number."""


class PeerState(enum.IntEnum):
    """The group's opinion of a member; of two opinions with one incarnation, the greater overrides."""

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
        """The rank of an opinion; one of higher rank overrides."""
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
    """Opinions that do not wait for a probe."""

    news: tuple[News, ...] = ()


Message = Ping | Ack | Ask | Gossip
Outgoing = list[tuple[str, Message]]
