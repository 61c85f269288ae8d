"""A planted slow-down of 10 % is found, and equal runs stay quiet: on synthetic latencies of known distribution."""

import math
import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.errors import AtollError
from atoll.experiment.compare import Difference, Ratio, compare, describe, fisher, ratio
from atoll.experiment.student import student
from atoll.experiment.summary import Group
from atoll.experiment.variation import Common, common, design_effect, variation

TRIES = 20


def made(chance, slower=1.0, *, cells=5, samples=20, spread=0.1, between=0.0):
    """Return latencies around one second: log-normal, and different from cell to cell."""
    means = [slower * math.exp(chance.gauss(0, between)) for _ in range(cells)]
    return [[mean * math.exp(chance.gauss(0, spread)) for _ in range(samples)] for mean in means]


def busy(chance, slower=1.0, *, cells=10, samples=60, spread=0.15, between=0.015, kept=0.3, stalls=0.03):
    """Return latencies as a machine with other work gives them: each depends on the one before, and some stall; see `made`."""
    found = []
    for _ in range(cells):
        mean, drift, values = slower * math.exp(chance.gauss(0, between)), 0.0, []
        for _ in range(samples):
            drift = kept * drift + math.sqrt(1 - kept**2) * chance.gauss(0, spread)
            values.append(mean * math.exp(drift) * (chance.uniform(1.5, 4) if chance.random() < stalls else 1))
        found.append(values)
    return found


OPERATIONS = [(label, operation, "") for label in ("near", "far") for operation in ("boot", "delete", "list")]


def runs(chance, slow=1.0, cells=10):
    """Return the groups of two runs with the noise of a busy machine; the second run's boots are slower."""
    first = {key: group(busy(chance, cells=cells)) for key in OPERATIONS}
    return first, {key: group(busy(chance, slow if key[1] == "boot" else 1.0, cells=cells)) for key in OPERATIONS}


@pytest.mark.parametrize("number", range(TRIES))
def test_a_slow_down_of_10_percent_is_found_in_the_noise_of_a_busy_machine(number):
    first, second = runs(random.Random(f"slow and busy {number}"), 1.1)
    found = compare(first, second, 0.95)
    assert [each.ratio.low > 1 for each in found if each.operation == "boot"] == [True, True]


@pytest.mark.parametrize("number", range(TRIES))
def test_two_equal_runs_stay_quiet_in_the_noise_of_a_busy_machine(number):
    found = compare(*runs(random.Random(f"equal and busy {number}")))
    assert not [describe(each) for each in found if each.differs]


def test_the_level_holds_for_three_cells_in_the_noise_of_a_busy_machine():
    chance = random.Random(9)
    pairs = (runs(chance, cells=3) for _ in range(100))
    alarms = sum(any(each.differs for each in compare(first, second, 0.95)) for first, second in pairs)
    assert alarms <= 10, "5 are expected"


def group(latencies, failures=0):
    return Group({}, "boot", "", latencies, sum(map(len, latencies)) + failures, failures)


def found(first, second, confidence=0.99):
    (difference,) = compare({("x", "boot", ""): group(first)}, {("x", "boot", ""): group(second)}, confidence)
    return difference


@pytest.mark.parametrize("number", range(TRIES))
def test_a_slow_down_of_10_percent_is_found(number):
    chance = random.Random(f"slow {number}")
    difference = found(made(chance, between=0.01), made(chance, 1.1, between=0.01), 0.95)
    assert difference.ratio.low > 1
    assert difference.ratio.low <= 1.13
    assert difference.ratio.high >= 1.07
    assert difference.to_json()["words"].startswith("boot (x): ")
    assert " % slower (" in describe(difference)


@pytest.mark.parametrize("number", range(TRIES))
def test_two_equal_runs_stay_quiet(number):
    chance = random.Random(f"equal {number}")
    difference = found(made(chance, between=0.01), made(chance, between=0.01))
    assert not difference.differs, describe(difference)
    assert describe(difference) == "boot (x): no difference"


@pytest.mark.parametrize("between", [0.0, 0.03], ids=["equal cells", "cells that differ"])
def test_the_confidence_level_holds(between):
    chance = random.Random(3)
    alarms = sum(found(made(chance, samples=10, between=between), made(chance, samples=10, between=between)).differs for _ in range(300))
    assert alarms <= 300 * 0.03


def test_the_level_holds_for_all_groups_together():
    chance = random.Random(4)
    alarms = 0
    for _ in range(60):
        first, second = ({("x", str(number), ""): group(made(chance)) for number in range(8)} for _ in range(2))
        alarms += any(each.differs for each in compare(first, second))
    assert alarms <= 3


