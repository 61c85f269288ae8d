"""Violations: differences between the expected and the actual state of a cloud."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["lost", "duplicated", "orphan", "different", "unhealthy"]


@dataclass(frozen=True)
class Violation:
    """A difference between the expected and the actual state.

    Attributes:
        kind: `lost`: a site does not show an acknowledged write; `duplicated`: a resource exists twice; `orphan`: a resource has no owner;
            `different`: replicated data differ between sites; `unhealthy`: a site does not work.
        what: a description of the difference, as text.
        about: the name of the affected resource; violations at several sites may concern the same resource.
    """

    kind: Kind
    what: str
    about: str = ""


def count(violations: Iterable[Violation]) -> dict[Kind, int]:
    """Return, for each kind, the number of affected resources, plus the number of violations that concern no resource."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    distinct = {(violation.kind, violation.about or violation.what) for violation in violations}
    return {kind: sum(each == kind for each, _about in distinct) for kind in kinds}
