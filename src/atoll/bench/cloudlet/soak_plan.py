"""The steps of a soak: random starts and hand-offs, each with a random fault. Pure functions of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from atoll.bench.cell_faults.step import FaultStep
from atoll.bench.cloudlet.parts import EDGE, HOME, LINK

MOST_SERVERS = 3
"""Greatest number of servers at the same time: each is a guest of its own."""

KILLED = ("gateway", "nova", "glance", "neutron", "keystone", "placement", "libvirt")
"""The processes of a site that are killed. QEMU itself is not killed, because a guest does not survive the loss of its QEMU."""

_START_SHARE = 0.4
_LONGEST_DELAY_S, _SHORTEST_S, _LONGEST_S = 25.0, 3.0, 40.0


@dataclass(frozen=True)
class SoakStep:
    """One start or hand-off of a server, and the fault during it.

    Attributes:
        number: the number of the step, from 1.
        operation: `synthesis` or `handoff`; without a server, a hand-off is a synthesis.
        site: the site of a new server.
        choice: the choice of the server to hand off among those that exist, from 0 to 1.
        fault: a key of `cell_faults.kinds.KINDS`; empty for none.
        target: the link, the process or the site that the fault affects.
        after_s: seconds from the request until the fault happens.
        lasts_s: seconds until the fault is undone.
    """

    number: int
    operation: str
    site: str
    choice: float
    fault: str
    target: str
    after_s: float
    lasts_s: float

    def fault_step(self) -> FaultStep:
        """Return the fault in the form that injects it."""
        return FaultStep(self.number, self.fault, self.target, f"step {self.number}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        what = f"start at {self.site}" if self.operation == "synthesis" else "hand-off"
        if not self.fault:
            return f"{what}, no fault"
        return f"{what}, {self.fault} of {self.target} after {self.after_s:.0f} s for {self.lasts_s:.0f} s"


def plan(steps: int, seed: int, kinds: Sequence[str]) -> list[SoakStep]:
    """Return the random steps of a soak.

    Args:
        steps: the number of steps.
        seed: the seed of all random choices.
        kinds: the kinds of faults to choose from, some of `cut`, `kill` and `full-disk`.
    """
    random, found, servers = Random(seed), [], 0
    for number in range(1, steps + 1):
        start = servers == 0 or (servers < MOST_SERVERS and random.random() < _START_SHARE)
        servers += start
        fault = random.choice(["", *kinds])
        target = _target(random, fault)
        after_s, lasts_s = random.uniform(0, _LONGEST_DELAY_S), random.uniform(_SHORTEST_S, _LONGEST_S)
        operation = "synthesis" if start else "handoff"
        found.append(SoakStep(number, operation, random.choice((HOME, EDGE)), random.random(), fault, target, after_s, lasts_s))
    return found


def _target(random: Random, fault: str) -> str:
    site, process = random.choice((HOME, EDGE)), random.choice(KILLED)
    return {"": "", "cut": LINK, "kill": f"{site}/{process}"}.get(fault, site)
