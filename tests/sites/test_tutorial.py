"""The tutorial, chapter by chapter: each command runs, and its output is the one that the page shows; see `walk`."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from walk import walk

from atoll.bench.workspace import free_ports
from atoll.cloud import BASE_PORT
from atoll.site.machine import obstacle

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial"
WALKS = {
    "first-site": ["first-site"],
    "three-sites": ["three-sites", "cut-and-heal"],
    "guests": ["three-sites", "guests", "cut-and-heal"],
    "another-machine": ["another-machine"],
}
LONG = ("three-sites", "guests", "another-machine")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in WALKS])
def test_chapters_do_what_they_say(name, shell):
    if name == "first-site" and free_ports(1, first=BASE_PORT) != [BASE_PORT]:
        pytest.skip("another cloud of this machine, such as that of make demo, has the ports of the tutorial's site")
    if name == "guests" and (why := obstacle()) is not None:
        pytest.skip(f"no guests here: {why.message}")
    if name in ("three-sites", "guests") and os.geteuid() and find_spec("atoll.wan._datapath") is None:
        pytest.skip("no WAN can be emulated here: an ordinary user needs a C compiler at installation")
    for chapter in WALKS[name]:
        walk(TUTORIAL / f"{chapter}.md", shell)


def test_each_chapter_is_walked():
    chapters = {path.stem for path in TUTORIAL.glob("*.md")} - {"index"}
    assert chapters == {chapter for walked in WALKS.values() for chapter in walked}
