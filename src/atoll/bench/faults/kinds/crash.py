"""SIGKILL of a process of a site at one of its crash points: just before or after a commit, a message, a request or an answer."""

from __future__ import annotations

from random import Random

from atoll.bench.crashes.point import Board, Plan, Point
from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait
from atoll.bench.faults.kinds import kill_process

MOST = 60
"""Greatest number of crash points that the process passes before it dies; some requests reach so many."""


def _draw(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    target, _amount = kill_process.KILL_PROCESS.draw(random, sites)
    return target, float(random.randint(1, MOST))


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    board = Board(cloud.state.site(fault.target[0]))
    board.begin(Plan(f"fault-{fault.at_s}", (Point("/".join(fault.target), "", round(fault.amount)),)))
    try:
        wait(fault.lasts_s)
    finally:
        board.end()


CRASH = Kind("crash", _draw, kill_process.KILL_PROCESS.claims, _inject)
