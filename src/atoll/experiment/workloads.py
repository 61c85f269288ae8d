"""The workloads of an experiment with their parameters. A parameter may be a list: each of its items makes cells of its own (a sweep).

The code that carries workloads out is in `atoll.bench.cell_workloads`, because it needs a running cloud.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

_Values = TypeVar("_Values", bound=tuple[object, ...])

MOST = 100_000
"""The largest value of a count, a rate and a number of seconds."""


def listed(value: object) -> object:
    """Return the values of a parameter as a tuple: the items of a list, or a single value.

    Raises:
        ValueError: the list is empty.
    """
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:  # not `min_length`: pydantic counts only valid items, and would report a second error
        raise ValueError("the list is empty: expected at least one value")
    return values


def distinct(values: _Values) -> _Values:
    """Return the values of a parameter unchanged, if they are distinct.

    Raises:
        PydanticCustomError: `swept_twice`: two values are equal.
    """
    for index, value in enumerate(values):
        if value in values[:index]:
            raise PydanticCustomError("swept_twice", "{text}", {"text": f"{value} is in the list twice: expected each value once"})
    return values


COUNT = f"a whole number from 1 to {MOST}"
RATE = f"a number above 0, at most {MOST}"
AMOUNT = f"a number from 0 to {MOST}"
Counts = Annotated[
    tuple[Annotated[int, Field(ge=1, le=MOST)], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description=COUNT),
]
Rates = Annotated[
    tuple[Annotated[float, Field(gt=0, le=MOST, strict=False)], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description=RATE),
]
Amounts = Annotated[
    tuple[Annotated[float, Field(ge=0, le=MOST, strict=False)], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description=AMOUNT),
]
Arrivals = Annotated[
    tuple[Literal["poisson", "constant"], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description="`poisson` or `constant`"),
]


Orders = Annotated[
    tuple[Literal["together", "in-turn"], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description="`together` or `in-turn`"),
]


class WorkloadParameters(BaseModel):
    """A workload without parameters of its own.

    Attributes:
        LITERAL: the names of parameters that are not swept: each has one value, which may be a list or a mapping.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    LITERAL: ClassVar[frozenset[str]] = frozenset()


class Repeated(WorkloadParameters):
    """A workload whose operations run one after the other at each site.

    Attributes:
        times: measured operations at each site; an operation that is not measured precedes them, to fill caches.
        order: "together" has the users of all sites work at the same time, "in-turn" one after the other.
    """

    times: Counts = Field(default=(5,), strict=False, description=COUNT)
    order: Orders = Field(default=("together",), strict=False, description="`together` or `in-turn`")


class BootMany(WorkloadParameters):
    """A workload that boots many servers.

    Attributes:
        servers: the number of servers.
        at_once: the number of servers that boot at the same time for each user.
        at: "first" has the user of the first site boot all servers, "each" has the users of all sites boot equal shares at the same time.
    """

    servers: Counts = Field(default=(30,), strict=False, description=COUNT)
    at_once: Counts = Field(default=(10,), strict=False, description=COUNT)
    at: Annotated[tuple[Literal["first", "each"], ...], BeforeValidator(listed), AfterValidator(distinct)] = Field(
        default=("first",), strict=False, description="`first` or `each`"
    )


class ListAtScale(Repeated):
    """A workload that lists servers while the cloud has many.

    Attributes:
        servers: the number of servers that are booted before the measurement; the users of the sites boot equal shares.
    """

    servers: Counts = Field(default=(50,), strict=False, description=COUNT)


class ImageBoot(Repeated):
    """A workload that uploads an image and boots a server from it.

    Attributes:
        megabytes: the size of the image in megabytes (10^6 bytes).
    """

    megabytes: Rates = Field(default=(10.0,), strict=False, description=RATE)


