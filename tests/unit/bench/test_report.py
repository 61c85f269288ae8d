from pathlib import Path

import pytest

from atoll.bench.churn import ChurnOutcome
from atoll.bench.report import KEYS, ratios, rows

OURS = {"first_site_s": 10.0, "boot_one_s": 1.0, "boots_per_min": 60.0, "next_site_s": 4.0, "processes": 13, "samples": {}}
STANDARD = {"first_site_s": 40.0, "boot_one_s": 3.0, "boots_per_min": 0.0, "next_site_s": None, "processes": 39, "samples": {}}


def test_ratios_of_what_can_be_compared():
    assert ratios(OURS, STANDARD) == {"first_site_s": 0.25, "boot_one_s": 0.333}


def test_rows_leave_out_what_was_not_measured():
    table = rows(OURS | {"standard": STANDARD, "ratios": ratios(OURS, STANDARD)})
    assert [row[1:] for row in table] == [
        ("10.00", "40.00", "0.25"),
        ("4.00", "", ""),
        ("1.00", "3.00", "0.33"),
        ("60.00", "0.00", ""),
        ("13", "39", ""),
    ]


@pytest.mark.parametrize("name", [*(key.name for key in KEYS), "standard", "ratios", "samples", *ChurnOutcome().to_json()])
def test_every_key_is_documented(name):
    page = Path(__file__).parents[3] / "docs/reference/measurements.md"
    assert f"`{name}`" in page.read_text(encoding="utf-8")
