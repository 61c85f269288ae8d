"""The architectures of an experiment, and their clouds.

A field's `description` completes the sentence "expected …" in error messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from atoll.cloud.document import read_cloud, to_data
from atoll.experiment.workloads import Counts, distinct, listed

MOST_SITES = 64


class Architecture(BaseModel):
    """Clouds of one kind.

    Attributes:
        kind: "cooperative" is a cloud of full sites. "centralised" is one full site and compute sites. "regions" are full sites that
            do not cooperate, under a broker at the first of them, through which users reach the compute services. "file" is the cloud
            of a file.
        sites: the number of sites; a list is swept.
        ask: the order in which the broker of regions asks them for a list: "parallel" is all at once, "serial" one after the other.
        traffic: the control traffic between services of full sites: "reduced" by Atoll's patches, or "stock", that of upstream's own code.
        file: the cloud's YAML, relative to the experiment's file.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kind: Literal["cooperative", "centralised", "regions", "file"] = Field(description="`cooperative`, `centralised`, `regions` or `file`")
    sites: Counts = Field(default=(3,), strict=False, description=f"a whole number from 1 to {MOST_SITES}, or a list of them")
    ask: Annotated[tuple[Literal["parallel", "serial"], ...], BeforeValidator(listed), AfterValidator(distinct)] = Field(
        default=("parallel",), strict=False, description="`parallel`, `serial`, or a list of both"
    )
    traffic: Annotated[tuple[Literal["reduced", "stock"], ...], BeforeValidator(listed), AfterValidator(distinct)] = Field(
        default=("reduced",), strict=False, description="`reduced`, `stock`, or a list of both"
    )
    file: str | None = Field(default=None, min_length=1, description="the path of a cloud's YAML file")

    @model_validator(mode="after")
    def _check(self) -> Architecture:
        if (self.kind == "file") != (self.file is not None):
            text = "`kind: file` and `file` belong together: expected both or neither"
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text})
        if self.kind == "file" and (strange := sorted({"sites", "traffic"} & self.model_fields_set)):
            text = f"`{strange[0]}` beside `file`, which has its own: expected one of them"
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text})
        if self.kind != "regions" and "ask" in self.model_fields_set:
            text = f"`ask` with `kind: {self.kind}`, which has no broker: expected `kind: regions`"
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text})
        if max(self.sites) > MOST_SITES:
            text = f"{max(self.sites)} sites: expected at most {MOST_SITES}"
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text})
        return self

    @property
    def clouds(self) -> list[str]:
        """The names of its clouds, by which results tell them from others."""
        if self.file is not None:
            return [Path(self.file).stem]
        return [f"{self.kind} with {', '.join(f'{name}: {value}' for name, value in each.items())}" for each in self.variants]

    @property
    def variants(self) -> list[dict[str, Any]]:
        """The factors of each of its clouds, besides the architecture; those that the file does not name have none."""
        swept: dict[str, tuple[Any, ...]] = {"sites": self.sites}
        if self.kind == "regions":
            swept["ask"] = self.ask
        if "traffic" in self.model_fields_set:
            swept["traffic"] = self.traffic
        return [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]


@dataclass(frozen=True)
class CloudOfCells:
    """A cloud that cells of an experiment start.

    Attributes:
        name: its name, by which results tell it from others.
        factors: its factors, such as `architecture` and `sites`.
        document: its document, without the links of the experiment.
        broker: the order in which the broker of regions asks them, "parallel" or "serial"; empty for a cloud without a broker.
    """

    name: str
    factors: Mapping[str, Any]
    document: Mapping[str, Any]
    broker: str = ""


def clouds(architecture: Architecture, directory: Path) -> Iterator[CloudOfCells]:
    """Yield the clouds of an architecture, in the order of `Architecture.clouds`.

    Args:
        architecture: the architecture.
        directory: the directory that its file is relative to.

    Raises:
        AtollError: `cloud.*`: the cloud's file is not valid.
    """
    if architecture.file is not None:
        cloud = read_cloud(directory / architecture.file)
        yield CloudOfCells(architecture.clouds[0], {"architecture": architecture.clouds[0]}, to_data(cloud))
        return
    for name, factors in zip(architecture.clouds, architecture.variants, strict=True):
        document = _document(factors["sites"], factors.get("traffic", "reduced"), central=architecture.kind == "centralised")
        yield CloudOfCells(name, {"architecture": architecture.kind, **factors}, document, factors.get("ask", ""))


def _document(count: int, traffic: str, *, central: bool) -> dict[str, Any]:
    names = [f"site-{number}" for number in range(1, count + 1)]
    full: dict[str, Any] = {} if traffic == "reduced" else {"traffic": traffic}
    compute = {"kind": "compute", "control": names[0]}
    sites = [{"name": name, "compute": "fake"} | (compute if central and name != names[0] else full) for name in names]
    return {"name": "experiment", "sites": sites, "topology": {"preset": "star" if central else "mesh", "defaults": {}}}
