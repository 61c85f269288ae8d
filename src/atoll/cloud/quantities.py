"""Delays, rates and probabilities as text with units: 25ms, 100mbit, 0.5%."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

DURATION = "a duration from 0 to 60s, such as 25ms"
RATE = "a rate from 1kbit to 30gbit, such as 100mbit, or `unlimited`"
PROBABILITY = "a percentage from 0% to 100%, such as 0.5%"

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(us|ms|s)")
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?(k|m|g)bit(?:/s)?", re.IGNORECASE)
_PROBABILITY = re.compile(r"(\d+(?:\.\d+)?) ?%")
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_MBIT = {"k": 1e-3, "m": 1.0, "g": 1e3}
_LONGEST_MS = 60_000.0
_FASTEST_MBIT = 30_000.0  # the greatest rate in Mbit/s, because netem takes bytes per second in 32 bits


def milliseconds(text: str) -> float:
    """Parse a duration, and return it in milliseconds.

    Raises:
        ValueError: the text is not a duration from 0 to 60 s.
    """
    number, unit = _parts(_DURATION, text)
    return _within(number * _MS[unit], 0, _LONGEST_MS)


def megabits(text: str) -> float | None:
    """Parse a rate, and return it in megabits (10^6) per second; `None` means unlimited.

    Raises:
        ValueError: the text is not a rate from 1 kbit/s to 30 Gbit/s.
    """
    if text == "unlimited":
        return None
    number, unit = _parts(_RATE, text)
    return _within(number * _MBIT[unit.lower()], 1e-3, _FASTEST_MBIT)


def probability(text: str) -> float:
    """Parse a percentage, and return it as a probability from 0 to 1.

    Raises:
        ValueError: the text is not a percentage from 0 to 100.
    """
    return _within(float(_parts(_PROBABILITY, text)[0]) / 100, 0, 1)


def spell_ms(value: float) -> str:
    """Return a duration in milliseconds as text."""
    return f"{value:.6g}ms"


def spell_mbit(value: float | None) -> str:
    """Return a rate in megabits (10^6) per second as text."""
    if value is None:
        return "unlimited"
    return f"{value / 1e3:.6g}gbit" if value >= 1e3 else f"{value:.6g}mbit" if value >= 1 else f"{value * 1e3:.6g}kbit"


def spell_probability(value: float) -> str:
    """Return a probability as a percentage."""
    return f"{100 * value:.6g}%"


def _parts(pattern: re.Pattern[str], text: str) -> tuple[float, str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return float(found[1]), found[2] if found.re.groups > 1 else ""


def _within(value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise ValueError(value)
    return value


def _checked(text: str, parse: object) -> str:
    assert callable(parse)
    parse(text)
    return text


Duration = Annotated[str, AfterValidator(lambda text: _checked(text, milliseconds)), Field(description=DURATION)]
Rate = Annotated[str, AfterValidator(lambda text: _checked(text, megabits)), Field(description=RATE)]
Probability = Annotated[str, AfterValidator(lambda text: _checked(text, probability)), Field(description=PROBABILITY)]
