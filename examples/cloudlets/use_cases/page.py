"""Parts of the pages: one HTML file with its style and its drawings (SVG), which loads nothing and runs no script."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from use_cases.cloud import Step

Row = Sequence[object]

_STYLE = """
:root { color-scheme: light; --ink: #1d2733; --pale: #5b6876; --line: #d9dfe6; --card: #fff; --ground: #f3f5f7; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 20px 16px 40px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 0 0 10px; }
p { margin: 0 0 10px; } .legend + p { margin: 10px 0 0; } .pale { color: var(--pale); }
.columns { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 16px; align-items: start; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin-top: 16px; }
.columns section { margin-top: 0; } .columns > div { display: grid; gap: 16px; } .columns { margin-top: 16px; }
svg { display: block; width: 100%; height: auto; } text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.figures { display: flex; flex-wrap: wrap; gap: 16px; margin-top: 16px; }
.figure { flex: 1 1 150px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.figure b { display: block; font-size: 22px; line-height: 1.3; } .figure span { color: var(--pale); }
table { border-collapse: collapse; width: 100%; font-size: 14px; } .scroll { overflow-x: auto; }
th { text-align: left; color: var(--pale); font-weight: 600; }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin-top: 10px; font-size: 13px; color: var(--pale); }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
@media (max-width: 800px) { .columns { grid-template-columns: minmax(0, 1fr); } main { padding: 12px 10px 30px; } }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: the title, as text.
        parts: the parts of the page below its title, as HTML.
    """
    width = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{width}<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = f"<main><h1>{escape(title)}</h1>{''.join(parts)}</main>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def section(title: str, *parts: str) -> str:
    """Return a titled box."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str) -> str:
    """Return a paragraph of explanation."""
    return f'<p class="pale">{escape(text)}</p>'


def figures(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a row of figures, each with its meaning."""
    return (
        '<div class="figures">'
        + "".join(f'<div class="figure"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in pairs)
        + "</div>"
    )


def table(head: Sequence[str], rows: Iterable[Row], numeric: Iterable[int] = ()) -> str:
    """Return a table.

    Args:
        head: the columns' titles.
        rows: the cells, which are escaped.
        numeric: the numbers of the columns that are aligned to the right.
    """
    right = frozenset(numeric)

    def line(kind: str, cells: Row) -> str:
        marked = (f"<{kind}{' class=n' if at in right else ''}>{escape(str(cell))}</{kind}>" for at, cell in enumerate(cells))
        return f"<tr>{''.join(marked)}</tr>"

    return f'<div class="scroll"><table>{line("th", head)}{"".join(line("td", row) for row in rows)}</table></div>'


def steps(done: Iterable[Step]) -> str:
    """Return a table of what the cloud did."""
    rows = [(step.what, step.outcome, "" if step.seconds is None else f"{step.seconds:.1f} s") for step in done]
    return table(("step", "outcome", "time"), rows, (2,)) if rows else paragraph("Nothing yet.")


def legend(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a legend of colours and their meanings."""
    return (
        '<div class="legend">'
        + "".join(f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for colour, name in pairs)
        + "</div>"
    )


def write(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