_OPERATIONS = "`token`, `validate`, `list`, `flavors`, `networks`, `images` or `image-create`"
Operations = Annotated[
    tuple[Literal["token", "validate", "list", "flavors", "networks", "images", "image-create"], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description=_OPERATIONS),
]


class OpenLoad(WorkloadParameters):
    """A workload that sends requests at a given rate, without waiting for the answers.

    Attributes:
        operation: the request.
        rate: requests per second at each site.
        arrivals: "poisson" has exponentially distributed gaps between requests, "constant" equal ones.
        seconds: the length of the load in seconds.
        timeout_s: seconds to wait for an answer, after which the request has failed.
    """

    operation: Operations = Field(default=("validate",), strict=False, description=_OPERATIONS)
    rate: Rates = Field(default=(10.0,), strict=False, description=RATE)
    arrivals: Arrivals = Field(default=("poisson",), strict=False, description="`poisson` or `constant`")
    seconds: Rates = Field(default=(30.0,), strict=False, description=RATE)
    timeout_s: Rates = Field(default=(120.0,), strict=False, description=RATE)


class ClosedLoad(WorkloadParameters):
    """A workload of users who each wait for the answer to a request, and for a think time, before they send the next request.

    Attributes:
        operation: the request.
        users: the number of users at each site.
        think_s: mean of the think times in seconds, which are exponentially distributed.
        seconds: the length of the load in seconds.
        timeout_s: seconds to wait for an answer, after which the request has failed.
    """

    operation: Operations = Field(default=("validate",), strict=False, description=_OPERATIONS)
    users: Counts = Field(default=(10,), strict=False, description=COUNT)
    think_s: Amounts = Field(default=(1.0,), strict=False, description=AMOUNT)
    seconds: Rates = Field(default=(30.0,), strict=False, description=RATE)
    timeout_s: Rates = Field(default=(120.0,), strict=False, description=RATE)


_WHOLE = f"a whole number from 0 to {MOST}"
Wholes = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MOST)], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description=_WHOLE),
]
Messages = Annotated[
    tuple[Literal["call", "cast", "fanout"], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description="`call`, `cast` or `fanout`"),
]
Targets = Annotated[
    tuple[Literal["one", "each"], ...],
    BeforeValidator(listed),
    AfterValidator(distinct),
    Field(strict=False, description="`one` or `each`"),
]


class Rpc(WorkloadParameters):
    """A workload of clients and servers of a message bus, without OpenStack. It needs `kind: bus`.

    Attributes:
        operation: "call" waits for the answer of one server, "cast" for the acknowledgement of one message, "fanout" is a message to all
            servers of the topic.
        targets: "one" has a topic whose servers are at all sites; "each" has a topic at each site, which the clients of the site use.
        clients: the number of clients of all sites together; each waits for the end of a request before it makes the next.
        servers: the number of servers of all sites together.
        rate: requests per second of all clients together; the latency counts from the intended start.
        arrivals: "poisson" has exponentially distributed gaps between requests, "constant" equal ones.
        seconds: the length of the load in seconds.
        payload_bytes: the size of each message's payload in bytes.
        timeout_s: seconds to wait for the answer to a call, after which it has failed.
    """

    operation: Messages = Field(default=("call",), strict=False, description="`call`, `cast` or `fanout`")
    targets: Targets = Field(default=("one",), strict=False, description="`one` or `each`")
    clients: Counts = Field(default=(10,), strict=False, description=COUNT)
    servers: Counts = Field(default=(2,), strict=False, description=COUNT)
    rate: Rates = Field(default=(100.0,), strict=False, description=RATE)
    arrivals: Arrivals = Field(default=("poisson",), strict=False, description="`poisson` or `constant`")
    seconds: Rates = Field(default=(10.0,), strict=False, description=RATE)
    payload_bytes: Counts = Field(default=(1024,), strict=False, description=COUNT)
    timeout_s: Rates = Field(default=(60.0,), strict=False, description=RATE)


