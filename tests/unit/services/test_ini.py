from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from atoll.services.ini import Repeated, render

LINE = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\n\r"), max_size=30)
ITEM = st.text(st.characters(exclude_categories=("Cc", "Cs", "Z"), exclude_characters=",\"'[]"), min_size=1, max_size=12)


def read(path: Path, text: str, option: cfg.Opt) -> Any:
    file = path / "x.conf"
    file.write_text(text, encoding="utf-8")
    conf = cfg.ConfigOpts()
    conf.register_opt(option, group="x")
    conf([], default_config_files=[str(file)])
    return conf.x.o


def round_trip(path: Path, option: cfg.Opt, value: Any) -> Any:
    return read(path, render({"x": {"o": value}}), option)


fast = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@fast
@given(LINE)
def test_text_comes_back(tmp_path, value):
    assert round_trip(tmp_path, cfg.StrOpt("o"), value) == value


def test_a_dollar_after_a_backslash_comes_back(tmp_path):
    for value in (r"\$", r"\\$x", "$$", r"a\$$b", "${o}"):
        assert round_trip(tmp_path, cfg.StrOpt("o"), value) == value


@fast
@given(st.lists(LINE, min_size=1, max_size=5))
def test_values_of_an_option_that_is_repeated_come_back(tmp_path, value):
    assert round_trip(tmp_path, cfg.MultiStrOpt("o"), Repeated(value)) == value


@fast
@given(st.lists(ITEM, min_size=1, max_size=5))
def test_list_comes_back(tmp_path, value):
    assert round_trip(tmp_path, cfg.ListOpt("o"), value) == value


@fast
@given(st.integers(-(2**62), 2**62) | st.booleans())
def test_number_and_boolean_come_back(tmp_path, value):
    option = cfg.BoolOpt("o") if isinstance(value, bool) else cfg.IntOpt("o")
    assert round_trip(tmp_path, option, value) is value or round_trip(tmp_path, option, value) == value


def test_dollar_is_not_a_reference(tmp_path):
    assert round_trip(tmp_path, cfg.StrOpt("o"), "a$b${c}$$") == "a$b${c}$$"
    assert round_trip(tmp_path, cfg.ListOpt("o"), ["$a", "b$"]) == ["$a", "b$"]


def test_later_part_adds_and_wins():
    text = render({"a": {"x": 1, "y": 2}}, {"b": {"z": True}, "a": {"y": 3}})
    assert text == "[a]\nx = 1\ny = 3\n\n[b]\nz = true\n"


def test_nothing_renders_to_nothing():
    assert render() == render({}) == ""
