"""The file of an experiment: architectures, links, faults, workloads and repetitions, of which every combination is a cell.

A field's `description` completes the sentence "expected …" in error messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from atoll.cloud import Cloud, yaml_errors
from atoll.cloud.databases import EXPECTED, Database
from atoll.cloud.model import Name
from atoll.cloud.quantities import DURATION, PROBABILITY, RATE, Duration, Probability, Rate
from atoll.cloud.yaml_errors import Form
from atoll.experiment import databases, faults, rally_workload, shapes
from atoll.experiment.architectures import CLOUD, HOLLOW, Architecture, CloudOfCells, clouds
from atoll.experiment.databases import DATABASES, Databases
from atoll.experiment.faults import Scenario, Step, WorkflowPoint
from atoll.experiment.rally_workload import RallyWorkload
from atoll.experiment.shapes import Shape
from atoll.experiment.workloads import SYSTEMS, WORKLOADS, WorkloadParameters, combinations, count, distinct, listed

MOST_CELLS = 100_000
"""The largest number of cells; at one cell a minute they would take 69 days."""

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")

_Delays = Annotated[tuple[Duration, ...], BeforeValidator(listed), AfterValidator(distinct)]
_Rates = Annotated[tuple[Rate, ...], BeforeValidator(listed), AfterValidator(distinct)]
_Losses = Annotated[tuple[Probability, ...], BeforeValidator(listed), AfterValidator(distinct)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Links(_Model):
    """Properties of all links of a cloud; each item of a list makes cells of its own.

    A property that a cloud's own file gives a link has precedence.

    Attributes:
        delay: delay of one direction, such as "25ms"; the round trip takes twice as long.
        jitter: greatest deviation from the delay, longer or shorter, such as "2ms".
        rate: bits of IP packets per second in each direction, such as "20mbit".
        loss: share of packets that are lost in each direction, such as "1%".
    """

    delay: _Delays = Field(default=(), description=f"{DURATION}, or a list of them")
    jitter: _Delays = Field(default=(), description=f"{DURATION}, or a list of them")
    rate: _Rates = Field(default=(), description=f"{RATE}, or a list of them")
    loss: _Losses = Field(default=(), description=f"{PROBABILITY}, or a list of them")

    @property
    def count(self) -> int:
        """The number of combinations of the properties."""
        return prod(len(getattr(self, name)) or 1 for name in type(self).model_fields)

    @property
    def shapes(self) -> list[dict[str, str]]:
        """Every combination of the properties that the file gives, as fields of a link."""
        given = [(name, values) for name in type(self).model_fields if (values := getattr(self, name))]
        return [dict(zip((name for name, _values in given), each, strict=True)) for each in product(*(values for _name, values in given))]


class Experiment(_Model):
    """The document of an experiment.

    Attributes:
        name: the experiment's name.
        seed: the seed of the order of the cells, and of random choices in them.
        repetitions: runs of each combination.
        architectures: the clouds.
        links: the properties of the clouds' links.
        databases: the databases of the full sites; each item makes cells of its own. Without this key, sites have the
            databases of their architecture.
        faults: scenarios of faults. Without this key, no cell has a fault.
        workloads: workloads by name, with their parameters.
        expect: the shapes that the results are expected to have; the report, and `atoll experiment check`, compare them.
    """

    name: Name = Field(description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    seed: int = Field(default=0, ge=0, le=2**31, description=f"a whole number from 0 to {2**31}")
    repetitions: int = Field(default=3, ge=1, le=1000, description="a whole number from 1 to 1000")
    architectures: tuple[Architecture, ...] = Field(
        strict=False, description="a list of at least one architecture, such as [{kind: cooperative, sites: 3}]"
    )
    links: tuple[Links, ...] = Field(
        default=(Links(),), strict=False, description="a list of at least one mapping, such as [{delay: [0ms, 50ms]}]"
    )
    databases: Databases = Field(default=(Database(),), strict=False, description=DATABASES)
    faults: tuple[Scenario, ...] = Field(
        default=(), strict=False, description="a list of scenarios, such as [{name: none}, {name: cut, steps: [{kind: cut, …}]}]"
    )
    workloads: dict[str, Any] = Field(description="a mapping of workloads, such as {boot: {times: 5}}")
    expect: tuple[Shape, ...] = Field(
        default=(), strict=False, description="a list of shapes, such as [{operation: boot, round_trips: [40, 80]}]"
    )

    @field_validator("architectures", "links", "databases", "workloads")
    @classmethod
    def _check_length(cls, given: Any, info: ValidationInfo) -> Any:
        if not given:  # not `min_length`: pydantic counts only valid items, and would report a second error
            text = "the list or mapping is empty: expected at least one item"
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": (str(info.field_name),)})
        return given

    @field_validator("workloads", mode="after")
    @classmethod
    def _read_workloads(cls, given: dict[str, Any]) -> dict[str, Any]:
        for path, text in _complaints(given):
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": ("workloads", *path)})
        return {name: _model(name, parameters).model_validate(parameters or {}) for name, parameters in given.items()}

    @property
    def count(self) -> int:
        """The number of cells."""
        clouds = sum(len(architecture.clouds) for architecture in self.architectures)
        workloads = sum(count(workload) for workload in self.workloads.values())
        shapes = sum(links.count for links in self.links)
        return clouds * shapes * len(self.databases) * (len(self.faults) or 1) * workloads * self.repetitions

    @property
    def traced(self) -> bool:
        """True if a fault happens at a point of a workflow, so that all requests of all cells are recorded."""
        return any(step.when is not None for scenario in self.faults for step in scenario.steps)

    @model_validator(mode="after")
    def _check_cells(self) -> Experiment:
        for path, text in self._complaints_of_cells():
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": path})
        return self

    @model_validator(mode="after")
    def _check_systems(self) -> Experiment:
        for path, text in self._complaints_of_systems():
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": path})
        return self

    def _complaints_of_systems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the parts of the document that do not apply to the systems of its architectures, such as faults of a bus."""
        first = self.architectures[0]
        for index, architecture in enumerate(self.architectures):
            if architecture.system != first.system:
                text = f"`kind: {architecture.kind}` is no system like `kind: {first.kind}`, and has other workloads"
                yield ("architectures", index), f"{text}: expected a file of its own"
        for name in self.workloads:
            if (needed := SYSTEMS.get(name, CLOUD)) != first.system:
                wanted = f"`kind: {needed}`" if name in SYSTEMS else "a cloud"
                text = f"the workload {name} needs {wanted}, not `kind: {first.kind}`"
                yield ("workloads", name), f"{text}: expected another workload or kind"
        if first.system == CLOUD:
            return
        if self.names_databases:
            yield ("databases",), f"`kind: {first.kind}` has no databases: expected no `databases`"
        for index, scenario in enumerate(self.faults):
            if scenario.steps:
                yield ("faults", index), f"`kind: {first.kind}` can't have faults yet: expected no steps"
        if first.system == HOLLOW:
            yield from self._complaints_of_members()

    def _complaints_of_members(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for index, links in enumerate(self.links):
            if strange := [name for name in ("jitter", "rate", "loss") if getattr(links, name)]:
                yield ("links", index, strange[0]), f"links of hollow members have only a delay: expected no `{strange[0]}`"
        fewest = min(min(architecture.sites) for architecture in self.architectures)
        for name, workload in self.workloads.items():
            if (gateways := max(workload.gateways)) >= fewest:
                yield ("workloads", name, "gateways"), f"{gateways} gateways for {fewest} members: expected fewer gateways than members"

    def _complaints_of_cells(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.count > MOST_CELLS:
            yield (), f"all combinations of the lists make {self.count} cells: expected at most {MOST_CELLS}"
        names: set[str] = set()
        for index, architecture in enumerate(self.architectures):
            if twice := [name for name in architecture.clouds if name in names]:
                yield ("architectures", index), f"a second cloud called {twice[0]}: expected each cloud once"
            names.update(architecture.clouds)
        shapes: set[tuple[tuple[str, str], ...]] = set()
        for index, links in enumerate(self.links):
            own = {tuple(shape.items()) for shape in links.shapes}
            if own & shapes:
                yield ("links", index), "an earlier item has the same properties: expected each combination once"
            shapes |= own

    @model_validator(mode="after")
    def _check_shapes(self) -> Experiment:
        for path, text in shapes.complaints(self.expect, self._known()):
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": path})
        return self

    def _known(self) -> dict[str, set[str]]:
        """Return the values of each factor of the cells, as texts."""
        known: dict[str, set[str]] = {"workload": set(self.workloads)}
        factors: list[Mapping[str, Any]] = [shape for links in self.links for shape in links.shapes]
        for architecture in self.architectures:
            name = architecture.clouds[0] if architecture.file is not None else architecture.kind
            factors += [{"architecture": name, **(each if architecture.file is None else {})} for each in architecture.variants]
        for workload in self.workloads.values():
            factors += [rally_workload.factors(each) for each in combinations(workload)]
        factors += [{"database": databases.name_of(each)} for each in self.databases if self.names_databases]
        factors += [{"faults": scenario.name} for scenario in self.faults]
        for each in factors:
            for factor, value in each.items():
                known.setdefault(factor, set()).add(str(value))
        return known

    @model_validator(mode="after")
    def _check_files(self, info: ValidationInfo) -> Experiment:
        directory = Path((info.context or {}).get("directory", "."))
        for index, architecture in enumerate(self.architectures):
            if architecture.file is not None and not (directory / architecture.file).is_file():
                text = f"{directory / architecture.file}: no such file: expected the path of a cloud's YAML file"
                path = ("architectures", index, "file")
                raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": path})
        return self

    @model_validator(mode="after")
    def _check_rally(self, info: ValidationInfo) -> Experiment:
        context = info.context or {}
        regions = next((index for index, architecture in enumerate(self.architectures) if architecture.kind == "regions"), None)
        found = rally_workload.complaints(self.workloads, Path(context.get("directory", ".")), regions, context.get("rally"))
        for path, text in found:
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": path})
        return self

    @model_validator(mode="after")
    def _check_combinations(self, info: ValidationInfo) -> Experiment:
        if not self.names_databases and not self.faults:
            return self
        directory = Path((info.context or {}).get("directory", "."))
        made = [each for architecture in self.architectures for each in clouds(architecture, directory)]
        for path, text in self._complaints_of_combinations(made):
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text, "path": path})
        return self

    def _complaints_of_combinations(self, made: list[CloudOfCells]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.names_databases:
            yield from databases.complaints(self.databases, made)
        if any(scenario.steps for scenario in self.faults) or len(self.faults) > 1:
            yield from faults.complaints(self.faults, self._models(made))

    def _models(self, made: list[CloudOfCells]) -> dict[str, Cloud]:
        """Return the model of every combination of a cloud and a database, by its name in messages."""
        if not self.names_databases:
            return {each.name: Cloud.model_validate(each.document) for each in made}
        return {
            f"{each.name} on {databases.name_of(database)}": Cloud.model_validate(databases.with_database(each.document, database))
            for each in made
            for database in self.databases
        }

    @property
    def names_databases(self) -> bool:
        """True if the file names databases, so that the database is a factor of the cells."""
        return "databases" in self.model_fields_set


def _model(name: str, parameters: Any) -> type[WorkloadParameters]:
    """Return the model of a workload's parameters.

    Raises:
        KeyError: no workload has this name.
    """
    return RallyWorkload if isinstance(parameters, dict) and "rally" in parameters else WORKLOADS[name][0]


def _complaints(given: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, parameters in given.items():
        try:
            model = _model(name, parameters)
        except KeyError:
            own = f"expected one of {', '.join(WORKLOADS)}, or a workload with the key `rally`"
            yield (name,), f"no workload is called {name}: {own}"
            continue
        if model is RallyWorkload and (name in WORKLOADS or _NAME.fullmatch(name) is None):
            own = "expected a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter"
            yield (name,), f"{own}, that is not the name of one of Atoll's own workloads"
            continue
        try:
            model.model_validate({} if parameters is None else parameters)
        except ValidationError as error:
            yield _complaint(name, model, error)


def _complaint(name: str, model: type[WorkloadParameters], error: ValidationError) -> tuple[tuple[str, ...], str]:
    """Return the place and the text of the first mistake in the parameters of a workload."""
    detail = error.errors(include_url=False)[0]
    key = str(detail["loc"][0]) if detail["loc"] else ""
    path = (name, key) if key else (name,)
    if detail["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) or "none"
        return path, f"{name} has no parameter {key}: expected one of {known}"
    if detail["type"] in {"swept_twice", "experiment_inconsistent"}:
        return path, detail["msg"]
    field = model.model_fields.get(key)
    expected = field.description if field is not None else "a mapping of parameters"
    return path, f"expected {expected}, got {yaml_errors.describe(detail['input'])}"


_FORM = Form(
    root=Experiment,
    nested={
        "architectures": Architecture,
        "links": Links,
        "databases": Database,
        "faults": Scenario,
        "steps": Step,
        "when": WorkflowPoint,
        "expect": Shape,
    },
    mappings={
        Experiment: "a mapping with `name`, `architectures` and `workloads`",
        Architecture: "a mapping such as {kind: cooperative, sites: 3}",
        Links: "a mapping such as {delay: [0ms, 50ms]}",
        Database: EXPECTED,
        Scenario: "a mapping such as {name: cut, steps: [{kind: cut, target: site-2, at: 10s}]}",
        Step: "a mapping such as {kind: cut, target: site-2, at: 10s, lasts: 60s}",
        Shape: "a mapping such as {operation: boot, round_trips: [40, 80]}",
        WorkflowPoint: "a mapping such as {span: compute build_and_run_instance, service: nova}",
    },
    own_text=frozenset({"experiment_inconsistent", "swept_twice", "database_invalid"}),
    code="experiment.invalid",
    missing="experiment.not_found",
    kind="experiment",
    example="a mapping with `name`, `architectures` and `workloads`",
    list_field="architectures",
)


def read_experiment(path: Path, rally: rally_workload.Check | None = None) -> Experiment:
    """Read an experiment from a YAML file.

    Args:
        path: the file.
        rally: has Rally check the workloads that Rally runs; called only if there are any. Without it, tasks' files are not read.

    Raises:
        AtollError: `experiment.not_found`: the file does not exist; `experiment.invalid`: the file can't be read or is not valid.
    """
    return yaml_errors.read(path, _FORM, rally=rally)


def parse_experiment(
    content: str | bytes, source: str, directory: Path | None = None, rally: rally_workload.Check | None = None
) -> Experiment:
    """Parse the YAML text of an experiment.

    Args:
        content: the YAML text.
        source: the name of the text in errors, such as the path of its file.
        directory: the directory that paths in the text are relative to; default: the current directory.
        rally: as in `read_experiment`.

    Raises:
        AtollError: `experiment.invalid`: the text is not valid; the message is one line with the place, the expected value and the value
            found.
    """
    return yaml_errors.parse(content, source, _FORM, directory, rally=rally)
