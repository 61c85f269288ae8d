"""The architectures that an experiment compares, such as cooperating full sites, and the documents of their clouds.

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

from atoll.cloud import Cloud
from atoll.cloud.document import read_cloud, to_data
from atoll.cloud.network import address_of
from atoll.experiment.workloads import Counts, distinct, listed

MOST_SITES, MOST_MEMBERS = 64, 5000
"""The largest number of sites of a cloud or of a bus, and of hollow members."""

CLOUD, BUS, HOLLOW = "cloud", "bus", "hollow"
"""The systems that a cell can start: a cloud with OpenStack, a message bus between sites, or members of the mesh without services."""

STANDARD = "standard"
"""The kind of architecture whose one control plane uses MariaDB and RabbitMQ, as in a usual OpenStack deployment."""


class Architecture(BaseModel):
    """Clouds of one kind.

    Attributes:
        kind: "cooperative" is a cloud of full sites. "centralised" is one full site and compute sites. "standard" is one full site and
            compute sites too: services keep their data in a MariaDB that the full site starts. They call one another through a RabbitMQ in
            the network of the full site. "regions" are full sites that do not cooperate, under a broker at the first of them, through which
            users reach the compute services. "file" is the cloud of a file.
            "bus" is no cloud, but only clients and servers of a message bus at each site, for the workload `rpc`. "hollow" is one process
            with many members of the mesh, without OpenStack, for the workload `membership`.
        sites: the number of sites; each item of a list makes a cloud.
        ask: the order in which the broker asks the regions for a list: "parallel" is all at the same time, "serial" one after the other.
        traffic: the control traffic between services of full sites: "reduced" by Atoll's patches, or "stock", that of upstream's own code.
        transport: the transport of a bus: "zenoh" is Atoll's own between the processes of all sites, "rabbit" a RabbitMQ at the first site.
        file: the path of the cloud's YAML file, relative to the experiment's file.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kind: Literal["cooperative", "centralised", "standard", "regions", "file", "bus", "hollow"] = Field(
        description="`cooperative`, `centralised`, `standard`, `regions`, `file`, `bus` or `hollow`"
    )
    sites: Counts = Field(
        default=(3,),
        strict=False,
        description=f"a whole number from 1 to {MOST_SITES} (`hollow`: from 2 to {MOST_MEMBERS}), or a list of them",
    )
    ask: Annotated[tuple[Literal["parallel", "serial"], ...], BeforeValidator(listed), AfterValidator(distinct)] = Field(
        default=("parallel",), strict=False, description="`parallel`, `serial`, or a list of both"
    )
    traffic: Annotated[tuple[Literal["reduced", "stock"], ...], BeforeValidator(listed), AfterValidator(distinct)] = Field(
        default=("reduced",), strict=False, description="`reduced`, `stock`, or a list of both"
    )
    transport: Annotated[tuple[Literal["zenoh", "rabbit"], ...], BeforeValidator(listed), AfterValidator(distinct)] = Field(
        default=("zenoh",), strict=False, description="`zenoh`, `rabbit`, or a list of both"
    )
    file: str | None = Field(default=None, min_length=1, description="the path of a cloud's YAML file")

    @model_validator(mode="after")
    def _check(self) -> Architecture:
        for text in self._complaints():
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": text})
        return self

    def _complaints(self) -> Iterator[str]:
        given = self.model_fields_set
        if (self.kind == "file") != (self.file is not None):
            yield "`kind: file` and `file` belong together: expected both or neither"
        if self.kind == "file" and (strange := sorted({"sites", "traffic"} & given)):
            yield f"`{strange[0]}` is given beside `file`, whose cloud decides it: expected one of the two"
        if self.kind != "regions" and "ask" in given:
            yield f"`ask` is given for `kind: {self.kind}`, which has no broker: expected `kind: regions`, or no `ask`"
        if self.kind != BUS and "transport" in given:
            yield f"`transport` is given for `kind: {self.kind}`: expected `kind: bus`, or no `transport`"
        if self.system != CLOUD and "traffic" in given:
            yield f"`traffic` is given for `kind: {self.kind}`, which has no services of OpenStack: expected no `traffic`"
        fewest, most = (2, MOST_MEMBERS) if self.kind == HOLLOW else (1, MOST_SITES)
        if max(self.sites) > most:
            yield f"{max(self.sites)} sites: expected at most {most}"
        if min(self.sites) < fewest:
            yield f"{min(self.sites)} sites: expected at least {fewest}"

    @property
    def system(self) -> str:
        """The system that cells of this architecture start: `CLOUD`, `BUS` or `HOLLOW`."""
        return self.kind if self.kind in {BUS, HOLLOW} else CLOUD

    @property
    def clouds(self) -> list[str]:
        """The name of each cloud of this architecture, as results show it."""
        if self.file is not None:
            return [Path(self.file).stem]
        return [f"{self.kind} with {', '.join(f'{name}: {value}' for name, value in each.items())}" for each in self.variants]

    @property
    def variants(self) -> list[dict[str, Any]]:
        """The factors of each cloud of this architecture, without the architecture itself, such as `{"sites": 3}`.

        `ask` is a factor only of regions, `transport` only of a bus, and `traffic` only if the experiment's file gives it.
        """
        swept: dict[str, tuple[Any, ...]] = {"sites": self.sites}
        if self.kind == "regions":
            swept["ask"] = self.ask
        if self.kind == BUS:
            swept["transport"] = self.transport
        if "traffic" in self.model_fields_set:
            swept["traffic"] = self.traffic
        return [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]


