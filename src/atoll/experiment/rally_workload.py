"""Workloads that Rally runs: the name of a scenario of rally-openstack with its arguments, or the path of a task's file.

A workload with the key `rally` is of this kind, and can have any name. Rally itself checks it before anything starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from atoll.experiment.workloads import COUNT, Counts, WorkloadParameters, combinations, distinct, listed
from atoll.rally.tasks import Checked, is_file

Check = Callable[[Sequence[Mapping[str, Any]]], Sequence[Checked]]
"""A function that has Rally check workloads, given by their parameters; a task's file is given by its absolute path."""

_Complaint = tuple[tuple[str | int, ...], str]

_MAPPING = "a mapping"
_PLACES = "`first` or `each`"


class RallyWorkload(WorkloadParameters):
    """A workload that Rally runs.

    Attributes:
        rally: the name of a scenario of rally-openstack, or the path of a file with a task of Rally, relative to the experiment's file.
        args: the arguments of the scenario; for a task's file, the values of the variables of its template.
        contexts: Rally's contexts, by name. The defaults are one tenant with one user (`users`), unlimited quotas (`quotas`), and a network
            for each tenant if the scenario boots servers (`network`). A null leaves out a default.
        runner: Rally's runner, such as {rps: {times: 50, rps: 2}}, in place of `times` and `concurrency`.
        times: iterations of Rally's runner `constant`; the first one is measured too.
        concurrency: iterations that run at the same time.
        at: "first" runs one Rally in the network of the first site, "each" runs one Rally in the network of each site.
    """

    LITERAL: ClassVar[frozenset[str]] = frozenset({"rally", "args", "contexts", "runner", "task"})

    rally: str = Field(min_length=1, description="the name of a scenario, such as Authenticate.keystone, or the path of a file")
    args: dict[str, Any] = Field(default_factory=dict, description=_MAPPING)
    contexts: dict[str, Any] = Field(default_factory=dict, description=_MAPPING)
    runner: dict[str, Any] | None = Field(default=None, description="a mapping such as {rps: {times: 50, rps: 2}}")
    times: Counts = Field(default=(5,), strict=False, description=COUNT)
    concurrency: Counts = Field(default=(1,), strict=False, description=COUNT)
    at: Annotated[tuple[Literal["first", "each"], ...], BeforeValidator(listed), AfterValidator(distinct)] = Field(
        default=("first",), strict=False, description=_PLACES
    )

    @model_validator(mode="after")
    def _check(self) -> RallyWorkload:
        given = self.model_fields_set
        if self.runner is not None and (counted := sorted({"times", "concurrency"} & given)):
            raise _inconsistent(f"`{counted[0]}` is given beside `runner`, which decides it: expected one of the two")
        if is_file(self.rally) and (strange := sorted({"contexts", "runner", "times", "concurrency"} & given)):
            raise _inconsistent(f"`{strange[0]}` is given beside the file {self.rally}, which decides it: expected it in the file alone")
        if self.runner is not None and "type" not in self.runner and len(self.runner) != 1:
            raise _inconsistent("`runner` has several keys: expected one, the name of Rally's runner")
        return self


class RallyTask(RallyWorkload):
    """A workload of a task's file, which has been checked.

    Attributes:
        task: the data of the file, with the values of the variables of its template.
    """

    task: Any


def _inconsistent(text: str) -> PydanticCustomError:
    return PydanticCustomError("experiment_inconsistent", "{text}", {"text": text})


def factors(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return one combination of a workload's parameters as factors; mappings become texts."""
    if "rally" not in parameters:
        return dict(parameters)
    decided = {"times", "concurrency"} if parameters["runner"] or parameters.get("task") else set()
    kept = {name: value for name, value in parameters.items() if value not in ({}, None) and name not in {"task", *decided}}
    if kept["at"] == "first":
        del kept["at"]
    return {name: json.dumps(value, sort_keys=True) if isinstance(value, dict) else value for name, value in kept.items()}


def complaints(workloads: dict[str, Any], directory: Path, regions: int | None, check: Check | None) -> Iterator[_Complaint]:
    """Yield the mistakes of the workloads that Rally runs, with their places in the document, and set the tasks of files.

    Args:
        workloads: all workloads of the experiment, by name.
        directory: the directory that paths are relative to.
        regions: the index of an architecture with separate regions in the experiment; `None` if there is none.
        check: has Rally check the workloads; `None` if only the document is checked.
    """
    found = {name: workload for name, workload in workloads.items() if isinstance(workload, RallyWorkload)}
    paths = {name: (directory / workload.rally).absolute() for name, workload in found.items() if is_file(workload.rally)}
    for name, path in paths.items():
        if not path.is_file():
            yield ("workloads", name, "rally"), f"{path}: no such file: expected the path of a task of Rally"
            return
    if found and regions is not None:
        yield ("architectures", regions), "Rally can't reach separate regions through their broker: expected another `kind`"
        return
    if not found or check is None:
        return
    given = [{**combinations(workload)[0], **({"rally": str(paths[name])} if name in paths else {})} for name, workload in found.items()]
    for name, checked in zip(found, check(given), strict=True):
        for part, reason in checked.problems:
            yield ("workloads", name, part), reason
        if name in paths:
            workloads[name] = RallyTask.model_construct(**dict(found[name]), task=checked.task)
