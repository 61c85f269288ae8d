"""Operations of clients, and the state of a client's resources from which its next operation is chosen. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from atoll.bench.api import Answer


@dataclass(frozen=True)
class Operation:
    """An operation of one client.

    Attributes:
        at_s: seconds from the beginning of the run; the operation starts later if the previous one takes longer.
        kind: the type of the resource and the action, such as `user.create`.
        resource: the unique name of the resource, which all clients use.
        fields: the fields to write.
    """

    at_s: float
    kind: str
    resource: str
    fields: Mapping[str, Any]

    @property
    def type(self) -> str:
        """The type of the resource."""
        return self.kind.partition(".")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


@dataclass
class ClientModel:
    """The resources that a client has at a moment of the schedule, if all requests succeed.

    Attributes:
        client: the name of the client, which is the prefix of the names of its resources.
        site: the site of the client.
        sites: the names of all sites.
        now_s: the moment, in seconds from the beginning of the run.
        resources: the existing resources by type, in the order of their creation.
    """

    client: str
    site: str
    sites: tuple[str, ...]
    now_s: float = 0.0
    resources: dict[str, list[str]] = field(default_factory=dict)
    _made: int = 0

    def live(self, type_: str) -> list[str]:
        """Return the existing resources of a type."""
        return self.resources.setdefault(type_, [])

    def new(self, type_: str) -> str:
        """Add a new resource of a type, and return the resource's name."""
        self._made += 1
        name = f"{type_}-{self.client}-{self._made}"
        self.live(type_).append(name)
        return name

    def drop(self, resource: str) -> None:
        """Remove a resource and those that depend on it."""
        for kept in self.resources.values():
            kept[:] = [each for each in kept if each != resource and resource not in each.split("/")]


@dataclass(frozen=True)
class Request:
    """The HTTP request of an operation.

    Attributes:
        service: the type of the service in the catalogue.
        method: the HTTP method.
        path: the path below the service's endpoint.
        body: the body, sent as JSON.
        data: a body of bytes, which replaces `body`.
        id: the id of the resource; empty if the request creates the resource.
    """

    service: str
    method: str
    path: str
    body: Any = None
    data: bytes | None = None
    id: str = ""


class Session:
    """The ids of resources that a client has learned during the run.

    Args:
        tenancy: the ids of the image, flavor and network of servers at this site.
        look_up: finds the id of another client's user by its name; returns an empty string if no such user exists.
    """

    def __init__(self, tenancy: Mapping[str, str], look_up: Callable[[str], str] = lambda _name: "") -> None:
        self.tenancy = tenancy
        self._look_up = look_up
        self._ids: dict[str, str] = {}

    def learn(self, resource: str, id_: str) -> None:
        """Record the id of a created resource."""
        self._ids[resource] = id_

    def id(self, resource: str) -> str:
        """Return the id of a resource that this client created; empty if it has none."""
        return self._ids.get(resource, "")

    def found(self, resource: str) -> str:
        """Return the id of a resource of this or another client; empty if it has none."""
        return self.id(resource) or self._look_up(resource)


@dataclass(frozen=True)
class Workload:
    """The operations on one type of resources.

    Attributes:
        type: the type of the resources.
        weight: the relative frequency of these operations.
        draw: returns the kind, resource name and fields of a random next operation, and updates the client's `ClientModel`.
        request: returns the request of an operation; `None` if the resource was never created.
        made: returns the id of the created resource from an answer.
    """

    type: str
    weight: float
    draw: Callable[[Random, ClientModel], tuple[str, str, dict[str, Any]]]
    request: Callable[[Session, Operation], Request | None]
    made: Callable[[Answer], str]
