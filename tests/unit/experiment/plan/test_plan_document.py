"""Files of plans: a wrong one is refused in one line with its place and the expected value."""

import os

import pytest
from planned_problems import PLAN
from refusals import refusal

from atoll.experiment.plan.costs import Costs
from atoll.experiment.plan.document import parse_plan, read_plan
from atoll.experiment.plan.problem import problem


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("memory: 2GB", "memory: 2", "plan.yaml:2: sites[0].memory: expected a size up to 1000TB, such as 2GB, got 2"),
        ("memory: 2GB", "memroy: 2GB", "plan.yaml:2: sites[0]: unknown key `memroy` (did you mean `memory`?)"),
        ("boot: 5", "boto: 5", "plan.yaml:3: sites[1].load.boto: no operation is called boto: expected one of boot"),
        ("boot: 5", "boot: -5", "plan.yaml:3: sites[1].load.boot: expected"),
        ("name: lyon", "name: paris", "plan.yaml:3: sites[1].name: a second site named paris"),
        ("name: lyon", "name: all", "plan.yaml:3: sites[1].name: the name all is reserved"),
        ("topology: {defaults: {delay: 5ms}}\n", "", "plan.yaml:1: topology: expected a topology"),
        ("delay: 5ms", "delay: 5", "plan.yaml:4: topology.defaults.delay: expected a duration"),
        ("time: 900ms, ", "", "plan.yaml:6: operations.boot: `time` is missing: expected `time`, `round_trips` and `bytes`, or a `trace`"),
        ("time: 900ms", "trace: a.json", "plan.yaml:6: operations.boot: `trace` is given beside `round_trips`: expected one of the two"),
        (
            "time: 900ms",
            "time: 900ms, recorded_rtt: 5ms",
            "plan.yaml:6: operations.boot: `recorded_rtt` is given without `trace`: expected both or neither",
        ),
        ("image: debian", "image: fedora", "plan.yaml:6: operations.boot.image: no image is called fedora: expected one of debian"),
        (
            "image: debian",
            "within: soon",
            "plan.yaml:6: operations.boot.within: expected a time from 0 to 24h, such as 3s, got the text 'soon'",
        ),
        ("{size: 400MB}", "3", "plan.yaml:7: images.debian: expected a mapping such as {size: 400MB}, got 3"),
        (
            "footprints",
            "budgets: {survive: 1.5}\nfootprints",
            "plan.yaml:8: budgets.survive: expected a whole number from 0 to 16, got 1.5",
        ),
        ("footprints", "mesh: unlimited\nfootprints", "plan.yaml:8: mesh: expected a rate from 1kbit to 30gbit, such as 2kbit"),
        ("footprints: {full: 540MB, compute: 160MB}\n", "", "plan.yaml:1: `footprints` is missing: expected a mapping such as"),
        ("footprints", "footprints: {}\nfootprints", "plan.yaml:9: the key `footprints` occurs twice in one mapping"),
        (
            "memory: 2GB",
            f"memory: {'9' * 400}GB",
            "plan.yaml:2: sites[0].memory: expected a size up to 1000TB, such as 2GB, got the text '999",
        ),
        (
            "memory: 2GB",
            f"memory: 0x{'f' * 6000}",
            "plan.yaml:2: sites[0].memory: expected a size up to 1000TB, such as 2GB, got a number of",
        ),
        (
            "memory: 2GB",
            f"memory: {'9' * 6000}",
            "plan.yaml:2: not YAML that describes a plan: Exceeds the limit (4300 digits) for integer",
        ),
        ("memory: 2GB", "memory: 2026-99-99", "plan.yaml:2: not YAML that describes a plan: "),
        (
            "memory: 2GB",
            "wan: 31gbit",
            "plan.yaml:2: sites[0].wan: expected a rate from 1kbit to 30gbit, such as 20mbit, or `unlimited`, got",
        ),
        ("memory: 2GB", f"0x{'f' * 6000}: 2", "plan.yaml:2: "),
        ("boot: {time", '"a\\nb": {tima', "plan.yaml:6: operations.a\\nb: unknown key `tima` (did you mean `time`?)"),
        ("boot: {time", '"a\\nb": {time', "plan.yaml:6: operations.a\\nb: expected a name of 1 to 255 characters that can be printed"),
        ("debian: {", '"": {', "plan.yaml:7: images.: expected a name of 1 to 255 characters that can be printed"),
        (PLAN, "", "plan.yaml:1: the file is empty: expected a mapping with `sites`"),
        (PLAN, "sites: []\nfootprints: {full: 5MB, compute: 5MB}", "plan.yaml:1: sites: expected a list of at least one site"),
    ],
    ids=lambda text: text[:80],
)
def test_a_wrong_file_is_refused_with_its_line(before, after, expected):
    assert before in PLAN
    assert refusal("plan.invalid", parse_plan, PLAN.replace(before, after), "plan.yaml").startswith(expected)


def test_a_file_that_is_missing_is_not_found(tmp_path):
    assert "no such file" in refusal("plan.not_found", read_plan, tmp_path / "plan.yaml")


def test_the_numbers_of_a_plan():
    text = PLAN.replace("delay: 5ms", "delay: 5ms, rate: 8mbit").replace("lyon, memory", "lyon, wan: 1mbit, memory")
    numbers = problem(parse_plan(text, "plan.yaml"), lambda _name: pytest.fail("no trace is needed"))
    assert numbers.names == ("paris", "lyon")
    assert numbers.rtt_s == ((0, 0.01), (0.01, 0))
    assert numbers.fetch_s(0, 0, 1) == pytest.approx(0.01 + 400e6 / 1e6)
    assert numbers.fetch_s(0, 1, 1) == 0
    assert numbers.demands[0].costs == Costs(0.9, 62, 400_000)
    assert numbers.memory == (2e9, 3e8)
    assert numbers.wan[1] == 1e6 / 8 * 3600
    assert numbers.control_bytes(1) == 5 * 400_000


def test_a_plan_of_one_site_needs_no_topology():
    numbers = problem(
        parse_plan("sites: [{name: paris}]\nfootprints: {full: 5MB, compute: 5MB}", "x"), lambda _name: pytest.fail("no trace is needed")
    )
    assert numbers.rtt_s == ((0.0,),)


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "plan.yaml")
    assert "plan.yaml: not a regular file: expected a file" in refusal("plan.invalid", read_plan, tmp_path / "plan.yaml")
