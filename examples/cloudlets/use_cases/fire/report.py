"""The page of the forest fire: the map, the danger from day to day, the times, and what the cloud did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from use_cases import page
from use_cases.cloud import Step
from use_cases.fire.analysis import BLOCK
from use_cases.fire.index import CLASSES
from use_cases.fire.landscape import BUILT, CELL_M, CELLS, FOREST, GRASS, MASTS, MIXED, SHRUBS, SIDE_M, Landscape, Point

ALARM_S, EVACUATION_S = 1.0, 5.0
"""Seconds after a camera's event within which the crews must have the alarm, and the polygon."""

FUELS = {
    GRASS: ("#e9e6b8", "grass"),
    MIXED: ("#d3dba4", "grass and shrubs"),
    SHRUBS: ("#b5c98a", "shrubs"),
    FOREST: ("#8fb07c", "forest"),
    BUILT: ("#c9c4c4", "village"),
}
HEAT = ((75, "#8e1b12", "75 % and more"), (50, "#c8381b", "50 %"), (25, "#e8702a", "25 %"), (5, "#f5b04d", "5 %"))
DANGER = {"low": "#7cb06b", "moderate": "#e5cf4a", "high": "#eba13a", "very high": "#d9572b", "extreme": "#8e1b12"}


@dataclass
class Record:
    """What happened in a run.

    Attributes:
        seed: the seed.
        title: where the use case ran.
        computing: where the heavy program ran.
        days: the danger of each day.
        crew: the positions of the crew.
        alarms, zones: the alarms and the evacuation polygons, each with its seconds.
        steps: what the cloud did.
        analysis: the result of the heavy analysis; empty before.
    """

    seed: int
    title: str
    computing: str
    days: list[dict[str, Any]] = field(default_factory=list)
    crew: list[Point] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    zones: list[dict[str, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    analysis: dict[str, Any] = field(default_factory=dict)

    def late(self) -> list[str]:
        """Return a sentence for each alarm and polygon that was too late."""
        limits = (("alarm", self.alarms, ALARM_S), ("polygon", self.zones, EVACUATION_S))
        return [
            f"the {name} of {each['event']} took {each['seconds']} s: at most {most:g} s"
            for name, found, most in limits
            for each in found
            if each["seconds"] >= most
        ]


def render(record: Record, land: Landscape) -> str:
    """Return the page of a record as HTML."""
    worst_alarm = max((each["seconds"] for each in record.alarms), default=0.0)
    worst_zone = max((each["seconds"] for each in record.zones), default=0.0)
    facts = [
        (f"{record.days[-1]['fwi']:.1f}" if record.days else "?", f"Fire Weather Index: {record.days[-1]['class'] if record.days else ''}"),
        (f"{worst_alarm * 1000:.0f} ms", f"slowest alarm (at most {ALARM_S:g} s)"),
        (f"{worst_zone:.2f} s", f"slowest evacuation polygon (at most {EVACUATION_S:g} s)"),
        (f"{record.analysis.get('seconds', '?')} s", f"analysis of {record.analysis.get('members', '?')} simulations"),
    ]
    left = page.section("Map", _map(record, land), _legend(), page.paragraph(_map_text(record)))
    right = "".join([page.section("Danger from day to day", _chart(record)), page.section("Alarms and polygons", _times(record))])
    cloud = page.section("What the cloud did", page.paragraph(f"{record.title} {record.computing}"), page.steps(record.steps))
    return page.document(
        "Forest fire",
        [
            page.paragraph(f"Simulated weather, landscape and fires of seed {record.seed}; the messages and the times are real."),
            page.figures(facts),
            f'<div class="columns"><div>{left}</div><div>{right}</div></div>',
            cloud,
        ],
    )


def _map_text(record: Record) -> str:
    text = "12 by 12 km; north is at the top. "
    if record.zones:
        text += f"Dashed: the area to evacuate in the first {record.zones[0]['minutes']} minutes of each fire. "
    if record.analysis:
        text += f"Red and orange: the share of {record.analysis['members']} simulations in which fire-1 reaches a place "
        text += f"within {record.analysis['minutes'] // 60} hours, by the heavy analysis."
    return text


def _runs(values: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Yield row, first column, columns and value of each run of equal values other than 0."""
    for row, line in enumerate(values):
        edges = np.flatnonzero(np.diff(line)) + 1
        for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(line)], strict=True):
            if line[begin]:
                yield row, begin, end - begin, int(line[begin])


def _cells(values: np.ndarray, size_m: int, colours: dict[int, str], opacity: float = 1.0) -> str:
    """Return runs of cells as one path for each colour."""
    paths: dict[int, list[str]] = {}
    for row, column, count, value in _runs(values):
        paths.setdefault(value, []).append(f"M{column * size_m} {SIDE_M - row * size_m}h{count * size_m}v-{size_m}h-{count * size_m}z")
    return "".join(
        f'<path d="{"".join(found)}" fill="{colours[value]}" fill-opacity="{opacity}" shape-rendering="crispEdges"/>'
        for value, found in sorted(paths.items())
    )


def _heat(record: Record) -> str:
    if not record.analysis:
        return ""
    percent = np.array(record.analysis["percent"])
    steps = np.zeros_like(percent)
    for least, _, _ in sorted(HEAT):
        steps[percent >= least] = least
    return _cells(steps, BLOCK * CELL_M, {least: colour for least, colour, _ in HEAT}, 0.75)


def _at(point: Point | list[float]) -> str:
    return f"{point[0]:g},{SIDE_M - point[1]:g}"


def _label(point: Point, text: str, colour: str, radius: int = 110, *, left: bool = False) -> str:
    x, y = point[0], SIDE_M - point[1]
    anchor, shift = ("end", -170) if left or x > SIDE_M * 0.8 else ("start", 170)
    style = f'text-anchor="{anchor}" style="font-size:270px;paint-order:stroke" stroke="#fff" stroke-width="70"'
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="{radius}" fill="{colour}" stroke="#fff" stroke-width="40"/>'
        f'<text x="{x + shift:g}" y="{y + (300 if left else 90):g}" {style}>{escape(text)}</text>'
    )


def _map(record: Record, land: Landscape) -> str:
    style = 'fill="#b3001b" fill-opacity="0.08" stroke="#b3001b" stroke-width="70" stroke-dasharray="200 120"'
    zones = "".join(f'<polygon points="{" ".join(_at(each) for each in zone["polygon"])}" {style}/>' for zone in record.zones)
    threatened = {name for zone in record.zones for name in zone["places"]}
    marks = [
        _label(
            village.at,
            f"{village.name}: evacuate" if village.name in threatened else village.name,
            "#b3001b" if village.name in threatened else "#3f4a56",
        )
        for village in land.villages
    ]
    marks += [_label(camera.at, camera.name, "#5a3fa0", 80) for camera in land.cameras]
    marks += [_label(mast.at, f"mast {mast.name}", "#0b6ea8") for mast in MASTS]
    marks += [_label((alarm["x"], alarm["y"]), alarm["event"], "#e02d10", 140, left=True) for alarm in record.alarms]
    crew = (
        f'<polyline points="{" ".join(_at(each) for each in record.crew)}" fill="none" stroke="#0b6ea8" stroke-width="80"/>'
        if record.crew
        else ""
    )
    fuel = _cells(land.fuel.astype(int), CELL_M, {number: colour for number, (colour, _) in FUELS.items()})
    assert land.fuel.shape == (CELLS, CELLS)
    return f'<svg viewBox="0 0 {SIDE_M} {SIDE_M}" role="img" aria-label="Map">{fuel}{_heat(record)}{zones}{crew}{"".join(marks)}</svg>'


def _legend() -> str:
    heat = [(colour, f"burns in {text}") for _, colour, text in HEAT]
    return page.legend(
        [*FUELS.values(), *heat, ("#b3001b", "area to evacuate"), ("#0b6ea8", "route of the crew, and masts"), ("#5a3fa0", "cameras")]
    )


def _chart(record: Record) -> str:
    """Return the index of each day as bars, over the classes of danger."""
    width, height, top = 560, 220, max([60.0, *(day["fwi"] for day in record.days)])
    step = width / max(len(record.days), 1)
    bands, bars = [], []
    for least, name in CLASSES[:-1]:
        y = height * (1 - least / top)
        bands.append(f'<line x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d9dfe6"/>')
        bands.append(f'<text x="2" y="{y - 3:.1f}" fill="#5b6876">{name} from {least:g}</text>')
    for number, day in enumerate(record.days):
        size = height * day["fwi"] / top
        place = f'x="{number * step + 2:.1f}" y="{height - size:.1f}" width="{step - 4:.1f}" height="{size:.1f}"'
        title = f"<title>day {day['day']}: {day['fwi']:g}, {day['class']}</title>"
        bars.append(f'<rect {place} fill="{DANGER[day["class"]]}" fill-opacity="0.9">{title}</rect>')
        if number % 3 == 0:
            bars.append(f'<text x="{(number + 0.5) * step:.1f}" y="{height + 15}" text-anchor="middle">{day["day"]}</text>')
    return f'<svg viewBox="0 0 {width} {height + 20}" role="img" aria-label="Fire Weather Index">{"".join(bars)}{"".join(bands)}</svg>'


def _times(record: Record) -> str:
    zones = {zone["event"]: zone for zone in record.zones}
    rows = []
    for alarm in record.alarms:
        zone = zones.get(alarm["event"], {})
        ready = f"{zone['seconds']:.2f} s" if zone else "…"
        rows.append(
            (
                alarm["event"],
                alarm["camera"],
                f"{alarm['seconds'] * 1000:.0f} ms",
                ready,
                f"{zone.get('area_ha', '')} ha",
                ", ".join(zone.get("places", [])) or "none",
            )
        )
    return page.table(("fire", "seen by", "alarm", "polygon", "area", "evacuate"), rows, (2, 3, 4))
