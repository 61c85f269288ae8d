"""Sizes and times as text with units, such as 400MB, 1.5GiB and 90s. `atoll.cloud.quantities` has the quantities of a cloud's file."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

SIZE = "a size up to 1000TB, such as 400MB or 1.5GiB"
TIME = "a time from 0 to 24h, such as 800ms or 5min"

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kMGT]i?)?B")
_TIME = re.compile(r"(\d+(?:\.\d+)?) ?(us|ms|s|min|h)")
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_LONGEST_S = 86_400.0
_LARGEST = 10**15


def size_bytes(text: str) -> int:
    """Parse a size, and return it in bytes.

    Raises:
        ValueError: the text is not a size, or the size is more than 1000 TB (10^15 bytes).
    """
    found = _SIZE.fullmatch(text)
    if found is None or (value := float(found[1]) * _FACTORS[found[2] or ""]) > _LARGEST:
        raise ValueError(text)
    return round(value)


def seconds(text: str) -> float:
    """Parse a time, and return it in seconds.

    Raises:
        ValueError: the text is not a time from 0 to 24 hours.
    """
    found = _TIME.fullmatch(text)
    if found is None or (value := float(found[1]) * _SECONDS[found[2]]) > _LONGEST_S:
        raise ValueError(text)
    return value


def spell_bytes(count: float) -> str:
    """Return a number of bytes as text in the largest decimal unit that leaves at least 1."""
    for unit in ("T", "G", "M", "k"):
        if abs(count) >= _FACTORS[unit]:
            return f"{count / _FACTORS[unit]:.4g}{unit}B"
    return f"{count:.4g}B"


def spell_seconds(value: float) -> str:
    """Return a time in seconds as text, in milliseconds below one second."""
    return f"{value * 1e3:.4g}ms" if abs(value) < 1 else f"{value:.4g}s"


def _checked_size(text: str) -> str:
    size_bytes(text)
    return text


def _checked_time(text: str) -> str:
    seconds(text)
    return text


Size = Annotated[str, AfterValidator(_checked_size), Field(description=SIZE)]
Time = Annotated[str, AfterValidator(_checked_time), Field(description=TIME)]
