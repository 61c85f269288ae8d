"""The points that a site's processes reach, and the plan that says where one of them dies.

Both are files in the directory `crashes` of the site, so that what is planned can change while the site runs, and so that a process that
was started in the place of a dead one knows what its predecessor knew:

    plan      JSON: a round, and the points at which a process dies in it, one after the other
    ROUND     a line for each point that a process reached in a round
    ROUND.N   made by whoever dies at the N-th point of the plan
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
"""Below a site's own directory. Without it, its processes record nothing and die nowhere."""

_PLAN = "plan"


@dataclass(frozen=True, order=True)
class Point:
    """A moment in the life of a process.

    Attributes:
        process: its name, such as `paris/nova`.
        name: such as `before commit UPDATE instances`: ids are masked. In a plan, empty: any.
        number: how often its process has been at a point of this name, in this round, counted from 1.
        life: how many deaths of the plan have happened before it.
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
        round: its name.
        deaths: the points at which a process dies, one after the other.
    """

    round: str
    deaths: tuple[Point, ...] = ()


_MASKED = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9A-Za-z])[0-9a-f]{32,64}(?![0-9A-Za-z])|(?<=/)\d+(?=/|$)")


def masked(path: str) -> str:
    """A path without its query, with `*` in place of what is different each time."""
    return _MASKED.sub("*", path.partition("?")[0])


class Board:
    """The files of a site.

    Args:
        directory: of the site.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / DIRECTORY

    def open(self, shared: Board | None = None) -> None:
        """Let processes look at them from now on.

        Args:
            shared: the files of another site, which count for this one too.
        """
        if shared is not None:
            self._directory.symlink_to(shared._directory)  # noqa: SLF001, RUF100
        else:
            self._directory.mkdir(mode=0o700, exist_ok=True)

    def begin(self, plan: Plan) -> None:
        """Begin a round."""
        temporary = self._directory / f"{_PLAN}.new"
        temporary.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        temporary.replace(self._directory / _PLAN)

    def end(self) -> None:
        """Have nothing recorded, and nobody die, from now on."""
        (self._directory / _PLAN).unlink(missing_ok=True)

    def reached(self, round_: str) -> list[Point]:
        """The points of a round, in order."""
        file = self._directory / round_
        return [Point(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []

    def deaths(self, round_: str) -> int:
        """How many points of the plan were reached."""
        return len(list(self._directory.glob(f"{round_}.*")))

    # For the processes

    def plan(self) -> Plan | None:
        """The plan; None if there is none."""
        try:
            said = json.loads((self._directory / _PLAN).read_bytes())
        except FileNotFoundError:
            return None
        return Plan(said["round"], tuple(Point(**each) for each in said["deaths"]))

    def note(self, round_: str, point: Point) -> None:
        """Add a point to those that were reached."""
        with (self._directory / round_).open("ab", buffering=0) as file:
            file.write((json.dumps(asdict(point)) + "\n").encode())

    def claim(self, round_: str, death: int) -> bool:
        """Take a death of the plan; False if it was taken before."""
        try:
            (self._directory / f"{round_}.{death}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Watch:
    """A process's note of each point that it reaches, where it dies if that is planned.

    Args:
        board: of its site.
        process: its name.
        die: ends the process at once.
    """

    def __init__(self, board: Board, process: str, die: Callable[[], object]) -> None:
        self._board = board
        self._process = process
        self._die = die
        self._round = ""
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Be at a point."""
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
    """Points, each once, in the order in which they were reached first."""
    return list(dict.fromkeys(points))
