"""The cells of an experiment: every combination of its architectures, links, databases, faults, workloads and repetitions.

A cell has the whole document of its cloud, so that it can be repeated without the files of the experiment.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from atoll.experiment.architectures import CLOUD, HOLLOW, clouds
from atoll.experiment.databases import engines_of, name_of, with_database
from atoll.experiment.document import Experiment
from atoll.experiment.rally_workload import factors as factors_of
from atoll.experiment.workloads import combinations

_EVERY = "every-site"
"""The name of the group of all sites and routers of a cloud, between which the experiment's `links` apply."""


@dataclass(frozen=True)
class Cell:
    """One run of one workload in one cloud.

    Attributes:
        id: the name of the cell, unique in the experiment.
        factors: the value of each factor, such as `architecture`, `sites`, `delay` and `workload`, without the repetition.
        repetition: the number of the repetition, from 1.
        workload: the name of the workload.
        parameters: the parameters of the workload.
        seed: the seed of random choices in the cell.
        cloud: the data of the cloud's YAML; for hollow members, their names and the properties of all links.
        faults: the steps of the scenario of faults, as `Step.to_json` returns them.
        broker: the order in which a broker asks the cloud's regions, "parallel" or "serial"; empty for a cloud without a broker.
        rabbitmq: the site in whose network RabbitMQ must run for the cloud's services; empty if they use no RabbitMQ.
        system: the system that the cell starts: "cloud", "bus" or "hollow", as in `atoll.experiment.architectures`.
    """

    id: str
    factors: Mapping[str, Any]
    repetition: int
    workload: str
    parameters: Mapping[str, Any]
    seed: int
    cloud: Mapping[str, Any]
    faults: Sequence[Mapping[str, Any]] = field(default_factory=list)
    broker: str = ""
    rabbitmq: str = ""
    system: str = CLOUD

    def to_json(self) -> dict[str, Any]:
        """Return the cell, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        """Return the cell that `to_json` turned into data."""
        return cls(**data)

    @property
    def label(self) -> str:
        """The factors as a text, such as `cooperative, sites 3, delay 50ms, boot`."""
        words = [str(value) if name in {"architecture", "workload"} else f"{name} {value}" for name, value in self.factors.items()]
        return ", ".join(words)

    @property
    def database(self) -> str:
        """The databases of the full sites, separated by commas; empty without OpenStack."""
        return engines_of(self.cloud) if self.system == CLOUD else ""


def cells(experiment: Experiment, directory: Path) -> list[Cell]:
    """Return the cells of an experiment, in an order that is random but follows from the experiment's seed.

    Args:
        experiment: the document.
        directory: the directory that the document's paths are relative to.

    Raises:
        AtollError: `cloud.*`: a cloud's file is not valid.
    """
    combined = list(
        product(
            [each for architecture in experiment.architectures for each in clouds(architecture, directory)],
            [each for links in experiment.links for each in links.shapes],
            experiment.databases if experiment.names_databases else [None],
            experiment.faults or [None],
            [(name, each) for name, workload in experiment.workloads.items() for each in combinations(workload)],
            range(1, experiment.repetitions + 1),
        )
    )
    # Each purpose has a random generator of its own, so that the order does not change the seeds of the cells.
    seeds = random.Random(f"cells {experiment.seed}")
    made = [_cell(number, each, seeds.randrange(2**31), traced=experiment.traced) for number, each in enumerate(combined, 1)]
    random.Random(experiment.seed).shuffle(made)
    return made


def _cell(number: int, combination: tuple[Any, ...], seed: int, *, traced: bool) -> Cell:
    cloud, shape, database, scenario, (workload, parameters), repetition = combination
    factors = {**cloud.factors, **shape, "workload": workload, **factors_of(parameters)}
    if database is not None:
        factors["database"] = name_of(database)
    if scenario is not None:
        factors["faults"] = scenario.name
    name = f"{number:04}-{cloud.factors['architecture']}-{workload}-{repetition}"
    if cloud.system == HOLLOW:
        document: Mapping[str, Any] = {**cloud.document, "links": dict(shape)}
    else:
        document = _with(cloud.document if database is None else with_database(cloud.document, database), shape, traced=traced)
    steps = [] if scenario is None else scenario.to_json()
    return Cell(name, factors, repetition, workload, parameters, seed, document, steps, cloud.broker, cloud.rabbitmq, cloud.system)


def _with(cloud: Mapping[str, Any], shape: Mapping[str, str], *, traced: bool) -> dict[str, Any]:
    """Return the document of a cloud in which all links have the properties `shape`.

    Args:
        cloud: the document of the cloud.
        shape: the properties, as fields of a link.
        traced: whether all requests are recorded.
    """
    topology = dict(cloud.get("topology") or {"preset": "mesh"})
    if shape:
        groups = {**topology.get("groups", {}), _EVERY: ["*"]}
        rule = {"between": [_EVERY, _EVERY], **shape}
        topology |= {"groups": groups, "constraints": [*topology.get("constraints", ()), rule]}
    recorded = {"trace": {**cloud.get("trace", {}), "enabled": True, "sample": 1.0}} if traced else {}
    return {**cloud, "topology": topology, **recorded}