@dataclass(frozen=True)
class CloudOfCells:
    """A cloud that cells of an experiment start.

    Attributes:
        name: the cloud's name in results.
        factors: the factors that distinguish the cloud, such as `architecture` and `sites`.
        document: the data of the cloud's YAML, without the links of the experiment.
        broker: the order in which a broker asks the cloud's regions, "parallel" or "serial"; empty for a cloud without a broker.
        rabbitmq: the site in whose network RabbitMQ must run for the cloud's services; empty if they use no RabbitMQ.
        system: the system that the cells start: `CLOUD`, `BUS` or `HOLLOW`.
    """

    name: str
    factors: Mapping[str, Any]
    document: Mapping[str, Any]
    broker: str = ""
    rabbitmq: str = ""
    system: str = CLOUD


def clouds(architecture: Architecture, directory: Path) -> Iterator[CloudOfCells]:
    """Yield the clouds of an architecture, in the order of `Architecture.clouds`.

    Args:
        architecture: the architecture.
        directory: the directory that the path of the architecture's file is relative to.

    Raises:
        AtollError: `cloud.*`: the cloud's file is not valid.
    """
    if architecture.file is not None:
        yield CloudOfCells(
            architecture.clouds[0], {"architecture": architecture.clouds[0]}, _emulated(read_cloud(directory / architecture.file))
        )
        return
    if architecture.system != CLOUD:
        yield from _without_services(architecture)
        return
    standard = architecture.kind == STANDARD
    for name, factors in zip(architecture.clouds, architecture.variants, strict=True):
        central = standard or architecture.kind == "centralised"
        control = dict(_STANDARD) if standard else {}
        if factors.get("traffic") == "stock":
            control["traffic"] = "stock"
        document = _document(factors["sites"], control, central=central)
        whole = {"architecture": architecture.kind, **factors}
        yield CloudOfCells(name, whole, document, factors.get("ask", ""), _name(1) if standard else "")


def _without_services(architecture: Architecture) -> Iterator[CloudOfCells]:
    """Yield the sites of buses, or hollow members."""
    for name, factors in zip(architecture.clouds, architecture.variants, strict=True):
        whole = {"architecture": architecture.kind, **factors}
        if architecture.kind == HOLLOW:
            sites = [{"name": _name(number)} for number in range(1, factors["sites"] + 1)]
            yield CloudOfCells(name, whole, {"name": "experiment", "sites": sites}, system=HOLLOW)
            continue
        document = _document(factors["sites"], {}, central=False)
        document["sites"][0]["host"] = str(address_of(1))  # the address of a broker
        yield CloudOfCells(name, whole, document, rabbitmq=_name(1) if factors["transport"] == "rabbit" else "", system=BUS)


def _emulated(cloud: Cloud) -> dict[str, Any]:
    """Return the document of a cloud for emulation, where each site has a network of its own.

    If the cloud's own file describes no topology, its sites' ports and addresses are left out: sites that share a network need them,
    but emulated ones don't.
    """
    document = to_data(cloud)
    if cloud.topology is None:
        ports = ("port", "host")
        document["sites"] = [{name: value for name, value in site.items() if name not in ports} for site in document["sites"]]
    return document


def _name(number: int) -> str:
    return f"site-{number}"


_STANDARD: Mapping[str, Any] = {
    "host": str(address_of(1)),
    "database": {"start": "mariadb"},
    "bus": "rabbit",
    "rabbit": {"url": f"rabbit://openstack@{address_of(1)}:5672/"},
}
"""The fields of the full site of `standard`; a cell adds the file with the password of its own RabbitMQ."""


def _document(count: int, full: Mapping[str, Any], *, central: bool) -> dict[str, Any]:
    """Return the document of a cloud.

    Args:
        count: the number of sites.
        full: the fields of each full site, besides its name.
        central: whether the first site is the only full one, and all others are its compute sites.
    """
    names = [_name(number) for number in range(1, count + 1)]
    compute = {"kind": "compute", "control": names[0]}
    sites = [{"name": name, "compute": "fake", **(compute if central and name != names[0] else full)} for name in names]
    return {"name": "experiment", "sites": sites, "topology": {"preset": "star" if central else "mesh", "defaults": {}}}
