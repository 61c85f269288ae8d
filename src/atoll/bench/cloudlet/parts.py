"""The parts of the experiment, and the links on which they are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HOME, EDGE = "home", "edge"
"""The sites: the home of the images, and the site near the user."""

LINK = f"{HOME}:{EDGE}"
"""The name of the link between both sites."""

CUT_S = 10.0
"""Length of the cut in the middle of a hand-off, in seconds."""

SESSION_MIB = 4
"""Random data that the application writes to its disk before it is handed off, in MiB."""


@dataclass(frozen=True)
class EmulatedLink:
    """The properties of the link between both sites, the same in both directions.

    Attributes:
        rate_mbit: megabits (10^6) per second; `None` means unlimited.
        rtt_ms: the round trip in milliseconds.
        loss: probability of the loss of a packet in each direction, 0 to 1.
    """

    rate_mbit: float | None
    rtt_ms: float
    loss: float = 0.0

    def changes(self) -> dict[str, Any]:
        """Return the fields of `atoll.cloud.network.Wire` that give the link these properties."""
        return {"rate_mbit": self.rate_mbit, "delay_ms": self.rtt_ms / 2, "loss": self.loss}


OPEN = EmulatedLink(None, 2)
"""The link while nothing is measured."""

LINKS = {"38mbit": EmulatedLink(38, 20), "25mbit": EmulatedLink(25, 50), "5mbit": EmulatedLink(5, 100, 0.01)}
"""The links of measurements by the last part of their keys. The published figures for 38 Mbit/s are of a wireless network."""

SYNTHETIC, OVERLAY = "synthetic", "overlay"
SYNTHESIS, CACHED, USB, IMAGE = "synthesis", "cached", "usb", "image"
HANDOFFS = {f"handoff-{name}": name for name in ("5mbit", "25mbit")}
"""The parts that measure hand-offs, each with the name of its link."""
CUT = "handoff-cut"
SNAPSHOTS = {f"snapshot-{name}": name for name in ("5mbit", "25mbit")}
"""The parts that measure the rival of hand-offs, each with the name of its link."""

PARTS = (SYNTHETIC, OVERLAY, SYNTHESIS, CACHED, USB, IMAGE, *HANDOFFS, CUT, *SNAPSHOTS)
"""All parts, in the order in which they run."""

ON_FILES = frozenset((SYNTHETIC, OVERLAY))
"""The parts that need no cloud, no guest and no root."""
