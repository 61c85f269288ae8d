"""Statistics of measured samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def median(samples: Sequence[float]) -> float | None:
    """Return the median rounded to three decimals, or `None` without samples."""
    return round(statistics.median(samples), 3) if samples else None
