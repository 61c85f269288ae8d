"""scripts/words: the sentences that it counts, and those that it must not count."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LONG = " ".join(["word"] * 36)


@pytest.fixture(scope="module")
def words() -> ModuleType:
    loader = SourceFileLoader("words", str(ROOT / "scripts" / "words"))
    spec = spec_from_loader("words", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def code(words: ModuleType, source: str) -> list[tuple[str, int]]:
    """Return the kinds and lines of the findings in a Python module."""
    return [(finding.kind, finding.line) for finding in words.in_code("module.py", dedent(source))]


def page(words: ModuleType, source: str) -> list[tuple[str, int]]:
    """Return the kinds and lines of the findings in a page."""
    return [(finding.kind, finding.line) for finding in words.in_page("page.md", dedent(source))]


@pytest.mark.parametrize("first", ["What", "Who", "It", "That", "There"])
def test_vague_summaries_are_counted(words, first):
    assert code(words, f'"""{first} goes over the link."""') == [("vague", 1)]
    assert code(words, '"""Links of a site."""\nspeed = 1\n"""' + first + ' is a number."""') == [("vague", 3)]


@pytest.mark.parametrize("first", ["Itself", "Whoever", "Return what", "Theremin"])
def test_other_summaries_are_not_vague(words, first):
    assert code(words, f'"""{first} goes over the link."""') == []


def test_only_the_summary_is_looked_at_for_its_beginning(words):
    assert code(words, '"""Return the sites of a link.\n\nIt has two.\n"""') == []


def test_short_summaries_are_counted_except_those_of_attributes(words):
    assert code(words, '"""The three words - here."""') == []
    source = '''
        """The link's ends."""
        class Link:
            """A link - a, b."""
            ends = 2
            """Its ends."""
            def close(self):
                """Close."""
    '''
    assert code(words, source) == [("short", 2), ("short", 8)]


def test_long_sentences_are_counted_in_docstrings_and_comments(words):
    assert code(words, f'"""Return the sites of a link.\n\nFirst. {LONG}.\n"""') == [("long", 3)]
    assert code(words, f'def close():\n    """Close the link at once.\n\n    {LONG}\n    """\n') == [("long", 4)]
    assert code(words, f"# {LONG}\n") == [("long", 1)]
    half = " ".join(["word"] * 18)
    assert code(words, f"# {half}\n# {half}\n") == [("long", 1)]
    assert code(words, f"# {half}.\n# {half}\n") == []
    assert code(words, f"# {half}\n\n# {half}\n") == []
    assert code(words, f"one = 1  # {half}\ntwo = 2  # {half}\n") == [("long", 1)], "aligned comments must count as one"


def test_lists_and_code_in_docstrings_are_not_sentences(words):
    half = " ".join(["word"] * 30)
    assert code(words, f'"""Return the sites of a link.\n\n    {LONG}\n\n- {half}\n- {half}\n"""') == []


@pytest.mark.parametrize(
    ("parameter", "kinds"),
    [
        ("timeout: float", ["unitless"]),
        ("retry_interval: float | None", ["unitless"]),
        ("timeout_s: float", []),
        ("seconds: float", []),
        ("name: str", []),
        ("latency: Callable[[], float]", []),
        ("count: int", []),
        ("timeout", []),
    ],
)
def test_parameters_without_a_unit(words, parameter, kinds):
    assert [kind for kind, _ in code(words, f'def wait({parameter}):\n    """Wait for the site\'s answer."""\n')] == kinds
    assert code(words, f'def wait({parameter}):\n    """Wait as many seconds for the answer."""\n') == []
    assert code(words, f"def wait({parameter}): ...\n") == [], "an undocumented parameter must not count"


def test_attributes_without_a_unit(words):
    assert code(words, '"""Links of a site."""\nTIMEOUT = 3.0\n') == [("unitless", 2)]
    assert code(words, '"""Links of a site."""\nTIMEOUT = 3.0  # seconds\n') == []
    assert code(words, '"""Links of a site."""\nTIMEOUT = 3.0\n"""Seconds to wait for an answer."""\n') == []
    assert code(words, '"""Links of a site."""\nTIMEOUT = "3 s"\n') == []
    assert code(words, 'class Link:\n    """A link between two sites."""\n    delay: float\n') == [("unitless", 3)]
    assert code(words, 'class Link:\n    """A link between two sites; times are in ms."""\n    delay: float\n') == []


def test_pages(words):
    text = f"""\
        # What a site is

        A site. It has a gateway:

        ```sh
        {LONG}
        ```

        - There are sites.
        - {LONG}
          and more

        | who | That is a cell |
        |---|---|

            {LONG}

        {LONG}
        """
    assert sorted(page(words, text)) == [("long", 10), ("long", 18), ("vague", 1), ("vague", 9), ("vague", 13)]


def test_budget_is_neither_exceeded_nor_raised(words, tmp_path):
    counts = words.counted([words.Finding("code", "vague", "module.py", 1, "What is.")] * 3)
    assert counts["code"] == {"vague": 3, "short": 0, "long": 0, "unitless": 0}
    assert words.compare(counts, {"code": {"vague": 3}}, strict=True)[1]
    table, passes = words.compare(counts, {"code": {"vague": 2}}, strict=False)
    assert (passes, "too many" in table) == (False, True)
    table, passes = words.compare(counts, {"code": {"vague": 4}}, strict=False)
    assert (passes, "scripts/words --lower" in table) == (True, True)
    assert not words.compare(counts, {"code": {"vague": 4}}, strict=True)[1]
    lowered = words.lowered(counts, {"code": {"vague": 4}})
    assert lowered["code"]["vague"] == 3
    assert words.lowered(counts, {"code": {"vague": 2}})["code"]["vague"] == 2
    (tmp_path / "scripts").mkdir()
    words.write_budget(tmp_path, lowered)
    assert words.read_budget(tmp_path) == lowered


def test_all_code_and_pages_are_read(words, tmp_path):
    (tmp_path / "README.md").write_text("It is a cloud.\n")
    for name, text in {
        "src/atoll/a.py": '"""What is."""',
        "scripts/b": '#!/usr/bin/env python3\n"""What is said."""',
        "scripts/c": "#!/bin/sh\n# What\n",
        "docs/reference/generated.md": "What is generated.",
        "docs/deep/page.md": "What is a page.",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = [(finding.path, finding.kind) for finding in words.findings(tmp_path)]
    expected = [
        ("src/atoll/a.py", "vague"),
        ("src/atoll/a.py", "short"),
        ("scripts/b", "vague"),
        ("docs/deep/page.md", "vague"),
        ("README.md", "vague"),
    ]
    assert sorted(found) == sorted([*expected, ("scripts/b", "short")])
