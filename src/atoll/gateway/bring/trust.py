"""The trust of this site in the statements of other members about resources."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

SpeaksFor = Callable[[str, str], bool]
"""A function that returns whether a site's (first argument) statement may affect a project (second argument) at other sites."""


@dataclass(frozen=True)
class MemberTrust:
    """The trust in the other members; by default, unlimited.

    Attributes:
        limited: the sites with `trust: local-admin`, whose administrators are not administrators here.
        speaks_for: see `SpeaksFor`.
    """

    limited: Collection[str] = ()
    speaks_for: SpeaksFor = lambda _site, _project: True