class Membership(WorkloadParameters):
    """A workload of members that find each other, rest, lose all links and regain them; then one dies. It needs `kind: hollow`.

    Attributes:
        gateways: the number of members with a real gateway, which answer requests while links come back; smaller than that of all members.
        settle_s: seconds of rest before the traffic of idle members is measured.
        idle_s: seconds of that measurement.
        cut_s: seconds for which all links are cut.
    """

    gateways: Wholes = Field(default=(0,), strict=False, description=_WHOLE)
    settle_s: Amounts = Field(default=(20.0,), strict=False, description=AMOUNT)
    idle_s: Rates = Field(default=(60.0,), strict=False, description=RATE)
    cut_s: Amounts = Field(default=(200.0,), strict=False, description=AMOUNT)


_RPC = (
    "sends requests over a message bus between sites at a given rate; a cast or fanout that arrives is an operation `delivery` of the"
    " server's site"
)
_MEMBERSHIP = (
    "measures the mesh: the time until all members reach each other (`converge`), again after a cut of all links (`reconnect`), until a"
    " death is known to all (`death-known`), and with a hub (`hub-converge`); the numbers are those of idle members"
)

WORKLOADS: Mapping[str, tuple[type[WorkloadParameters], str]] = {
    "boot": (Repeated, "boots a server at each site, until it is ACTIVE, and deletes it, until it is gone"),
    "boot-many": (
        BootMany,
        "boots servers, several at once, until all of a user are ACTIVE, which is one operation; quotas on servers and ports are lifted",
    ),
    "token": (Repeated, "gets a token at each site"),
    "list": (Repeated, "lists the servers of the cloud at each site"),
    "open-load": (OpenLoad, "sends requests of one kind at each site, at a given rate; the latency counts from the intended start"),
    "closed-load": (ClosedLoad, "has users at each site send requests of one kind, each after the answer to the one before"),
    "network": (Repeated, "creates and deletes a network with a subnet at each site"),
    "subnet": (Repeated, "creates and deletes a subnet at each site"),
    "port": (Repeated, "creates and deletes a port at each site"),
    "router": (Repeated, "creates a router at each site, joins it to a subnet, and removes both"),
    "security-group": (Repeated, "creates and deletes a security group at each site"),
    "floating-ip": (
        Repeated,
        "boots a server at each site, associates a floating IP with it (`associate`), releases the IP (`release`), and deletes the server",
    ),
    "pause": (Repeated, "pauses a server at each site and waits until it is PAUSED, then unpauses it and waits until it is ACTIVE"),
    "attach": (Repeated, "attaches an interface to a server at each site, detaches it, and waits until it is gone; a site has no volumes"),
    "image-boot": (
        ImageBoot,
        "uploads an image at each site (`upload`), boots a server from it, and deletes both (`delete`, `image-delete`)",
    ),
    "token-validate": (Repeated, "gets a token at each site, and validates it; the operations are `token` and `validate`"),
    "list-at-scale": (ListAtScale, "lists the servers of the cloud at each site, while the cloud has many servers"),
    "rpc": (Rpc, _RPC),
    "membership": (Membership, _MEMBERSHIP),
}
"""The parameters and the description of each workload, by name."""

SYSTEMS: Mapping[str, str] = {"rpc": "bus", "membership": "hollow"}
"""The kind of architecture that a workload needs, by its name; all others need a cloud."""


def count(workload: WorkloadParameters) -> int:
    """Return the number of combinations of a workload's parameters."""
    return prod(len(getattr(workload, name)) for name in type(workload).model_fields if name not in workload.LITERAL)


def combinations(workload: WorkloadParameters) -> list[dict[str, Any]]:
    """Return every combination of a workload's parameters."""
    made: list[dict[str, Any]] = [{}]
    for name in type(workload).model_fields:
        values = (getattr(workload, name),) if name in workload.LITERAL else getattr(workload, name)
        made = [{**each, name: value} for each in made for value in values]
    return made
