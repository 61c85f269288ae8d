"""Links in README, CONTRIBUTING, CHANGELOG and docs: each leads to a file that exists, and to a heading of it where it names one.

`make docs` also refuses pages that are not in the site's navigation.
"""

import itertools
import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@cache
def headings(path: Path) -> frozenset[str]:
    """Return the names under which a page's headings are linked, as code forges and the site make them."""
    tokens = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    titles = [after for before, after in itertools.pairwise(tokens) if before.type == "heading_open"]
    texts = ["".join(child.content for child in title.children or []) for title in titles]
    names: Counter[str] = Counter()
    found = set()
    for text in texts:
        name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(f"{name}-{names[name]}" if names[name] else name)
        names[name] += 1
    return frozenset(found)


def targets(path: Path) -> list[str]:
    """Return the addresses of a page's links and images."""
    tokens = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    children = [child for token in tokens for child in token.children or []]
    return [str(child.attrs[name]) for child in children for name in ("href", "src") if name in child.attrs]


def broken(path: Path) -> list[str]:
    """Return the links within the checkout that lead nowhere."""
    found = []
    for target in targets(path):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        to = path.parent / unquote(parts.path) if parts.path else path
        anchored = not parts.fragment or (to.suffix == ".md" and to.is_file() and unquote(parts.fragment) in headings(to))
        if not to.exists() or not anchored:
            found.append(target)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert broken(path) == []


def test_the_pages_have_links():
    assert sum(len(targets(path)) for path in PAGES) > 100
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {path.name for path in PAGES}


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](other.md)", []),
        ("[a](other.md#the-second-one)", []),
        ("[a](other.md#again-1)", []),
        ("[a](#here)", []),
        ("[a](https://example.org/#x) ![a](picture.svg)", []),
        ("| t |\n|---|\n| [a](nowhere.md) |", ["nowhere.md"]),
        ("[a](other.md#third)", ["other.md#third"]),
        ("[a](#there)", ["#there"]),
        ("![a](none.svg)", ["none.svg"]),
        ("[a]: nowhere.md\n\n[b][a]", ["nowhere.md"]),
        ("`[a](nowhere.md)`", []),
    ],
)
def test_link_that_leads_nowhere_is_found(tmp_path, link, expected):
    (tmp_path / "other.md").write_text("# First\n\n## The *second* `one`!\n\n## Again\n\n## Again\n", encoding="utf-8")
    (tmp_path / "picture.svg").touch()
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{link}\n", encoding="utf-8")
    assert broken(page) == expected
