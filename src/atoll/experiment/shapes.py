"""Shapes that an experiment expects of its results: latencies stay flat with the distance of sites, or grow by a number of round trips.

A shape concerns lines: the medians of one operation against the round trip, with all other factors equal. It must hold for each line.
A field's `description` completes the sentence "expected …" in error messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%")
PERCENTAGE = "a percentage such as 5%"
RANGE = "a list of two numbers, the smaller one first, such as [40, 80]"


def _checked_percentage(text: str) -> str:
    if _PERCENT.fullmatch(text) is None:
        raise ValueError(text)
    return text


class Shape(BaseModel):
    """A shape that an experiment expects.

    Attributes:
        operation: the name of the operation, such as `boot`.
        where: the values of factors to which the shape applies, such as {architecture: centralised, traffic: stock}.
        users: "full" or "compute", the kind of the sites of the users, in clouds that have both; `None` means all.
        flat: the greatest growth of the median over that of the shortest round trip, such as "5%".
        round_trips: the smallest and the greatest number of round trips by which the median grows: the slope of a straight line through
            the medians.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    operation: str = Field(min_length=1, description="the name of an operation, such as `boot`")
    where: dict[str, Any] = Field(default_factory=dict, description="a mapping of factors, such as {architecture: centralised}")
    users: Literal["full", "compute"] | None = Field(default=None, description="`full` or `compute`")
    flat: Annotated[str, AfterValidator(_checked_percentage)] | None = Field(default=None, description=PERCENTAGE)
    round_trips: tuple[float, float] | None = Field(default=None, strict=False, description=RANGE)

    @model_validator(mode="after")
    def _check(self) -> Shape:
        if (self.flat is None) == (self.round_trips is None):
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": "expected either `flat` or `round_trips`"})
        if self.round_trips is not None and self.round_trips[0] > self.round_trips[1]:
            raise PydanticCustomError("experiment_inconsistent", "{text}", {"text": f"`round_trips`: expected {RANGE}"})
        return self

    @property
    def flat_percent(self) -> float | None:
        """The greatest growth in percent; `None` if the shape is a number of round trips."""
        found = _PERCENT.fullmatch(self.flat or "")
        return None if found is None else float(found[1])

    @property
    def told(self) -> str:
        """The shape as a text."""
        users = f", users at {self.users} sites" if self.users else ""
        where = "".join(f", {name} {value}" for name, value in self.where.items())
        wanted = (
            f"at most {self.flat} above the shortest round trip"
            if self.round_trips is None
            else f"grows by {self.round_trips[0]:g} to {self.round_trips[1]:g} round trips"
        )
        return f"{self.operation}{users}{where}: {wanted}"


def complaints(shapes: Sequence[Shape], known: Mapping[str, set[str]]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield a complaint for each factor or value that no cell has.

    Args:
        shapes: the shapes that an experiment expects.
        known: the values of each factor of its cells, as texts.
    """
    for index, shape in enumerate(shapes):
        for name, value in shape.where.items():
            if name not in known:
                yield ("expect", index, "where"), f"no cell has a factor {name}: expected one of {', '.join(sorted(known))}"
            elif str(value) not in known[name]:
                yield ("expect", index, "where"), f"no cell has {name} {value}: expected one of {', '.join(sorted(known[name]))}"
        if len(known.get("delay", ())) < 2:
            yield ("expect", index), "a shape needs several delays of links: expected a list such as {delay: [0ms, 50ms]}"
