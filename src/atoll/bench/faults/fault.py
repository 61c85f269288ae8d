"""Faults, their kinds, and the cloud that they affect."""

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
        at_s: seconds from the beginning of the run until the fault happens.
        kind: a key of `kinds.KINDS`.
        target: depending on the kind, a site, the two ends of a link, or a site and one of its processes.
        lasts_s: seconds until the fault is undone.
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
    """A running cloud in which faults are injected.

    Attributes:
        state: the state directory.
        sites: the names of the sites.
        environment: the environment of commands.
        log: the file for the output of commands.
        clocks: the clocks of the sites; `None` if the cloud's processes run without the library for wrong clocks.
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
        """Run a command of `atoll`. Only one command runs at a time, because two commands must not change the cloud at the same time.

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
        draw: returns a random target and amount, given a random generator and the names of the sites. A pure function.
        claims: returns the parts of the cloud that no other fault may affect at the same time, given a target.
        inject: injects a fault, waits for its end, and undoes it.
    """

    name: str
    draw: Callable[[Random, tuple[str, ...]], tuple[tuple[str, ...], float]]
    claims: Callable[[tuple[str, ...]], frozenset[str]]
    inject: Callable[[FaultyCloud, Fault, Wait], None]


def a_site(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    """Return a random site, and the amount 0; see `Kind.draw`."""
    return (random.choice(sites),), 0.0


def a_link(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    """Return the two sites of a random link, in random order, and the amount 0; see `Kind.draw`."""
    return tuple(random.sample(sites, 2)), 0.0


def the_link(target: tuple[str, ...]) -> frozenset[str]:
    """Return the part of the cloud that a fault of one link affects, whatever the link's direction; see `Kind.claims`."""
    return frozenset({f"link {':'.join(sorted(target))}"})


def the_links(target: tuple[str, ...]) -> frozenset[str]:
    """Return the part of the cloud that a fault of all links of a site affects; see `Kind.claims`."""
    return frozenset({f"links of {target[0]}"})
