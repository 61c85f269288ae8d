"""Cameras' events: which of them is a new fire, so that several cameras that see one fire cause one alarm."""

from __future__ import annotations

from dataclasses import dataclass, field

from use_cases.fire.landscape import Point, distance_m

LEAST_CONFIDENCE = 0.6
"""Confidence from which one event is enough for an alarm."""
SAME_FIRE_M = 600.0
"""Metres within which events are of the same fire."""


@dataclass
class Fires:
    """The fires that are known: their points."""

    known: list[Point] = field(default_factory=list)

    def is_new(self, at: Point, confidence: float) -> bool:
        """Return whether an event is a fire that had no alarm yet, and remember this fire."""
        if confidence < LEAST_CONFIDENCE or any(distance_m(at, each) <= SAME_FIRE_M for each in self.known):
            return False
        self.known.append(at)
        return True
