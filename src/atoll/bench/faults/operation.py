"""What a client is to do, and the plan of a client, which knows only what it planned itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from atoll.bench.api import Answer


@dataclass(frozen=True)
class Operation:
    """One thing that one client does.

    Attributes:
        at_s: seconds after the beginning; later, if the client is still busy with the one before.
        kind: such as `user.create`: the type of the thing, then what is done to it.
        thing: what the plan calls it, unique; other clients call it so too.
        fields: what is written.
    """

    at_s: float
    kind: str
    thing: str
    fields: Mapping[str, Any]

    @property
    def type(self) -> str:
        """Of the thing."""
        return self.kind.partition(".")[0]

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass
class Book:
    """What a client will have made by a moment of the plan, if all goes well.

    Attributes:
        client: its name; begins the names of all it makes.
        site: where it is.
        sites: all of them.
        now_s: the moment.
        things: those that exist then, by type; each type in the order they were made.
    """

    client: str
    site: str
    sites: tuple[str, ...]
    now_s: float = 0.0
    things: dict[str, list[str]] = field(default_factory=dict)
    _made: int = 0

    def live(self, type_: str) -> list[str]:
        """The things of a type."""
        return self.things.setdefault(type_, [])

    def new(self, type_: str) -> str:
        """The name of another thing, which exists from now on."""
        self._made += 1
        name = f"{type_}-{self.client}-{self._made}"
        self.live(type_).append(name)
        return name

    def drop(self, thing: str) -> None:
        """It is deleted, and with it what depends on it."""
        for kept in self.things.values():
            kept[:] = [each for each in kept if each != thing and thing not in each.split("/")]


@dataclass(frozen=True)
class Request:
    """How an operation is asked for.

    Attributes:
        service: its type in the catalogue.
        method: HTTP's.
        path: below the service's endpoint.
        body: sent as JSON.
        data: sent as it is, instead.
        id: of the thing, if it has one already.
    """

    service: str
    method: str
    path: str
    body: Any = None
    data: bytes | None = None
    id: str = ""


class Session:
    """What a client has learned while it works: the ids of things.

    Args:
        tenancy: the ids that a server is made of at this site: image, flavor, network.
        look_up: finds the id of another client's user by its name; empty if there is none.
    """

    def __init__(self, tenancy: Mapping[str, str], look_up: Callable[[str], str] = lambda _name: "") -> None:
        self.tenancy = tenancy
        self._look_up = look_up
        self._ids: dict[str, str] = {}

    def learn(self, thing: str, id_: str) -> None:
        """Something has been made."""
        self._ids[thing] = id_

    def id(self, thing: str) -> str:
        """The id of something that this client made; empty if it has none."""
        return self._ids.get(thing, "")

    def found(self, thing: str) -> str:
        """The same, and of what another client made."""
        return self.id(thing) or self._look_up(thing)


@dataclass(frozen=True)
class Workload:
    """A kind of work.

    Attributes:
        type: of the things it makes.
        weight: how often it is chosen, in proportion to the others.
        draw: what to do next: kind, thing and fields; the book is kept up to date. Pure: it has only the random numbers.
        request: how to ask for it; None if that can't be, since what it is about was never made.
        made: the id of what an answer says was made.
    """

    type: str
    weight: float
    draw: Callable[[Random, Book], tuple[str, str, dict[str, Any]]]
    request: Callable[[Session, Operation], Request | None]
    made: Callable[[Answer], str]
