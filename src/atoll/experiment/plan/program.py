"""The mixed-integer program of a plan.

Variables, all 0 or 1: a site is full; a site is served by another full site; a full site keeps a copy of an image; a site fetches an image
from a copy. The formulation is that of facility location, in which one row for each pair makes the linear relaxation strong. A row that
represents a bound of the file has the bound's name, so that it can be left out or made elastic when bounds contradict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from atoll.experiment.plan.placement import Placement
from atoll.experiment.plan.problem import Problem

Terms = Iterable[tuple[int, float]]
"""The terms of a row: the indices of columns, each with its coefficient."""


@dataclass
class IntegerProgram:
    """A mixed-integer program in rows; all its variables are at least 0.

    Attributes:
        costs: the cost of each column.
        uppers: the upper bound of each column.
        integers: whether the variable of each column is an integer.
        starts, columns, coefficients: the rows, in the format of compressed sparse rows.
        row_lowers, row_uppers: the bounds of each row.
        offset: a constant that is added to the cost of every solution.
    """

    costs: list[float] = field(default_factory=list)
    uppers: list[float] = field(default_factory=list)
    integers: list[bool] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    coefficients: list[float] = field(default_factory=list)
    row_lowers: list[float] = field(default_factory=list)
    row_uppers: list[float] = field(default_factory=list)
    offset: float = 0.0

    def column(self, cost: float, upper: float = 1.0, *, integer: bool = True) -> int:
        """Add a variable, and return its index."""
        self.costs.append(cost)
        self.uppers.append(upper)
        self.integers.append(integer)
        return len(self.costs) - 1

    def row(self, terms: Terms, lower: float = -inf, upper: float = inf) -> None:
        """Add a row with its bounds."""
        for column, coefficient in terms:
            if coefficient:
                self.columns.append(column)
                self.coefficients.append(coefficient)
        self.starts.append(len(self.columns))
        self.row_lowers.append(lower)
        self.row_uppers.append(upper)

    def cost(self, values: Sequence[float]) -> float:
        """Return the cost of a solution, given by the value of each column."""
        return self.offset + sum(cost * value for cost, value in zip(self.costs, values, strict=True))


@dataclass(frozen=True)
class Bound:
    """One bound of the file, which may stand for many rows of the program.

    Attributes:
        kind: the kind of the bound, as in the file.
        operation: the operation that a bound `within` limits; empty for other kinds.
    """

    kind: str
    operation: str = ""


@dataclass(frozen=True)
class Slack:
    """The meaning of a slack column, whose value is the amount by which an elastic bound is exceeded.

    Attributes:
        subject: the site, image or operation that the bound concerns; empty for the whole cloud.
        limit: the limit of the row.
        scale: the amount by which the limit changes if the column's value is 1.
    """

    subject: str
    limit: float
    scale: float


class Model:
    """The integer program of a plan, with the meaning of its columns.

    Args:
        problem: the plan in numbers.
        without: bounds that are left out.
        elastic: a bound that may be exceeded; the cost is then the sum of the excesses, as shares of the limits, instead of the price.
    """

    def __init__(self, problem: Problem, without: frozenset[Bound] = frozenset(), elastic: Bound | None = None) -> None:
        self.problem = problem
        self.program = IntegerProgram()
        self.slacks: dict[int, Slack] = {}
        self._without, self._elastic = without, elastic
        self._ignored = {bound.operation for bound in (*without, *([elastic] if elastic else ())) if bound.kind == "within"}
        self._priced = 1.0 if elastic is None else 0.0
        self.program.offset = problem.base_price() * self._priced
        self._add_sites()
        self._add_images()
        self._add_budgets()
        self._add_traffic()
        self._add_latencies()
        self._add_spares()

    def _add_sites(self) -> None:
        problem, program, count = self.problem, self.program, self.problem.count
        self.full = [program.column(self._priced * (problem.full_price() + problem.control_price(site, site))) for site in range(count)]
        self.served: dict[tuple[int, int], int] = {}
        for site in range(count):
            for control in range(count):
                if site != control and problem.reaches(site, control, self._ignored) and not self._useless(site, control):
                    self.served[site, control] = program.column(self._priced * problem.control_price(site, control))
        self._guests: list[list[int]] = [[] for _ in range(count)]
        hosts: list[list[int]] = [[] for _ in range(count)]
        for (site, control), column in self.served.items():
            program.row([(column, 1.0), (self.full[control], -1.0)], upper=0.0)
            self._guests[control].append(column)
            hosts[site].append(column)
        for site in range(count):
            program.row([(self.full[site], 1.0), *((column, 1.0) for column in hosts[site])], 1.0, 1.0)

    def _useless(self, site: int, control: int) -> bool:
        """Return whether no optimal plan has `control` serve `site`; always false while bounds are left out or elastic."""
        return not self._without and self._elastic is None and self.problem.dominated(site, control)

    def _add_images(self) -> None:
        problem, program = self.problem, self.program
        self.copies: list[list[int]] = []
        self.fetched: dict[tuple[int, int, int], int] = {}
        for image in range(len(problem.images)):
            copies = [program.column(self._priced * problem.copy_price(image)) for _ in range(problem.count)]
            self.copies.append(copies)
            for site, column in enumerate(copies):
                program.row([(column, 1.0), (self.full[site], -1.0)], upper=0.0)
            program.row([(column, 1.0) for column in copies], lower=1.0)
            for site in problem.image_users(image):
                for source, column in enumerate(copies):
                    fetched = program.column(self._priced * problem.source_price(image, site, source))
                    self.fetched[image, site, source] = fetched
                    program.row([(fetched, 1.0), (column, -1.0)], upper=0.0)
                program.row([(self.fetched[image, site, source], 1.0) for source in range(problem.count)], 1.0, 1.0)

    def _bound(self, bound: Bound, subject: str, terms: Terms, limit: float, *, least: bool = False) -> None:
        """Add the row of a bound of the file, unless it is left out or infinite."""
        if bound in self._without or abs(limit) == inf:
            return
        added = list(terms)
        scale = max((abs(coefficient) for _column, coefficient in added), default=1.0) or 1.0
        added = [(column, coefficient / scale) for column, coefficient in added]
        if bound == self._elastic:
            slack = self.program.column(scale / max(abs(limit), 1e-9), inf, integer=False)
            self.slacks[slack] = Slack(subject, limit, -scale if least else scale)
            added.append((slack, 1.0 if least else -1.0))
        self.program.row(added, lower=limit / scale if least else -inf, upper=inf if least else limit / scale)

    def _add_budgets(self) -> None:
        problem = self.problem
        extra = problem.full - problem.compute
        for site, name in enumerate(problem.names):
            terms = [(self.full[site], extra), *((column, problem.controlled) for column in self._guests[site])]
            self._bound(Bound("memory"), name, terms, problem.memory[site] - problem.compute)
            kept = [(self.copies[image][site], each.bytes) for image, each in enumerate(problem.images)]
            self._bound(Bound("disk"), name, kept, problem.disk[site])
            if problem.kinds[site] == "full":
                self._bound(Bound("kind"), name, [(self.full[site], 1.0)], 1.0, least=True)
            if problem.kinds[site] == "compute":
                self._bound(Bound("kind"), name, [(self.full[site], 1.0)], 0.0)
        self._bound(Bound("full_sites"), "", [(column, 1.0) for column in self.full], problem.full_sites)

    def _add_traffic(self) -> None:
        problem = self.problem
        total = [(column, problem.mesh) for column in self.full]
        sites = [[(column, problem.mesh)] for column in self.full]
        crossing = [(column, site, control, problem.control_bytes(site)) for (site, control), column in self.served.items()]
        crossing += [
            (column, site, source, problem.source_bytes(image, site, source))
            for (image, site, source), column in self.fetched.items()
            if site != source
        ]
        for column, site, other, count in crossing:
            total.append((column, count))
            sites[site].append((column, count))
            sites[other].append((column, count))
        self._bound(Bound("wan"), "", total, problem.wan_total)
        for site, name in enumerate(problem.names):
            self._bound(Bound("wan"), name, sites[site], problem.wan[site])

    def _add_latencies(self) -> None:
        problem = self.problem
        for demand in problem.demands:
            if demand.within_s == inf:
                continue
            for site, name in enumerate(problem.names):
                if demand.load[site] == 0:
                    continue
                terms = [
                    (self.served[site, control], problem.served_s(demand, site, control) - demand.costs.time_s)
                    for control in range(problem.count)
                    if (site, control) in self.served
                ]
                if demand.image is not None and (demand.image, site, site) in self.fetched:
                    terms += [
                        (self.fetched[demand.image, site, source], problem.fetch_s(demand.image, site, source))
                        for source in range(problem.count)
                    ]
                limit = demand.within_s - demand.costs.time_s
                self._bound(Bound("within", demand.name), f"{demand.name} at {name}", terms, limit)

    def _add_spares(self) -> None:
        problem = self.problem
        if not problem.survive:
            return
        for site, name in enumerate(problem.names):
            near = [(self.full[each], 1.0) for each in range(problem.count) if problem.reaches(site, each, self._ignored)]
            self._bound(Bound("survive"), name, near, problem.survive + 1, least=True)
        for image, copies in zip(problem.images, self.copies, strict=True):
            self._bound(Bound("survive"), f"image {image.name}", [(column, 1.0) for column in copies], problem.survive + 1, least=True)

    def values(self, placement: Placement) -> list[float] | None:
        """Return the values of all columns for a placement; `None` if the program has no column for one of its pairs of sites."""
        chosen = [self.full[site] for site in placement.full]
        chosen += [self.copies[image][site] for image, sites in enumerate(placement.copies) for site in sites]
        chosen += [self.fetched[image, site, source] for (image, site), source in placement.sources.items()]
        for site, control in enumerate(placement.controls):
            if site != control:
                if (site, control) not in self.served:
                    return None
                chosen.append(self.served[site, control])
        made = [0.0] * len(self.program.costs)
        for column in chosen:
            made[column] = 1.0
        return made

    def placement(self, values: list[float]) -> Placement:
        """Return the placement that the values of all columns describe."""
        problem = self.problem
        controls = list(range(problem.count))
        for (site, control), column in self.served.items():
            if values[column] > 0.5:
                controls[site] = control
        copies = tuple(frozenset(site for site, column in enumerate(columns) if values[column] > 0.5) for columns in self.copies)
        sources = {(image, site): source for (image, site, source), column in self.fetched.items() if values[column] > 0.5}
        return Placement(tuple(controls), copies, sources)


def bounds(problem: Problem) -> list[Bound]:
    """Return the bounds that the file gives."""
    kinds = {
        "memory": any(each != inf for each in problem.memory),
        "disk": any(each != inf for each in problem.disk),
        "wan": any(each != inf for each in (*problem.wan, problem.wan_total)),
        "kind": any(each is not None for each in problem.kinds),
        "full_sites": problem.full_sites != inf,
        "survive": problem.survive > 0,
    }
    within = [Bound("within", demand.name) for demand in problem.demands if demand.within_s != inf and any(demand.load)]
    return [*within, *(Bound(kind) for kind, given in kinds.items() if given)]
