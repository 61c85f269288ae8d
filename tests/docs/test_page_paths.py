"""Paths of source files and directories that pages name: each exists."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "atoll"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in ROOT.glob("docs/**/*.md") if path.parent.name != "upstream"),
]
"""All pages but those for upstream, which name upstream's files."""

UPSTREAM = frozenset({"impl_rabbit.py", "test_rabbitmq.py"})
"""Files of oslo.messaging."""

_SPAN = re.compile(r"`([\w./-]+)`")


@cache
def file_names() -> frozenset[str]:
    """Return the names of all files below the source and the tests."""
    return frozenset(path.name for top in (SOURCE, ROOT / "tests", ROOT / "scripts") for path in top.rglob("*") if path.is_file())


def packages() -> frozenset[str]:
    """Return the names of the top-level packages."""
    return frozenset(path.name for path in SOURCE.iterdir() if path.is_dir())


def exists(name: str) -> bool:
    """Tell if a path, relative to the package or to the checkout, or a mere name of a file exists."""
    if "/" not in name:
        return name in file_names() or name in UPSTREAM or (ROOT / name).exists()
    return (SOURCE / name).exists() or (ROOT / name).exists()


def named(text: str) -> Iterator[str]:
    """Yield the paths of source files and directories in the code spans of a page."""
    for name in _SPAN.findall(text):
        first = name.partition("/")[0]
        file = name.endswith((".py", ".c")) and not name.startswith(("/", "."))
        directory = "/" in name and "." not in name and first in packages() - {"cloud", "site"}
        if file or directory or name.startswith(("src/", "tests/", "scripts/")):
            yield name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_exist(page):
    assert [name for name in named(page.read_text(encoding="utf-8")) if not exists(name)] == []


def test_paths_are_found():
    found = list(named("`bus/nothing.py`, `nothing.py`, `gateway/nothing`, `tests/nothing`, `/etc/resolv.conf`, `paris/gateway`, `a.md`"))
    assert found == ["bus/nothing.py", "nothing.py", "gateway/nothing", "tests/nothing"]
    assert not any(exists(name) for name in found)
    assert exists("bus/driver.py")
