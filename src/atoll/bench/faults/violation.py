"""What should not be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["lost", "duplicated", "orphan", "different", "unhealthy"]


@dataclass(frozen=True)
class Violation:
    """One thing that is not as it should be.

    Attributes:
        kind: `lost`: an acknowledged write does not show; `duplicated`: something is there twice; `orphan`: nobody owns it;
            `different`: sites don't agree; `unhealthy`: a site doesn't do its work.
        what: in words.
        about: the thing, of which more than one site may have something to say.
    """

    kind: Kind
    what: str
    about: str = ""


def count(violations: Iterable[Violation]) -> dict[Kind, int]:
    """By kind: how many things are concerned, and how many violations that are about no single thing."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    distinct = {(violation.kind, violation.about or violation.what) for violation in violations}
    return {kind: sum(each == kind for each, _about in distinct) for kind in kinds}