@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=12), st.lists(st.floats(0.01, 10), min_size=3, max_size=12))
def test_swapping_the_runs_inverts_the_ratio(first, second):
    there, back = ratio([first], [second], 0.9), ratio([second], [first], 0.9)
    assert there.estimate == pytest.approx(1 / back.estimate)
    assert there.low <= there.estimate * (1 + 1e-9)
    assert there.high >= there.estimate * (1 - 1e-9)
    if back.low > 0 and math.isfinite(back.high):
        assert there.high == pytest.approx(1 / back.low)
        assert there.low == pytest.approx(1 / back.high)


def test_few_samples_prove_nothing():
    assert ratio([[1.0, 1.1]], [[5.0, 5.1]], 0.99) == Ratio(pytest.approx(4.8, rel=0.02), 0.0, math.inf)
    assert not found([[1.0, 1.1]], [[5.0, 5.1]]).differs


def test_an_outlier_weighs_little():
    chance = random.Random(5)
    first, second = made(chance), made(chance)
    second[0][0] = 1000.0
    assert ratio(first, second, 0.99).estimate == pytest.approx(1, abs=0.05)


def test_many_samples_are_compared_in_part():
    chance = random.Random(6)
    first, second = made(chance, samples=2000), made(chance, 1.1, samples=2000)
    assert ratio(first, second, 0.99).estimate == pytest.approx(1.1, abs=0.01)


def test_cells_that_differ_widen_the_interval():
    chance = random.Random(7)
    assert design_effect([made(chance), made(chance)]) < 3
    assert design_effect([made(chance, between=0.3), made(chance, between=0.3)]) > 20
    assert design_effect([[[1.0, 2.0]], [[1.0]]]) == 1
    assert design_effect([[[1.0], [2.0]], [[3.0]]]) == 1


def test_all_groups_tell_of_the_variation_between_cells():
    chance = random.Random(10)
    several = [("x", variation([made(chance, cells=3, between=0.1), made(chance, cells=3, between=0.1)])) for _ in range(30)]
    told = common([(str(number), each) for number, (_label, each) in enumerate(several)])
    assert told.share == pytest.approx(1, rel=0.5), "both spreads are 10 %"
    assert told.freedom == 30 * 4
    assert common(several).freedom == 4, "operations of the same cells are not independent"
    lucky = min((each for _label, each in several), key=lambda each: each.effect)
    assert told.effect(lucky) > lucky.effect
    assert common([("x", variation([[[1.0, 2.0]], [[1.0, 2.0]]]))]) == Common(), "one cell for each run tells nothing"


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 4, 2.776),
        (0.995, 9, 3.250),
        (0.9999, 4, 13.034),
        (0.975, 0, 1.960),
        (0.975, 900, 1.960),
    ],
)
def test_quantiles_of_students_distribution(probability, freedom, expected):
    assert student(probability, freedom) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("counts", "expected"), [((0, 10, 0, 10), 1.0), ((0, 10, 10, 10), 2 / math.comb(20, 10)), ((1, 10, 11, 14), 0.00276)], ids=str
)
def test_fishers_test(counts, expected):
    assert fisher(*counts) == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 6), st.integers(0, 6))
def test_fishers_test_sums_all_tables(first, second):
    failures, tables = first + second, list(combinations(range(12), first + second))
    share = [sum(number < 6 for number in table) for table in tables]
    weight = {count: share.count(count) for count in set(share)}
    expected = sum(share_ for share_ in weight.values() if share_ <= weight[first]) / len(tables)
    assert failures <= 12
    assert fisher(first, 6, second, 6) == pytest.approx(expected)


def test_failures_are_told():
    latencies = made(random.Random(8))
    (difference,) = compare({("x", "boot", "compute"): group(latencies)}, {("x", "boot", "compute"): group(latencies, failures=30)})
    assert describe(difference) == "boot at compute sites (x): 0 of 100 failed, then 30 of 130"


def test_a_run_without_successes_has_no_ratio():
    (difference,) = compare({("x", "boot", ""): group([])}, {("x", "boot", ""): group([[1.0]])})
    assert difference == Difference("x", "boot", "", (None, 1.0), (0, 1), (0, 0), None, fails_otherwise=False)
    assert difference.to_json()["ratio"] is None


def test_runs_must_have_something_in_common():
    with pytest.raises(AtollError, match="no operation with the same factors in common"):
        compare({("x", "boot", ""): group([[1.0]])}, {("y", "boot", ""): group([[1.0]])})
