"""The list of excluded Tempest tests is well-formed; `make tempest` compares it with the tests themselves."""

import re
from pathlib import Path

import pytest
from exclusions import FEW, GENERAL, Exclusion, complaints, read_exclusions
from suites import SUITES, lines

TEMPEST = Path(__file__).parents[1] / "tempest"
TESTS = [f"tempest.api.compute.X.test_{number}" for number in range(10)]


@pytest.mark.parametrize("name", sorted({suite().excluded for suite in SUITES.values()}))
def test_every_exclusion_has_a_reason(name):
    exclusions = read_exclusions(TEMPEST / name)
    assert exclusions
    assert [exclusion.line for exclusion in exclusions if not exclusion.reason] == []


def test_scenarios_are_chosen_by_expressions():
    assert [line for line in lines("scenarios.txt") if re.compile(line).groups > 1] == []
    assert {line.split("\\.")[0] for line in lines("scenarios.txt")} == {"^tempest", "^neutron_tempest_plugin"}


def test_smoke_has_tests_of_each_kind():
    smoke = " ".join(lines("smoke.txt"))
    assert [kind for kind in ("compute", "identity", "image", "network") if f"api\\.{kind}\\." not in smoke] == []


@pytest.mark.parametrize("reason", GENERAL)
def test_general_reason_may_cover_any_number(reason):
    assert complaints([Exclusion(1, "X", f"{reason} do this")], TESTS) == []


@pytest.mark.parametrize(
    ("exclusions", "expected"),
    [
        ([Exclusion(1, r"test_[0-4]", "it needs this")], []),
        ([Exclusion(1, r"test_[0-4]", "it needs this"), Exclusion(2, "test_5", "it needs this")], ["6 tests are excluded for one reason"]),
        ([Exclusion(3, "test_11", "it needs this")], ["excluded.txt:3: matches no test"]),
        ([Exclusion(3, "test_1", "")], ["excluded.txt:3: no reason"]),
        (
            [Exclusion(1, "test_1", "a"), Exclusion(2, "test_[12]", "b")],
            ["excluded.txt:2: tempest.api.compute.X.test_1 is excluded"],
        ),
    ],
)
def test_complaints_about_a_list(exclusions, expected):
    found = complaints(exclusions, TESTS)
    assert len(found) == len(expected)
    assert all(part in text for part, text in zip(expected, found, strict=True))
    assert FEW == 5
