"""What should not be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lost", "duplicated", "orphan", "different", "unhealthy"]


@dataclass(frozen=True)
class Violation:
    """One thing that is not as it should be.

    Attributes:
        kind: `lost`: an acknowledged write does not show; `duplicated`: something is there twice; `orphan`: nobody owns it;
            `different`: sites don't agree; `unhealthy`: a site doesn't do its work.
        what: in words.
    """

    kind: Kind
    what: str
