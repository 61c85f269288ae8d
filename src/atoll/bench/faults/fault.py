"""Faults, their kinds, and the cloud that they befall."""

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
        at_s: the time after the beginning, in seconds.
        kind: a key of `kinds.KINDS`.
        target: by kind, the site; the two ends of a link; or the site and one of its processes.
        lasts_s: the time until it is undone, in seconds.
        amount: a number whose meaning depends on the kind, such as the seconds that a clock is ahead.
    """

    at_s: float
    kind: str
    target: tuple[str, ...]
    lasts_s: float
    amount: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        amount = f", {self.amount:g}" if self.amount else ""
        return f"{self.kind} {':'.join(self.target)} at {self.at_s:.1f} s for {self.lasts_s:.1f} s{amount}"


@dataclass
class FaultyCloud:
    """A running cloud that faults befall.

    Attributes:
        state: the state directory.
        sites: the names of its sites.
        environment: the environment of commands.
        log: the file for the output of commands.
        clocks: the clocks of the sites; `None` if they cannot be set here.
    """

    state: State
    sites: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    clocks: Clocks | None = None
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @property
    def wan(self) -> Wan:
        """The emulated WAN between the sites."""
        return Wan(self.state.root)

    def atoll(self, *arguments: str) -> None:
        """Run a command of `atoll`. Commands run one after the other, because only one may change the cloud at a time.

        Raises:
            AtollError: `bench.failed`: the command failed.
        """
        with self._one_at_a_time:
            atoll(self.state, self.log, self.environment, *arguments)


Wait = Callable[[float], object]
"""A function that waits for a number of seconds, or until all faults have to end."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: the name in reports.
        draw: chooses a target and an amount at random. A pure function.
        claims: the parts of the cloud that no other fault may affect meanwhile.
        inject: injects the fault, waits, and undoes it.
    """

    name: str
    draw: Callable[[Random, tuple[str, ...]], tuple[tuple[str, ...], float]]
    claims: Callable[[tuple[str, ...]], frozenset[str]]
    inject: Callable[[FaultyCloud, Fault, Wait], None]


def a_site(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    """Choose a site at random."""
    return (random.choice(sites),), 0.0


def a_link(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    """Choose a link and its direction at random."""
    return tuple(random.sample(sites, 2)), 0.0


def the_link(target: tuple[str, ...]) -> frozenset[str]:
    """Claim the link between two sites, in both directions."""
    return frozenset({f"link {':'.join(sorted(target))}"})


def the_links(target: tuple[str, ...]) -> frozenset[str]:
    """Claim all links of a site."""
    return frozenset({f"links of {target[0]}"})
