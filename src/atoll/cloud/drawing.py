"""Pictures of a network: as text for the terminal, and as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import cos, pi, radians, sin

from atoll.cloud.network import Network, Wire
from atoll.cloud.quantities import spell_mbit, spell_ms, spell_probability

Points = Mapping[str, tuple[float, float]]
"""Position of each node in the picture: x and y from 0 (left, top) to 1 (right, bottom)."""

_STYLE = (
    "text{font:12px sans-serif;fill:#222}.site{fill:#2563eb}.router{fill:#9ca3af}.link{stroke:#9ca3af;stroke-width:1.5}"
    ".what{font-size:10px;fill:#6b7280}"
)
_MARGIN = 60


def points(network: Network) -> Points:
    """Return the position of each node: on a map if all locations are known, otherwise on a circle."""
    located = {node.name: node.location for node in network.nodes if node.location is not None}
    if len(located) < len(network.nodes) or len(set(located.values())) < 2:
        count = len(network.nodes)
        turns = {node.name: 2 * pi * index / count for index, node in enumerate(network.nodes)}
        return {name: (0.5 + 0.5 * sin(turn), 0.5 - 0.5 * cos(turn)) for name, turn in turns.items()}
    middle = sum(latitude for latitude, _longitude in located.values()) / len(located)
    squeeze = cos(radians(middle))  # length of a degree of longitude, as a share of that of latitude
    flat = {name: (longitude * squeeze, -latitude) for name, (latitude, longitude) in located.items()}
    left, top = (min(place[axis] for place in flat.values()) for axis in (0, 1))
    extent = max(max(place[axis] for place in flat.values()) - low for axis, low in ((0, left), (1, top)))
    return {name: ((x - left) / extent, (y - top) / extent) for name, (x, y) in flat.items()}


def spell_wire(wire: Wire) -> str:
    """Return the properties of a wire as text."""
    said = [spell_ms(wire.delay_ms) + (f" ± {spell_ms(wire.jitter_ms)}" if wire.jitter_ms else "")]
    if wire.rate_mbit is not None:
        said.append(spell_mbit(wire.rate_mbit))
    if wire.loss:
        said.append(f"loss {spell_probability(wire.loss)}")
    if wire.reorder:
        said.append(f"reorder {spell_probability(wire.reorder)}")
    return ", ".join(said)


def text_map(network: Network, columns: int, rows: int) -> list[str]:
    """Return a map as lines of text: links as dots, sites as `●`, routers as `○`, and names where they fit."""
    at = points(network)
    across, down = (max(1e-9, *(place[axis] for place in at.values())) for axis in (0, 1))
    longest = max(len(name) for name in at)
    width, height = max(1, columns - longest - 3), max(1, rows - 1)
    cells = {name: (round(x / across * width), round(y / down * height)) for name, (x, y) in at.items()}
    canvas = [[" "] * columns for _ in range(rows)]
    for start, end in network.links:
        _dots(canvas, cells[start], cells[end])
    for node in network.nodes:
        column, row = cells[node.name]
        canvas[row][column] = "●" if node.site else "○"
    for node in sorted(network.nodes, key=lambda node: not node.site):
        column, row = cells[node.name]
        room = canvas[row][column + 1 : column + 2 + len(node.name)]
        if all(letter in " ·" for letter in room):
            canvas[row][column + 1 : column + 2 + len(node.name)] = list(f" {node.name}")
    return ["".join(line).rstrip() for line in canvas]


def _dots(canvas: list[list[str]], start: tuple[int, int], end: tuple[int, int]) -> None:
    steps = max(abs(start[0] - end[0]), abs(start[1] - end[1]), 1)
    for step in range(1, steps):
        column, row = (round(start[axis] + (end[axis] - start[axis]) * step / steps) for axis in (0, 1))
        canvas[row][column] = "·"


def svg(network: Network, size: int = 900) -> str:
    """Return the network as SVG. A tooltip shows the properties of each link; if there are few links, labels show them too.

    Args:
        network: the sites and links.
        size: the width in pixels.
    """
    span = size - 2 * _MARGIN
    at = {name: (_MARGIN + x * span, _MARGIN + y * span) for name, (x, y) in points(network).items()}
    height = round(max(y for _x, y in at.values())) + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{height}" viewBox="0 0 {size} {height}">',
        f"<style>{_STYLE}</style>",
    ]
    few = len(network.links) <= 30
    for start, end in network.links:
        (x1, y1), (x2, y2) = at[start], at[end]
        there, back = network.wires.get((start, end)), network.wires.get((end, start))
        said = " / ".join(dict.fromkeys(spell_wire(wire) for wire in (there, back) if wire is not None))
        title = f"<title>{escape(f'{start}:{end} {said}')}</title>"
        lines.append(f'<line class="link" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}">{title}</line>')
        if few:
            place = f'x="{(x1 + x2) / 2:.1f}" y="{(y1 + y2) / 2 - 4:.1f}"'
            lines.append(f'<text class="what" text-anchor="middle" {place}>{escape(said)}</text>')
    for node in network.nodes:
        x, y = at[node.name]
        kind = "site" if node.site else "router"
        lines.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{7 if node.site else 4}"/>')
        lines.append(f'<text x="{x + 10:.1f}" y="{y + 4:.1f}">{escape(node.name)}</text>')
    return "\n".join([*lines, "</svg>", ""])
