"""The page of the garbage collection: the map with the newest routes, each day's way, and the comparison with a fixed schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

from use_cases import page
from use_cases.cloud import Step
from use_cases.waste.city import DEPOT, SIDE_M, Bin
from use_cases.waste.forecast import FULL

PLAN_S = 60.0
"""Seconds after a request within which the routes must be there: the class of minutes to hours has much more."""

TRUCKS = ("#0b6ea8", "#b3561b", "#5a3fa0", "#23803f")
LEVELS = ((1.0, "#8e1b12", "full"), (FULL, "#d9572b", "80 %"), (0.5, "#e5cf4a", "50 %"), (0.0, "#9dc58e", "less"))


@dataclass
class Record:
    """What happened in a run.

    Attributes:
        seed: the seed.
        title: where the use case ran.
        computing: where the heavy program ran.
        days: the field's lines about each day.
        outcome: the field's last line; empty before.
        steps: what the cloud did.
    """

    seed: int
    title: str
    computing: str
    days: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def late(self) -> list[str]:
        """Return a sentence for each day whose routes were too late."""
        return [
            f"the routes of day {day['day']} took {day['seconds']} s: at most {PLAN_S:g} s" for day in self.days if day["seconds"] >= PLAN_S
        ]

    def visits(self) -> int:
        """Return how many bins were emptied."""
        return sum(len(route) for day in self.days for route in day["routes"])

    def metres(self) -> int:
        """Return the length of all routes."""
        return sum(day["metres"] for day in self.days)


def render(record: Record, city: list[Bin]) -> str:
    """Return the page of a record as HTML."""
    slowest = max((day["seconds"] for day in record.days), default=0.0)
    errors = [day["error"] for day in record.days if day["error"] is not None]
    facts = [
        (f"{len(record.days)}", "days"),
        (f"{slowest:.1f} s", f"slowest plan of a day (at most {PLAN_S:g} s)"),
        (f"{record.metres() / 1000:.0f} km", f"of routes, {record.visits()} bins emptied"),
        (f"{100 * sum(errors) / len(errors):.1f} %" if errors else "?", "of a bin's volume: mean error of the forecast of a day"),
    ]
    shown = [day for day in record.days if day["routes"]][-1:]
    title = f"Bins and routes of day {shown[0]['day'] + 1}, a {_weekday(shown[0]['day'])}" if shown else "Bins"
    left = page.section(
        title, _map(city, shown), _legend(shown), page.paragraph("8 by 8 km; north is at the top. Colours: fill levels before the round.")
    )
    lengths = page.section("Length of the routes of each day, km", _chart(record))
    right = lengths + page.section("Against a fixed schedule", _comparison(record))
    cloud = page.section("What the cloud did", page.paragraph(f"{record.title} {record.computing}"), page.steps(record.steps))
    about = (
        f"Simulated bins of seed {record.seed}, whose readings come by MQTT and are partly lost; the messages, plans and times are real."
    )
    return page.document(
        "Garbage collection",
        [page.paragraph(about), page.figures(facts), f'<div class="columns"><div>{left}</div><div>{right}</div></div>', cloud],
    )


def _weekday(day: int) -> str:
    return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[day % 7]


def _map(city: list[Bin], shown: list[dict[str, Any]]) -> str:
    at, levels = {each.name: each.at for each in city}, shown[0]["levels"] if shown else {}
    lines = []
    for number, route in enumerate(shown[0]["routes"] if shown else []):
        way = [DEPOT, *(at[name] for name in route), DEPOT]
        # Trucks go along a grid of streets: first east or west, then north or south.
        points = [f"{x},{SIDE_M - y}" for (x0, y0), (x1, y1) in pairwise(way) for x, y in ((x0, y0), (x1, y0), (x1, y1))]
        lines.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{TRUCKS[number % 4]}" stroke-width="35" stroke-opacity="0.75"/>'
        )
    marks = []
    for each in city:
        level = levels.get(each.name, 0.0)
        colour = next(colour for least, colour, _ in LEVELS if level >= least)
        title = f"<title>{escape(each.name)}: {level:.0%} of {each.litres} l</title>"
        marks.append(
            f'<circle cx="{each.at[0]}" cy="{SIDE_M - each.at[1]}" r="75" fill="{colour}" stroke="#333" stroke-width="12">{title}</circle>'
        )
    x, y = DEPOT[0], SIDE_M - DEPOT[1]
    label = f'<text x="{x}" y="{y + 330}" text-anchor="middle" style="font-size:200px">depot</text>'
    depot = f'<rect x="{x - 110}" y="{y - 110}" width="220" height="220" fill="#1d2733"/>{label}'
    ground = f'<rect width="{SIDE_M}" height="{SIDE_M}" fill="#f4f2ec"/>'
    return f'<svg viewBox="0 0 {SIDE_M} {SIDE_M}" role="img" aria-label="Map">{ground}{"".join(lines)}{"".join(marks)}{depot}</svg>'


def _legend(shown: list[dict[str, Any]]) -> str:
    trucks = [
        (TRUCKS[number % 4], f"truck {number + 1}: {len(route)} bins") for number, route in enumerate(shown[0]["routes"] if shown else [])
    ]
    return page.legend([*((colour, name) for _, colour, name in LEVELS), *trucks])


def _chart(record: Record) -> str:
    """Return the length of each day's routes as bars."""
    width, height = 560, 180
    top = max([1, *(day["metres"] for day in record.days)])
    step, bars = width / max(len(record.days), 1), []
    for number, day in enumerate(record.days):
        size = (height - 20) * day["metres"] / top
        x, middle = number * step + 3, (number + 0.5) * step
        title = f"<title>{_weekday(day['day'])}: {sum(map(len, day['routes']))} bins</title>"
        bars.append(f'<rect x="{x:.1f}" y="{height - size:.1f}" width="{step - 6:.1f}" height="{size:.1f}" fill="#0b6ea8">{title}</rect>')
        bars.append(f'<text x="{middle:.1f}" y="{height - size - 5:.1f}" text-anchor="middle">{day["metres"] / 1000:.0f}</text>')
        bars.append(f'<text x="{middle:.1f}" y="{height + 16}" text-anchor="middle">{_weekday(day["day"])[:2]}</text>')
    return f'<svg viewBox="0 0 {width} {height + 22}" role="img" aria-label="Length of the routes of each day">{"".join(bars)}</svg>'


def _comparison(record: Record) -> str:
    if not record.outcome:
        return page.paragraph("Not yet.")
    fixed, readings = record.outcome["fixed"], "readings of a full bin"
    rows = [
        ("length of routes, km", f"{record.metres() / 1000:.0f}", f"{fixed['metres'] / 1000:.0f}"),
        ("bins emptied", record.visits(), fixed["visits"]),
        (readings, record.outcome["over"], fixed["over"]),
        ("bins that had to wait for a day", sum(len(day["left"]) for day in record.days), "-"),
    ]
    return page.table(("", "by forecast", f"all bins every {fixed['every']} days"), rows, (1, 2))
