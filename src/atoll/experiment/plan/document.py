"""The file of a plan: sites with their budgets and load, operations with their costs, images, and prices.

A field's `description` completes the sentence "expected …" in error messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from atoll.cloud import topology, yaml_errors
from atoll.cloud.backbones import resolve
from atoll.cloud.expansion import expand
from atoll.cloud.model import RESERVED_NAMES, Name
from atoll.cloud.network import Network
from atoll.cloud.quantities import Probability, Rate
from atoll.cloud.topology import Topology
from atoll.cloud.yaml_errors import Form
from atoll.experiment.quantities import Size, Time

_LONGEST_NAME = 255
NOT_NEGATIVE = "a number from 0 up"
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, description=NOT_NEGATIVE)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PlannedSite(_Model):
    """A site for which a plan decides whether it is a full site or a compute site.

    Attributes:
        name: the site's name, unique in the plan.
        kind: "full" or "compute" if the kind is decided already; `None` leaves the decision to the plan.
        memory: memory that Atoll's processes may use at the site. Default: unlimited.
        disk: disk space for kept copies of images. Default: unlimited.
        wan: the greatest rate of control traffic and images in bits per second, both directions together, averaged over an hour. Default:
            unlimited.
        load: operations per hour that users of this site start, by the name of the operation.
    """

    name: Name = Field(description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    kind: Literal["full", "compute"] | None = Field(default=None, description="`full`, `compute`, or no `kind`")
    memory: Size | None = Field(default=None, description="a size up to 1000TB, such as 2GB")
    disk: Size | None = Field(default=None, description="a size up to 1000TB, such as 20GB")
    wan: Rate | None = Field(default=None, description="a rate from 1kbit to 30gbit, such as 20mbit, or `unlimited`")
    load: dict[str, Amount] = Field(default_factory=dict, description="a mapping of operations to numbers per hour, such as {boot: 30}")


class PlannedOperation(_Model):
    """The costs of one kind of operation: given here, or derived from a trace.

    Attributes:
        time: the duration of the operation if all its parts are at one site.
        round_trips: sequential round trips between a compute site and its control site until the operation is complete, including those of
            the client.
        bytes: bytes between the two sites, both directions together.
        trace: the path of a file of `atoll trace export`, relative to the plan's file. `time`, `round_trips` and `bytes` are derived from
            it.
        recorded_rtt: the round trip between the sites when the trace was recorded; the recorded round trips are subtracted from the time.
        until: the moment at which the operation ends in a trace: `answer` is when the client has its answer, `complete` when all work is
            done.
        within: the longest time that the operation may take at any site whose users start it. Default: unlimited.
        image: the name of the image that the operation needs at the site where it is started.
    """

    time: Time | None = Field(default=None, description="a time from 0 to 24h, such as 900ms")
    round_trips: Amount | None = Field(default=None, description="a number of round trips, such as 62")
    bytes: Size | None = Field(default=None, description="a size up to 1000TB, such as 400kB")
    trace: str | None = Field(default=None, min_length=1, description="the path of a file of `atoll trace export`")
    recorded_rtt: Time | None = Field(default=None, description="a time from 0 to 24h, such as 20ms")
    until: Literal["answer", "complete"] = Field(default="complete", description="`answer` or `complete`")
    within: Time | None = Field(default=None, description="a time from 0 to 24h, such as 3s")
    image: str | None = Field(default=None, description="the name of an image of this plan")

    @model_validator(mode="after")
    def _check_costs(self) -> PlannedOperation:
        table = {"time": self.time, "round_trips": self.round_trips, "bytes": self.bytes}
        given = [name for name, value in table.items() if value is not None]
        if self.trace is None and self.recorded_rtt is not None:
            raise _costs_error("`recorded_rtt` is given without `trace`: expected both or neither")
        if self.trace is not None and given:
            raise _costs_error(f"`trace` is given beside `{given[0]}`: expected one of the two")
        if self.trace is None and (missing := [name for name in table if name not in given]):
            raise _costs_error(f"`{missing[0]}` is missing: expected `time`, `round_trips` and `bytes`, or a `trace`")
        return self


class PlannedImage(_Model):
    """An image that operations need.

    Attributes:
        size: the size of the image.
        misses: share of the operations for which the compute host must fetch the image, because it has no cached copy.
    """

    size: Size = Field(description="a size up to 1000TB, such as 400MB")
    misses: Probability = Field(default="100%", description="a percentage such as 10%")


class Footprints(_Model):
    """Memory that the processes of a site use.

    Attributes:
        full: the memory of a full site.
        compute: the memory of a compute site.
        controlled: the further memory that a full site uses for each of its compute sites.
    """

    full: Size = Field(description="a size up to 1000TB, such as 540MB")
    compute: Size = Field(description="a size up to 1000TB, such as 160MB")
    controlled: Size = Field(default="0B", description="a size up to 1000TB, such as 5MB")


class Budgets(_Model):
    """Bounds on the whole cloud. Bounds on single sites and operations are fields of `PlannedSite` and `PlannedOperation`.

    Attributes:
        wan: the greatest rate of traffic between all sites together, in bits per second, averaged over an hour. Default: unlimited.
        survive: the number of full sites that may fail at the same time while each other site can still be served within the bounds of its
            operations, and each image still has a copy.
        full_sites: the greatest number of full sites. Default: unlimited.
    """

    wan: Rate | None = Field(default=None, description="a rate from 1kbit to 30gbit, such as 100mbit, or `unlimited`")
    survive: int = Field(default=0, ge=0, le=16, description="a whole number from 0 to 16")
    full_sites: int | None = Field(default=None, ge=1, description="a whole number from 1 up")


class Prices(_Model):
    """Prices of the resources that a plan weighs against each other, in one unit of your choice.

    Attributes:
        waiting: the price of one user's waiting for an hour.
        memory: the price of a gigabyte (10^9 bytes) of memory for an hour.
        disk: the price of a gigabyte of kept image copies for an hour.
        wan: the price of a gigabyte sent between sites.
    """

    waiting: Amount = Field(default=1.0, description=NOT_NEGATIVE)
    memory: Amount = Field(default=0.01, description=NOT_NEGATIVE)
    disk: Amount = Field(default=0.0001, description=NOT_NEGATIVE)
    wan: Amount = Field(default=0.01, description=NOT_NEGATIVE)


class PlacementPlan(_Model):
    """The document of a plan: the cloud for which a placement is sought.

    Attributes:
        name: the cloud's name.
        sites: the sites, at least one.
        topology: the network between them, as in a cloud's file.
        operations: the kinds of operations, by name.
        images: the images that operations need, by name.
        footprints: memory of the processes of a site.
        budgets: bounds on the whole cloud.
        mesh: bits per second that a full site sends to the others while it is idle. Default: none.
        prices: the weights of the resources.
    """

    name: Name = Field(default="atoll", description="a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter")
    sites: tuple[PlannedSite, ...] = Field(strict=False, description="a list of at least one site, such as [{name: paris}]")
    topology: Topology | None = Field(default=None, description="a mapping such as {preset: mesh, defaults: {delay: 10ms}}")
    operations: dict[str, PlannedOperation] = Field(default_factory=dict, description="a mapping of names to operations")
    images: dict[str, PlannedImage] = Field(
        default_factory=dict, description="a mapping of names to images, such as {debian: {size: 400MB}}"
    )
    footprints: Footprints = Field(description="a mapping such as {full: 540MB, compute: 160MB}")
    budgets: Budgets = Field(default_factory=Budgets, description="a mapping such as {wan: 100mbit, survive: 1}")
    mesh: Rate | None = Field(default=None, description="a rate from 1kbit to 30gbit, such as 2kbit")
    prices: Prices = Field(default_factory=Prices, description="a mapping such as {waiting: 1, memory: 0.01}")

    @cached_property
    def network(self) -> Network | None:
        """The expanded topology; `None` if the plan has one site and no topology."""
        return None if self.topology is None else expand([site.name for site in self.sites], self.topology)

    @model_validator(mode="before")
    @classmethod
    def _read_topology(cls, data: object, info: ValidationInfo) -> object:
        return resolve(data, Path((info.context or {}).get("directory", ".")))

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> PlacementPlan:
        directory = Path((info.context or {}).get("directory", "."))
        for path, text in (*self._complaints_of_sites(), *self._complaints_of_names(), *self._complaints_of_traces(directory)):
            raise PydanticCustomError("plan_inconsistent", "{text}", {"text": text, "path": path})
        _ = self.network
        return self

    def _complaints_of_sites(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if not self.sites:
            yield ("sites",), "expected a list of at least one site, such as [{name: paris}]"
        names = [site.name for site in self.sites]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("sites", index, "name"), f"a second site named {name}: expected another name"
            if name in RESERVED_NAMES:
                yield ("sites", index, "name"), f"the name {name} is reserved: expected another name"
        if len(names) > 1 and self.topology is None:
            yield ("topology",), "expected a topology, from which the round trips between the sites follow"
        if self.mesh == "unlimited":
            yield ("mesh",), "expected a rate from 1kbit to 30gbit, such as 2kbit, got the text 'unlimited'"

    def _complaints_of_traces(self, directory: Path) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for name, operation in self.operations.items():
            if operation.trace is None:
                continue
            file = directory / operation.trace
            place = ("operations", name, "trace")
            if file.suffix != ".json":
                yield place, f"{file}: expected a file of `atoll trace export`, whose name ends in .json"
            elif not file.is_file():
                told = "not a regular file" if file.exists() else "no such file"
                yield place, f"{file}: {told}: expected a file of `atoll trace export`, relative to the plan's file"

    def _complaints_of_names(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for kind, names in (("operations", self.operations), ("images", self.images)):
            for name in names:
                if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
                    yield (kind, name), f"expected a name of 1 to {_LONGEST_NAME} characters that can be printed"
        for index, site in enumerate(self.sites):
            for name in site.load:
                if name not in self.operations:
                    expected = f"expected one of {', '.join(self.operations)}" if self.operations else "expected it in `operations`"
                    yield ("sites", index, "load", name), f"no operation is called {name}: {expected}"
        for name, operation in self.operations.items():
            if operation.image is not None and operation.image not in self.images:
                expected = f"expected one of {', '.join(self.images)}" if self.images else "expected it in `images`"
                yield ("operations", name, "image"), f"no image is called {operation.image}: {expected}"


def _costs_error(text: str) -> PydanticCustomError:
    return PydanticCustomError("costs_invalid", "{text}", {"text": text})


_FORM = Form(
    root=PlacementPlan,
    nested={
        "sites": PlannedSite,
        "operations": PlannedOperation,
        "images": PlannedImage,
        "footprints": Footprints,
        "budgets": Budgets,
        "prices": Prices,
        **topology.NESTED,
    },
    mappings={
        PlacementPlan: "a mapping with `sites` and `footprints`",
        PlannedSite: "a mapping with at least `name`",
        PlannedOperation: "a mapping such as {time: 900ms, round_trips: 62, bytes: 400kB}",
        PlannedImage: "a mapping such as {size: 400MB}",
        Footprints: "a mapping such as {full: 540MB, compute: 160MB}",
        Budgets: "a mapping such as {survive: 1}",
        Prices: "a mapping such as {waiting: 1}",
        **topology.MAPPINGS,
    },
    own_text=frozenset({"plan_inconsistent", "cloud_inconsistent", "costs_invalid"}),
    code="plan.invalid",
    missing="plan.not_found",
    kind="plan",
    example="a mapping with `sites`, such as {sites: [{name: paris}], footprints: {full: 540MB, compute: 160MB}}",
    named=frozenset({"operations", "images"}),
)


def read_plan(path: Path) -> PlacementPlan:
    """Read a plan from a YAML file.

    Raises:
        AtollError: `plan.not_found`: the file does not exist; `plan.invalid`: the file can't be read or is not valid.
    """
    return yaml_errors.read(path, _FORM)


def parse_plan(content: str | bytes, source: str, directory: Path | None = None) -> PlacementPlan:
    """Parse the YAML text of a plan.

    Args:
        content: the YAML text.
        source: the name of the text in errors, such as the path of its file.
        directory: the directory that paths in the text are relative to; default: the current directory.

    Raises:
        AtollError: `plan.invalid`: the text is not valid; the message is one line with the place, the expected value and the value found.
    """
    return yaml_errors.parse(content, source, _FORM, directory)
