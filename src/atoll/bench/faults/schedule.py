"""What will be done, by whom, and what will befall the cloud meanwhile: all from one seed. Pure.

The operations of a client come from its own random numbers and from its own plan alone, never from what the cloud answered. So the same
seed makes the same operations and faults, however the run goes; only what can't be asked for, since it was never made, is left out.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from atoll.bench.faults.fault import Fault, Kind
from atoll.bench.faults.kinds import KINDS
from atoll.bench.faults.operation import Book, Operation
from atoll.bench.faults.workloads import WORKLOADS

PAUSE_S = 3.0
"""Between two operations of a client, on average."""

FIRST_FAULT_S = 3.0
FAULT_PAUSE_S = 4.0
"""Between the beginnings of two faults, on average."""

_SHORTEST_S, _LONGEST_S = 3.0, 20.0
_FOREIGN_SHARE = 0.3  # of descriptions: of users that other clients made
_DRAWS = 8
_KNOWN_S = 5.0  # what another client made so long ago may be known here


@dataclass(frozen=True)
class Schedule:
    """A run, before it is run.

    Attributes:
        seed: from which it comes.
        seconds: for how long clients work and faults happen.
        sites: the names of the sites.
        clients: by name of the client, what it does.
        faults: in the order of their beginnings.
    """

    seed: int
    seconds: float
    sites: tuple[str, ...]
    clients: Mapping[str, tuple[Operation, ...]]
    faults: tuple[Fault, ...]

    def of(self, site: str) -> dict[str, tuple[Operation, ...]]:
        """The clients of a site."""
        return {name: operations for name, operations in self.clients.items() if site_of(name) == site}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schedule:
        """The reverse."""
        clients = {name: tuple(Operation(**each) for each in operations) for name, operations in data["clients"].items()}
        faults = tuple(Fault(**{**each, "target": tuple(each["target"])}) for each in data["faults"])
        return cls(data["seed"], data["seconds"], tuple(data["sites"]), clients, faults)


def site_of(client: str) -> str:
    """Where a client is."""
    return client.rpartition("/")[0]


def schedule(seed: int, seconds: float, sites: tuple[str, ...], clients_per_site: int) -> Schedule:
    """Make a schedule."""
    names = [f"{site}/{number}" for site in sites for number in range(clients_per_site)]
    clients = {name: _operations(seed, seconds, sites, name) for name in names}
    return Schedule(seed, seconds, sites, _with_foreign(seed, clients), _faults(seed, seconds, sites))


def _operations(seed: int, seconds: float, sites: tuple[str, ...], client: str) -> tuple[Operation, ...]:
    random = Random(f"{seed} {client}")  # noqa: S311 - reproducible, not secret
    book = Book(client.replace("/", "-"), site_of(client), sites)
    weights = [workload.weight for workload in WORKLOADS.values()]
    made = []
    while (at_s := book.now_s + random.expovariate(1 / PAUSE_S)) < seconds:
        book.now_s = at_s
        workload = random.choices(list(WORKLOADS.values()), weights)[0]
        made.append(Operation(round(at_s, 3), *workload.draw(random, book)))
    return tuple(made)


def _with_foreign(seed: int, clients: Mapping[str, tuple[Operation, ...]]) -> dict[str, tuple[Operation, ...]]:
    """Have some users be described by clients of other sites, so that two sites write one thing."""
    random = Random(f"{seed} foreign")  # noqa: S311
    users = sorted(
        (operation.at_s, operation.thing, site_of(client))
        for client, operations in clients.items()
        for operation in operations
        if operation.kind == "user.create" and operation.fields["name"] == operation.thing
    )

    def chosen(client: str, operation: Operation) -> Operation:
        if operation.kind != "user.describe" or random.random() > _FOREIGN_SHARE:
            return operation
        known = users[: bisect(users, (operation.at_s - _KNOWN_S,))]
        others = [thing for _at_s, thing, site in known if site != site_of(client)]
        return replace(operation, thing=random.choice(others)) if others else operation

    return {client: tuple(chosen(client, each) for each in operations) for client, operations in clients.items()}


def _faults(seed: int, seconds: float, sites: tuple[str, ...]) -> tuple[Fault, ...]:
    random = Random(f"{seed} faults")  # noqa: S311
    made: list[Fault] = []
    deck: list[str] = []
    at_s = FIRST_FAULT_S
    while at_s < seconds - _SHORTEST_S:
        if not deck:  # each kind comes once before any comes twice
            deck = random.sample(list(KINDS), len(KINDS))
        kind = KINDS[deck.pop()]
        lasts_s = min(random.uniform(_SHORTEST_S, _LONGEST_S), seconds - at_s)
        drawn = [Fault(round(at_s, 3), kind.name, target, round(lasts_s, 3), amount) for target, amount in _draws(kind, random, sites)]
        made += [fault for fault in drawn if not any(_collide(fault, other) for other in made)][:1]
        at_s += random.expovariate(1 / FAULT_PAUSE_S)
    return tuple(made)


def _draws(kind: Kind, random: Random, sites: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
    """Several, of which one may have a target that is free."""
    return [kind.draw(random, sites) for _ in range(_DRAWS)]


_UNDO_S = 10.0  # a site that is started again is not there at once


def _collide(new: Fault, old: Fault) -> bool:
    """True if both would be done to the same at the same time."""
    claims = KINDS[new.kind].claims(new.target) & KINDS[old.kind].claims(old.target)
    return bool(claims) and new.at_s < old.at_s + old.lasts_s + _UNDO_S
