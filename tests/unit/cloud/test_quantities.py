import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cloud import quantities


@pytest.mark.parametrize(("text", "value"), [("25ms", 25), ("1.5 s", 1500), ("10us", 0.01), ("0ms", 0), ("60s", 60_000)])
def test_durations(text, value):
    assert quantities.milliseconds(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("10mbit", 10), ("1 Gbit/s", 1000), ("64kbit", 0.064), ("unlimited", None)])
def test_rates(text, value):
    assert quantities.megabits(text) == value


@pytest.mark.parametrize(("text", "value"), [("0%", 0), ("0.5 %", 0.005), ("100%", 1)])
def test_probabilities(text, value):
    assert quantities.probability(text) == value


@pytest.mark.parametrize("text", ["", "5", "ms", "-1ms", "1e3ms", "nanms", "5 minutes", "61s", "25ms "])
def test_malformed_durations_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic tells it with the field's description
        quantities.milliseconds(text)


@pytest.mark.parametrize("text", ["", "10", "0mbit", "10mb", "10mbyte", "-1mbit", "100gbit"])
def test_malformed_rates_are_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic adds the text
        quantities.megabits(text)


@given(st.integers(0, 60_000_000))
def test_a_spelled_duration_is_read_as_it_was(microseconds):
    value = microseconds / 1e3
    assert quantities.milliseconds(quantities.spell_ms(value)) == pytest.approx(value, rel=1e-5)


@given(st.floats(1e-3, 30_000))
def test_a_spelled_rate_is_read_as_it_was(value):
    assert quantities.megabits(quantities.spell_mbit(value)) == pytest.approx(value, rel=1e-5)
