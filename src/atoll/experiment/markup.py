"""Parts of the report's page as HTML: figures and tables."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape


def figure(svg: str, caption: str) -> str:
    """Return the HTML of an SVG picture with its caption."""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the HTML of a table; a title that begins with `#` marks a column of numbers, which is aligned to the right."""
    numeric = [title.startswith("#") for title in titles]
    kinds = [' class="n"' if number else "" for number in numeric]
    head = "".join(f"<th{kind}>{escape(title.removeprefix('#'))}</th>" for title, kind in zip(titles, kinds, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
