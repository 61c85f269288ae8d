"""HiGHS, the solver of mixed-integer programs, called through its own Python package."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from math import isclose
from pathlib import Path
from types import ModuleType
from typing import Any

from atoll.errors import AtollError
from atoll.experiment.plan.program import IntegerProgram


@dataclass(frozen=True)
class Solution:
    """The answer of the solver.

    Attributes:
        values: the value of each column in the best solution that was found; `None` if no solution was found.
        cost: the cost of that solution.
        least: a proven lower bound of the cost of every solution.
        infeasible: True if it is proven that no solution exists.
        seconds: the time that the solver took.
    """

    values: list[float] | None
    cost: float
    least: float
    infeasible: bool
    seconds: float

    @property
    def gap(self) -> float:
        """The difference between cost and lower bound, as a share of the cost; 0 means proven optimal, infinity that no bound is proven."""
        return 0.0 if self.cost <= self.least else (self.cost - self.least) / max(abs(self.cost), 1e-12)


def library() -> ModuleType:
    """Import and return the solver.

    Raises:
        AtollError: `plan.requirement`: the solver is not installed.
    """
    try:
        return import_module("highspy")
    except ImportError as error:
        hint = "`make install` in a checkout installs it, or `pip install 'atoll[experiment]'`"
        raise AtollError("plan.requirement", f"a plan needs the solver HiGHS, the Python package highspy: {error}", hint) from None


def solve(program: IntegerProgram, limit_s: float, gap: float = 0.0, start: list[float] | None = None) -> Solution:
    """Minimise the cost of a program.

    Args:
        program: the program.
        limit_s: seconds after which the best solution found so far is returned.
        gap: the relative gap at which a solution is good enough.
        start: the values of all columns of a solution from which the solver starts; `None` means no such solution.

    Raises:
        AtollError: `plan.requirement`: HiGHS is not installed.
    """
    highspy = library()
    begun = time.monotonic()
    with _quiet():
        highs = highspy.Highs()
    options = {"output_flag": False, "time_limit": limit_s, "mip_rel_gap": gap, "mip_abs_gap": 1e-9, "threads": 1}
    options |= {"mip_feasibility_tolerance": 1e-7, "primal_feasibility_tolerance": 1e-8}
    for name, value in options.items():
        highs.setOptionValue(name, value)
    highs.passModel(_model(highspy, program))
    if start is not None:
        first = highspy.HighsSolution()
        first.col_value = start
        highs.setSolution(first)
    highs.run()
    status, info = highs.getModelStatus(), highs.getInfo()
    statuses = highspy.HighsModelStatus
    infeasible = status in {statuses.kInfeasible, statuses.kUnboundedOrInfeasible}
    found = info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible)
    values = [float(value) for value in highs.getSolution().col_value] if found and not infeasible else None
    least = info.mip_dual_bound if any(program.integers) else info.objective_function_value
    if values is not None and start is not None and not isclose(program.cost(values), info.objective_function_value, abs_tol=1e-6):
        # HiGHS 1.16 returns the start, with the cost of a better solution, if its presolve alone finds that one.
        left_s = max(0.001, limit_s - (time.monotonic() - begun))
        return replace(solve(program, left_s, gap), seconds=time.monotonic() - begun)
    return Solution(values, float(info.objective_function_value), float(least), infeasible, time.monotonic() - begun)


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard standard output, because the solver prints its version before its output can be switched off."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _model(highspy: ModuleType, program: IntegerProgram) -> Any:
    np = import_module("numpy")  # installed, because HiGHS depends on it
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.costs), len(program.row_lowers)
    model.offset_ = program.offset
    model.col_cost_ = np.array(program.costs, dtype=np.double)
    model.col_lower_ = np.zeros(len(program.costs))
    model.col_upper_ = np.array(program.uppers, dtype=np.double)
    model.row_lower_ = np.array(program.row_lowers, dtype=np.double)
    model.row_upper_ = np.array(program.row_uppers, dtype=np.double)
    kinds = highspy.HighsVarType
    model.integrality_ = [kinds.kInteger if integer else kinds.kContinuous for integer in program.integers]
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.num_col_, matrix.num_row_ = model.num_col_, model.num_row_
    matrix.start_ = np.array(program.starts, dtype=np.int32)
    matrix.index_ = np.array(program.columns, dtype=np.int32)
    matrix.value_ = np.array(program.coefficients, dtype=np.double)
    return model
