"""Delays, rates and probabilities, as a person writes them: 25ms, 100mbit, 0.5%."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

DURATION = "a duration from 0 to 60s, such as 25ms"
RATE = "a rate such as 100mbit, or `unlimited`"
PROBABILITY = "a percentage from 0% to 100%, such as 0.5%"

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(us|ms|s)")
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?(k|m|g)bit(?:/s)?", re.IGNORECASE)
_PROBABILITY = re.compile(r"(\d+(?:\.\d+)?) ?%")
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_MBIT = {"k": 1e-3, "m": 1.0, "g": 1e3}
_LONGEST_MS = 60_000.0
_FASTEST_MBIT = 30_000.0  # netem is told bytes per second in 32 bits


def milliseconds(text: str) -> float:
    """A duration in milliseconds.

    Raises:
        ValueError: it is none.
    """
    number, unit = _parts(_DURATION, text)
    return _within(number * _MS[unit], 0, _LONGEST_MS)


def megabits(text: str) -> float | None:
    """A rate in megabits (10^6) per second; None if it is unlimited.

    Raises:
        ValueError: it is none.
    """
    if text == "unlimited":
        return None
    number, unit = _parts(_RATE, text)
    return _within(number * _MBIT[unit.lower()], 1e-3, _FASTEST_MBIT)


def probability(text: str) -> float:
    """A percentage as a probability.

    Raises:
        ValueError: it is none.
    """
    return _within(float(_parts(_PROBABILITY, text)[0]) / 100, 0, 1)


def spell_ms(value: float) -> str:
    """A duration as text."""
    return f"{value:.6g}ms"


def spell_mbit(value: float | None) -> str:
    """A rate as text."""
    if value is None:
        return "unlimited"
    return f"{value / 1e3:.6g}gbit" if value >= 1e3 else f"{value:.6g}mbit" if value >= 1 else f"{value * 1e3:.6g}kbit"


def spell_probability(value: float) -> str:
    """A probability as text."""
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
