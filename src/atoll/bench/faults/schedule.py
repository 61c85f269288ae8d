"""The schedule of a run: the operations of clients and the faults, all from one seed. Pure functions.

The operations of a client depend only on its own random numbers and its earlier operations, never on the cloud's answers. So the same seed
makes the same operations and faults in every run. A run leaves out only operations on a resource whose creation failed.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from atoll.bench.faults.fault import Fault, Kind
from atoll.bench.faults.kinds import KINDS, SERVER_KINDS
from atoll.bench.faults.operation import ClientModel, Operation
from atoll.bench.faults.workloads import WORKLOADS
from atoll.cloud.databases import SQLITE

PAUSE_S = 3.0
"""Mean number of seconds between two operations of a client."""

FIRST_FAULT_S = 3.0
FAULT_PAUSE_S = 4.0
"""Mean number of seconds between the beginnings of two faults."""

_SHORTEST_S, _LONGEST_S = 3.0, 20.0
_FOREIGN_SHARE = 0.3  # the share of descriptions that concern other clients' users
_DRAWS = 8
_KNOWN_S = 5.0  # seconds after its creation by which a user should be replicated to all sites


@dataclass(frozen=True)
class Schedule:
    """The schedule of a run.

    Attributes:
        seed: the seed of its random choices.
        seconds: the duration of the run, in which clients work and faults happen, in seconds.
        sites: the names of the sites.
        clients: the operations of each client, by the client's name.
        faults: the faults in the order of their beginnings.
        database: the place of each site's databases, as `atoll.cloud.databases.parse_database` reads it.
    """

    seed: int
    seconds: float
    sites: tuple[str, ...]
    clients: Mapping[str, tuple[Operation, ...]]
    faults: tuple[Fault, ...]
    database: str = SQLITE

    def of(self, site: str) -> dict[str, tuple[Operation, ...]]:
        """Return the operations of the clients of a site."""
        return {name: operations for name, operations in self.clients.items() if site_of(name) == site}

    def to_json(self) -> dict[str, Any]:
        """Return the schedule as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schedule:
        """Return the schedule from the plain data of `to_json`."""
        clients = {name: tuple(Operation(**each) for each in operations) for name, operations in data["clients"].items()}
        faults = tuple(Fault(**{**each, "target": tuple(each["target"])}) for each in data["faults"])
        return cls(data["seed"], data["seconds"], tuple(data["sites"]), clients, faults, data.get("database", SQLITE))


def site_of(client: str) -> str:
    """Return the site of a client."""
    return client.rpartition("/")[0]


def schedule(seed: int, seconds: float, sites: tuple[str, ...], clients_per_site: int, database: str = SQLITE) -> Schedule:
    """Make a schedule from a seed. With a database server at each site, these servers are killed too."""
    names = [f"{site}/{number}" for site in sites for number in range(clients_per_site)]
    clients = {name: _operations(seed, seconds, sites, name) for name in names}
    kinds = KINDS if database == SQLITE else SERVER_KINDS
    return Schedule(seed, seconds, sites, _with_foreign(seed, clients), _faults(seed, seconds, sites, kinds), database)


def _operations(seed: int, seconds: float, sites: tuple[str, ...], client: str) -> tuple[Operation, ...]:
    random = Random(f"{seed} {client}")
    model = ClientModel(client.replace("/", "-"), site_of(client), sites)
    weights = [workload.weight for workload in WORKLOADS.values()]
    made = []
    while (at_s := model.now_s + random.expovariate(1 / PAUSE_S)) < seconds:
        model.now_s = at_s
        workload = random.choices(list(WORKLOADS.values()), weights)[0]
        made.append(Operation(round(at_s, 3), *workload.draw(random, model)))
    return tuple(made)


def _with_foreign(seed: int, clients: Mapping[str, tuple[Operation, ...]]) -> dict[str, tuple[Operation, ...]]:
    """Let clients of other sites change the descriptions of some users, so that two sites write to one resource."""
    random = Random(f"{seed} foreign")
    users = sorted(
        (operation.at_s, operation.resource, site_of(client))
        for client, operations in clients.items()
        for operation in operations
        if operation.kind == "user.create" and operation.fields["name"] == operation.resource
    )

    def chosen(client: str, operation: Operation) -> Operation:
        if operation.kind != "user.describe" or random.random() > _FOREIGN_SHARE:
            return operation
        known = users[: bisect(users, (operation.at_s - _KNOWN_S,))]
        others = [resource for _at_s, resource, site in known if site != site_of(client)]
        return replace(operation, resource=random.choice(others)) if others else operation

    return {client: tuple(chosen(client, each) for each in operations) for client, operations in clients.items()}


def _faults(seed: int, seconds: float, sites: tuple[str, ...], kinds: Mapping[str, Kind]) -> tuple[Fault, ...]:
    random = Random(f"{seed} faults")
    made: list[Fault] = []
    deck: list[str] = []
    at_s = FIRST_FAULT_S
    while at_s < seconds - _SHORTEST_S:
        if not deck:  # each kind occurs once before any kind occurs twice
            deck = random.sample(list(kinds), len(kinds))
        kind = kinds[deck.pop()]
        lasts_s = min(random.uniform(_SHORTEST_S, _LONGEST_S), seconds - at_s)
        drawn = [Fault(round(at_s, 3), kind.name, target, round(lasts_s, 3), amount) for target, amount in _draws(kind, random, sites)]
        made += [fault for fault in drawn if not any(_collide(fault, other) for other in made)][:1]
        at_s += random.expovariate(1 / FAULT_PAUSE_S)
    return tuple(made)


def _draws(kind: Kind, random: Random, sites: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
    """Return several random targets and amounts, so that at least one may have a target that no other fault affects."""
    return [kind.draw(random, sites) for _ in range(_DRAWS)]


_UNDO_S = 10.0  # seconds that the end of a fault may take, such as the restart of a site


def _collide(new: Fault, old: Fault) -> bool:
    """Return whether two faults would affect the same part of the cloud at the same time."""
    claims = SERVER_KINDS[new.kind].claims(new.target) & SERVER_KINDS[old.kind].claims(old.target)
    return bool(claims) and new.at_s < old.at_s + old.lasts_s + _UNDO_S
