"""The report's sections about time and resources: time-lines, and the totals of links, processors and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from atoll.experiment import timeline_plots
from atoll.experiment.markup import figure, table
from atoll.experiment.resource_plots import totals
from atoll.experiment.resources import Link, Use, uses
from atoll.experiment.run import Run
from atoll.experiment.summary import natural, short_names
from atoll.experiment.sweep import Cell
from atoll.experiment.timeline_plots import Recorded

MOST_TIMELINES = 12
"""Greatest number of time-lines on a page, so that the page of a large sweep stays small enough for a browser."""

MOST_BARS = 24
"""Greatest number of combinations in one plot of totals."""

_LINKS = ("Combination", "Link", "#MB", "#Packets", "#Dropped", "#kB for each served operation")
_SITES = ("Combination", "Site", "#Processor seconds", "#Cores", "#Largest memory, MB")
"""The titles of the tables."""

MOST_LINKS = 8
"""Greatest number of a combination's links that the page lists one by one; the busiest ones are chosen."""


def timelines(run: Run) -> Iterator[str]:
    """Yield the HTML with time-lines: one cell of each combination of factors, those with faults first."""
    states = run.states()
    first: dict[str, Cell] = {}
    for cell in sorted(run.cells, key=lambda cell: (natural(cell.label), cell.repetition)):
        if states[cell.id].state == "done":
            first.setdefault(cell.label, cell)
    chosen = sorted(first.values(), key=lambda cell: not cell.faults)[:MOST_TIMELINES]
    shown = [(cell, recorded) for cell in chosen if (recorded := _recorded(run, cell)).has_times]
    if not shown:
        return
    yield "<h2>Over time</h2>"
    yield "<p>Each picture is one cell; bars mark its faults. A packet counts on each link that it takes, in the direction of travel.</p>"
    if len(first) > len(chosen):
        yield f"<p>{len(chosen)} of {len(first)} combinations are shown; the exported data have all of them.</p>"
    for cell, recorded in shown:
        # The label is in the caption, which wraps, and not in the picture, where a long one would be cut off.
        yield figure(timeline_plots.timeline(f"cell {cell.id}", recorded), f"Time-line: {cell.label}, repetition {cell.repetition}")


def _recorded(run: Run, cell: Cell) -> Recorded:
    return Recorded(run.samples(cell), run.faults(cell), run.usage(cell), run.traffic(cell))


def resources(run: Run) -> Iterator[str]:
    """Yield the HTML with the totals of links, processors and memory; nothing if no finished cell has readings."""
    found = uses(run)
    if not found:
        return
    labels = {use.label for use in found}
    names = short_names([cell for cell in run.cells if cell.label in labels])
    yield "<h2>Traffic and resources</h2>"
    yield from _remarks(run, found)
    linked = [use for use in found if use.links]
    for start in range(0, len(linked) if len(linked) > 1 else 0, MOST_BARS):
        part = linked[start : start + MOST_BARS]
        rows = [(names[use.label], use.bytes / 1e6, use.packets) for use in part]
        yield figure(totals(rows), "Traffic of all links in a cell, on average")
    if linked:
        yield "<h3>Links</h3>"
        yield "<p>Numbers are means over the cells of a combination. A packet over two links counts twice.</p>"
        yield table(_LINKS, [row for use in linked for row in _links(use, names[use.label])])
    yield "<h3>Processors and memory of sites</h3>"
    yield table(_SITES, [row for use in found for row in _sites(use, names[use.label])])


def _remarks(run: Run, found: Sequence[Use]) -> Iterator[str]:
    facts = [state.facts for state in run.states().values() if "sampled_every_s" in state.facts]
    shares = [share for use in found for share in use.sampler_shares]
    yield "<p>The numbers cover the measured operations, not the start of the cloud.</p>"
    if facts and shares:
        every = sorted({float(each["sampled_every_s"]) for each in facts})
        told = " and ".join(f"{each:g}" for each in every)
        yield (
            f"<p>Readings were taken every {told} s, those of memory less often. The sampler itself used {100 * fmean(shares):.1f} %"
            f" of a core on average, at most {100 * max(shares):.1f} %.</p>"
        )


def _links(use: Use, name: str) -> Iterator[list[str]]:
    ordered = sorted(use.links, key=use.bytes_of, reverse=True)
    for link in ordered[:MOST_LINKS]:
        yield [name, " to ".join(link), *_traffic(use, [link])]
    if len(ordered) > MOST_LINKS:
        yield [name, f"{len(ordered) - MOST_LINKS} other directions", *_traffic(use, ordered[MOST_LINKS:])]
    yield [name, "all links", *_traffic(use, ordered)]


def _traffic(use: Use, links: Sequence[Link]) -> list[str]:
    size, packets = sum(map(use.bytes_of, links)), sum(map(use.packets_of, links))
    dropped = sum(fmean(each.dropped for each in use.links[link]) for link in links)
    operations = use.operations / use.cells
    return [f"{size / 1e6:.3g}", f"{packets:.0f}", f"{dropped:.0f}", f"{size / 1e3 / operations:.3g}" if operations else ""]


def _sites(use: Use, name: str) -> Iterator[list[str]]:
    for site, totals_of_cells in use.sites.items():
        cpu_s, seconds = fmean(each.cpu_s for each in totals_of_cells), fmean(each.seconds for each in totals_of_cells)
        peaks = [each.peak_mb for each in totals_of_cells if each.peak_mb is not None]
        yield [name, site, f"{cpu_s:.2f}", f"{cpu_s / seconds:.3f}" if seconds else "", f"{max(peaks):.0f}" if peaks else ""]
