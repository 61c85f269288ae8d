"""The tutorial, chapter by chapter: each command runs, and writes what the page shows (`walk` has the rule)."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import Deployment
from walk import Shell, walk

from atoll.site.machine import obstacle
from atoll.site.state import default_cache

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial"
WALKS = {
    "first-site": ["first-site"],
    "three-sites": ["three-sites", "cut-and-heal"],
    "guests": ["three-sites", "guests", "cut-and-heal"],
    "another-machine": ["another-machine"],
}
LONG = ("three-sites", "guests", "another-machine")


@pytest.fixture
def shell() -> Iterator[Shell]:
    """A shell in a directory like the checkout, whose user has an empty home: state directories are in it."""
    home = Path(tempfile.mkdtemp(prefix="walk-", dir="/tmp"))  # paths of sockets are short
    checkout = home / "atoll"
    checkout.mkdir()
    for name in (".venv", "examples", "scripts"):
        (checkout / name).symlink_to(ROOT / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "ATOLL_", "XDG_"))}
    made = Shell(checkout, kept | {"HOME": str(home), "XDG_CACHE_HOME": str(default_cache().parent)})
    yield made
    made.close()
    for state in {path.parent for path in home.rglob("control.sock")}:
        Deployment(state).run("destroy", "--yes")
    shutil.rmtree(home)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in WALKS])
def test_chapters_do_what_they_say(name, shell):
    if name == "guests" and (why := obstacle()) is not None:
        pytest.skip(f"no guests here: {why.message}")
    for chapter in WALKS[name]:
        walk(TUTORIAL / f"{chapter}.md", shell)


def test_each_chapter_is_walked():
    chapters = {path.stem for path in TUTORIAL.glob("*.md")} - {"index"}
    assert chapters == {chapter for walked in WALKS.values() for chapter in walked}
