"""The model of the network between sites, as the YAML describes it: links, groups, presets, backbones.

As in `model`, a field's `description` ends the sentence "expected …".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from atoll.cloud import quantities
from atoll.cloud.network import Wire
from atoll.cloud.quantities import Duration, Probability, Rate

LOCATION = "latitude and longitude in degrees, such as [48.86, 2.35]"
PLACES = "a mapping such as {paris: [48.86, 2.35]}"

Location = Annotated[
    tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-180, le=180)]], Field(strict=False, description=LOCATION)
]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Pair = Annotated[tuple[str, str], Field(strict=False)]

NODES = 256
"""Greatest number of nodes, sites and routers together, that the emulator supports."""


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Shape(_Model):
    """Properties of links. A property that is not given comes from a more general rule: a constraint, or the defaults.

    Attributes:
        delay: delay of one direction; the round trip takes twice as long.
        jitter: greatest deviation from the delay, uniformly distributed, longer or shorter; packets keep their order.
        rate: bits of IP packets per second, in each direction.
        loss: share of packets that are lost, in each direction.
        reorder: share of packets that skip the delay, and so overtake others.
    """

    delay: Duration | None = Field(default=None, description=quantities.DURATION)
    jitter: Duration | None = Field(default=None, description=quantities.DURATION)
    rate: Rate | None = Field(default=None, description=quantities.RATE)
    loss: Probability | None = Field(default=None, description=quantities.PROBABILITY)
    reorder: Probability | None = Field(default=None, description=quantities.PROBABILITY)

    def changes(self) -> dict[str, Any]:
        """Return the values that this entry sets, by the name of the field of `Wire` that each replaces."""
        said: dict[str, Any] = {}
        if self.delay is not None:
            said["delay_ms"] = quantities.milliseconds(self.delay)
        if self.jitter is not None:
            said["jitter_ms"] = quantities.milliseconds(self.jitter)
        if self.rate is not None:
            said["rate_mbit"] = quantities.megabits(self.rate)
        if self.loss is not None:
            said["loss"] = quantities.probability(self.loss)
        if self.reorder is not None:
            said["reorder"] = quantities.probability(self.reorder)
        return said

    @classmethod
    def of(cls, wire: Wire) -> dict[str, str]:
        """Return the properties of a wire as text, by the names of this model, without those that have no effect."""
        spell = {
            "delay": ("delay_ms", quantities.spell_ms),
            "jitter": ("jitter_ms", quantities.spell_ms),
            "rate": ("rate_mbit", quantities.spell_mbit),
            "loss": ("loss", quantities.spell_probability),
            "reorder": ("reorder", quantities.spell_probability),
        }
        idle = Wire()
        return {word: say(getattr(wire, name)) for word, (name, say) in spell.items() if getattr(wire, name) != getattr(idle, name)}


class Link(Shape):
    """A link between two sites or routers, which is added to a preset or changes a link of it.

    Attributes:
        between: the link's two ends.
        one_way: whether the entry applies only from the first end to the second. The other direction is then as without the entry.
    """

    between: Pair = Field(description="the names of two sites, such as [paris, lyon]")
    one_way: bool = Field(default=False, description="true or false")


class Constraint(Shape):
    """Properties of all links between two groups. If two constraints concern one link, the later one overrides the earlier one.

    Attributes:
        between: two groups; a site or a router is a group too. The same group twice means the links within it.
        one_way: whether the constraint applies only from the first group to the second.
    """

    between: Pair = Field(description="the names of two groups or sites, such as [core, edge]")
    one_way: bool = Field(default=False, description="true or false")


class Router(_Model):
    """A node without a site, which only forwards packets.

    Attributes:
        name: the router's name, unique among sites and routers.
        location: the router's latitude and longitude, in degrees.
    """

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", description="a name of lower-case letters, digits and hyphens")
    location: Location | None = Field(default=None, description=LOCATION)


class Backbone(_Model):
    """A real network, whose nodes are sites or routers.

    Attributes:
        file: the path of a GraphML file, as the Internet Topology Zoo and SNDlib publish them, relative to the cloud's file; or `topohub:`
            and the key of a topology in the package topohub, such as `topohub:topozoo/Abilene`.
        places: the node of each site, by its label in the file. A site without an entry gets the node of its name, otherwise the first
            free node.
    """

    file: str = Field(min_length=1, description="the path of a GraphML file, or a key such as topohub:topozoo/Abilene")
    places: dict[str, str] = Field(default_factory=dict, description="a mapping such as {paris: Paris}")


class Topology(_Model):
    """The network between sites.

    Attributes:
        preset: "mesh" links every two sites, "star" each to `center`, "ring" each to the next in the file's order. Default: a mesh,
            unless links, a backbone or a matrix are given.
        center: the site in the middle of a star; default: the first site.
        backbone: a real network; it is replaced by routers and links when the file is read.
        matrix: the path of a CSV file of round trips in milliseconds, relative to the cloud's file. The first row and the first column
            contain the names; an empty cell means no link. The matrix is replaced by links when the file is read.
        distance: whether to derive the delay of a link from the locations of its ends, unless a link or constraint gives the delay.
        defaults: properties of all links.
        links: single links.
        groups: names of sites by group; `edge-*` stands for all names that begin with `edge-`.
        constraints: properties of the links between groups.
        exempt: groups or sites to whose links the defaults do not apply.
        routers: nodes without a site.
        locations: latitude and longitude of sites, in degrees.
        rerouting: whether packets take another route around links that are cut; otherwise routes are fixed and those packets are lost.
    """

    preset: Literal["mesh", "star", "ring"] | None = Field(default=None, description="`mesh`, `star` or `ring`")
    center: str | None = Field(default=None, description="the name of a site")
    backbone: Backbone | None = Field(default=None, description="a mapping such as {file: geant.graphml}")
    matrix: str | None = Field(default=None, min_length=1, description="the path of a CSV file")
    distance: bool = Field(default=False, description="true or false")
    defaults: Shape = Field(default_factory=Shape, description="a mapping such as {delay: 10ms}")
    links: tuple[Link, ...] = Field(default=(), strict=False, description="a list such as [{between: [paris, lyon], delay: 4ms}]")
    groups: dict[str, Names] = Field(default_factory=dict, description="a mapping such as {edge: [edge-*]}")
    constraints: tuple[Constraint, ...] = Field(
        default=(), strict=False, description="a list such as [{between: [core, edge], delay: 25ms}]"
    )
    exempt: tuple[str, ...] = Field(default=(), strict=False, description="a list of groups or sites, such as [monitoring]")
    routers: tuple[Router, ...] = Field(default=(), strict=False, description="a list such as [{name: geneva}]")
    locations: dict[str, Location] = Field(default_factory=dict, description=PLACES)
    rerouting: bool = Field(default=False, description="true or false")

    @model_validator(mode="after")
    def _check_center(self) -> Topology:
        if self.center is not None and self.preset != "star":
            raise problem(("center",), "only a star has a center: expected `preset: star`, or no `center`")
        return self


def problem(path: tuple[str | int, ...], text: str) -> PydanticCustomError:
    """Return the error for a fault in a topology, with its place."""
    return PydanticCustomError("cloud_inconsistent", "{text}", {"text": text, "path": ("topology", *path)})


MAPPINGS: Mapping[type[BaseModel], str] = {
    Topology: "a mapping such as {preset: mesh, defaults: {delay: 10ms}}",
    Backbone: "a mapping such as {file: geant.graphml}",
    Shape: "a mapping such as {delay: 10ms}",
    Link: "a mapping such as {between: [paris, lyon], delay: 4ms}",
    Constraint: "a mapping such as {between: [core, edge], delay: 25ms}",
    Router: "a mapping such as {name: geneva}",
}
"""The expected form of each model, for error messages."""

NESTED: Mapping[str, type[BaseModel]] = {
    "topology": Topology,
    "backbone": Backbone,
    "defaults": Shape,
    "links": Link,
    "constraints": Constraint,
    "routers": Router,
}
"""The model of each field whose value, or whose items, a model describes."""
