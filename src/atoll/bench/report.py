"""The names and meanings of the values that `atoll bench site` measures, and the comparison of two deployments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """One measured value of a report.

    Attributes:
        name: the value's name in the JSON.
        meaning: the value's description, with the unit.
        compared: whether the value is measured for the usual deployment too.
    """

    name: str
    meaning: str
    compared: bool = True


KEYS = (
    Key("first_site_s", "first site, from command to five right answers, s"),
    Key("first_site_warm_s", "the same site again, fork servers warm, s", compared=False),
    Key("first_site_no_template_s", "first site with no schema templates yet, s", compared=False),
    Key("next_site_s", "each further site, s", compared=False),
    Key("site_pss_mb", "memory per site, with its part of shared memory, MB"),
    Key("next_site_mb", "memory that one more site adds, MB", compared=False),
    Key("total_pss_mb", "memory of all processes, MB", compared=False),
    Key("boot_one_s", "one server, from request to ACTIVE, s"),
    Key("boots_per_min", "servers booted per minute"),
    Key("boot_full_s", "one server, durability full, s", compared=False),
    Key("boot_relaxed_s", "one server, durability relaxed, s", compared=False),
    Key("durability_ratio", "durability full, divided by relaxed", compared=False),
    Key("idle_cpu_percent", "an idle site, % of one core"),
    Key("processes", "number of all processes", compared=False),
)
"""The values that `atoll bench site` measures, in the order in which they are shown."""


def ratios(ours: Mapping[str, Any], standard: Mapping[str, Any]) -> dict[str, float]:
    """Divide each comparable value of Atoll by that of the usual deployment, and return the ratios by name; skip missing values."""
    found = {}
    for key in KEYS:
        left, right = ours.get(key.name), standard.get(key.name)
        if key.compared and _is_number(left) and _is_number(right) and right:
            found[key.name] = round(left / right, 3)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the rows of the report's table: meaning, Atoll's value, the usual deployment's, ratio. A missing value is an empty cell."""
    standard, compared = report.get("standard", {}), report.get("ratios", {})
    return [
        (key.meaning, text(report[key.name]), text(standard.get(key.name)), text(compared.get(key.name)))
        for key in KEYS
        if report.get(key.name) is not None
    ]


def text(value: float | None) -> str:
    """Return a number as text; empty for `None`."""
    if value is None:
        return ""
    return f"{value:.0f}" if isinstance(value, int) or value >= 100 else f"{value:.2f}"
