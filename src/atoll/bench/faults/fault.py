"""What a fault is, and what it is done to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from atoll.bench.command import atoll
from atoll.bench.faults.clocks import Clocks
from atoll.site.state import State
from atoll.wan.client import Wan


@dataclass(frozen=True)
class Fault:
    """One fault of a schedule.

    Attributes:
        at_s: seconds after the beginning.
        kind: a key of `kinds.KINDS`.
        target: the site, or the two ends of a link, or the site and one of its processes.
        lasts_s: until it is undone, in seconds.
        amount: what else there is to say, by kind: how often something flaps, how many seconds a clock is ahead.
    """

    at_s: float
    kind: str
    target: tuple[str, ...]
    lasts_s: float
    amount: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    def __str__(self) -> str:
        amount = f", {self.amount:g}" if self.amount else ""
        return f"{self.kind} {':'.join(self.target)} at {self.at_s:.1f} s for {self.lasts_s:.1f} s{amount}"


@dataclass
class Stage:
    """A cloud that is up.

    Attributes:
        state: its state directory.
        sites: the names of its sites.
        environment: of commands.
        log: where commands write.
        clocks: of the sites; None if they can't be set here.
    """

    state: State
    sites: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    clocks: Clocks | None = None
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @property
    def wan(self) -> Wan:
        """The network between the sites."""
        return Wan(self.state.root)

    def atoll(self, *arguments: str) -> None:
        """Run a command of `atoll`: one after the other, as only one may change the cloud.

        Raises:
            AtollError: `bench.failed`.
        """
        with self._one_at_a_time:
            atoll(self.state, self.log, self.environment, *arguments)


Wait = Callable[[float], object]
"""Waits so many seconds, or until faults are to end."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: as in reports.
        draw: a target and an amount. Pure.
        claims: what of the cloud nothing else may be done to meanwhile.
        inject: does it, waits, and undoes it.
    """

    name: str
    draw: Callable[[Random, tuple[str, ...]], tuple[tuple[str, ...], float]]
    claims: Callable[[tuple[str, ...]], frozenset[str]]
    inject: Callable[[Stage, Fault, Wait], None]


def a_site(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    """Any site."""
    return (random.choice(sites),), 0.0


def a_link(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    """Any link, from one of its ends to the other."""
    return tuple(random.sample(sites, 2)), 0.0


def the_link(target: tuple[str, ...]) -> frozenset[str]:
    """The link that is claimed, in whichever direction it is named."""
    return frozenset({f"link {':'.join(sorted(target))}"})


def the_links(target: tuple[str, ...]) -> frozenset[str]:
    """That the site is connected is claimed."""
    return frozenset({f"links of {target[0]}"})
