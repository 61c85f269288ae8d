"""The crash points that a site's processes reach, and the plan of the points at which a process dies.

Both are files in the site's directory `crashes`, so that the plan can change while the site runs, and so that a process that replaces a
dead one can read which points its predecessor reached:

    plan      JSON: a round, and the points at which a process dies in it, one after the other
    ROUND     a line for each point that a process reached in the round
    ROUND.N   created by the process that dies at the N-th point of the plan
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

DIRECTORY = "crashes"
"""The directory below a site's own directory. Without it, processes record no points and do not die."""

_PLAN = "plan"


@dataclass(frozen=True, order=True)
class Point:
    """A crash point that a process reached.

    Attributes:
        process: the name of the process, such as `paris/nova`.
        name: the name of the point, such as `before commit UPDATE instances`, with masked ids. In a plan, an empty name matches any point.
        number: the number of times that the process has reached a point of this name in this round, from 1.
        life: the number of planned deaths that happened before this point was reached.
    """

    process: str
    name: str
    number: int
    life: int = 0

    def __str__(self) -> str:
        return f"{self.process}: {self.name} #{self.number}" + (f" after {self.life} deaths" if self.life else "")


@dataclass(frozen=True)
class Plan:
    """The plan of a round.

    Attributes:
        round: the name of the round.
        deaths: the points at which a process dies, one after the other.
    """

    round: str
    deaths: tuple[Point, ...] = ()


_MASKED = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9A-Za-z])[0-9a-f]{32,64}(?![0-9A-Za-z])|(?<=/)\d+(?=/|$)")


def masked(path: str) -> str:
    """Return a path without its query and with `*` for each id."""
    return _MASKED.sub("*", path.partition("?")[0])


class Board:
    """The crash point files of a site.

    Args:
        directory: the directory of the site.

    Attributes:
        directory: the directory of the files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / DIRECTORY

    def open(self, shared: Board | None = None) -> None:
        """Create the directory of the files. From then on, processes record points.

        Args:
            shared: the files of another site, which this site is to use too; `None` means files of its own.
        """
        if shared is not None:
            self.directory.symlink_to(shared.directory)
        else:
            self.directory.mkdir(mode=0o700, exist_ok=True)

    def begin(self, plan: Plan) -> None:
        """Begin a round with a plan."""
        temporary = self.directory / f"{_PLAN}.new"
        temporary.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        temporary.replace(self.directory / _PLAN)

    def end(self) -> None:
        """End the round: processes record no more points and do not die."""
        (self.directory / _PLAN).unlink(missing_ok=True)

    def reached(self, round_: str) -> list[Point]:
        """Return the points that were reached in a round, in order."""
        file = self.directory / round_
        return [Point(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []

    def deaths(self, round_: str) -> int:
        """Return the number of the plan's points that were reached."""
        return len(list(self.directory.glob(f"{round_}.*")))

    # Methods that the processes call

    def plan(self) -> Plan | None:
        """Return the plan of the round: the points at which processes die; `None` outside a round."""
        try:
            said = json.loads((self.directory / _PLAN).read_bytes())
        except FileNotFoundError:
            return None
        return Plan(said["round"], tuple(Point(**each) for each in said["deaths"]))

    def note(self, round_: str, point: Point) -> None:
        """Record that a point was reached."""
        with (self.directory / round_).open("ab", buffering=0) as file:
            file.write((json.dumps(asdict(point)) + "\n").encode())

    def claim(self, round_: str, death: int) -> bool:
        """Claim a death of the plan; return False if another process has claimed it."""
        try:
            (self.directory / f"{round_}.{death}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Watch:
    """Records the points that a process reaches, and ends the process at a planned point.

    Args:
        board: the crash point files of the process's site.
        process: the name of the process.
        die: ends the process immediately.
    """

    def __init__(self, board: Board, process: str, die: Callable[[], object]) -> None:
        self._board = board
        self._process = process
        self._die = die
        self._round = ""
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Record a point, and die if the plan says so."""
        with self._lock:
            plan = self._board.plan()
            if plan is None:
                return
            if plan.round != self._round:
                self._round = plan.round
                self._seen.clear()
            self._seen[name] += 1
            self._seen[""] += 1
            life = self._board.deaths(plan.round)
            point = Point(self._process, name, self._seen[name], life)
            self._board.note(plan.round, point)
            if life < len(plan.deaths) and self._is(plan.deaths[life], point) and self._board.claim(plan.round, life):
                self._die()

    def _is(self, planned: Point, point: Point) -> bool:
        return planned.process == point.process and planned.name in ("", point.name) and planned.number == self._seen[planned.name]


def distinct(points: Iterable[Point]) -> list[Point]:
    """Return the points without repetitions, in the order in which they were first reached."""
    return list(dict.fromkeys(points))
