"""A cell of hollow members: its options are those of the file, and every result is an operation or a number."""

import pytest

from atoll.bench import hollow_cells
from atoll.bench.cells import Records, Work
from atoll.bench.hollow_cells import options_of, run_cell

WORK = Work(
    {"sites": [{"name": f"site-{number}"} for number in range(1, 7)], "links": {"delay": "5ms"}},
    "membership",
    {"gateways": 0, "settle_s": 1.0, "idle_s": 5.0, "cut_s": 5.0},
    11,
    system="hollow",
)


def test_options_are_those_of_the_file():
    options = options_of(WORK)
    assert (options.sites, options.gateways, options.settle_s, options.idle_s, options.cut_s) == (6, 0, 1.0, 5.0, 5.0)
    assert (options.delay_ms, options.seed) == (5.0, 11)
    assert options_of(Work({**WORK.cloud, "links": {}}, "membership", WORK.parameters, 1)).delay_ms == 0


def test_a_small_mesh_is_measured():
    samples, values = {}, {}
    records = Records(
        lambda *fields: samples.update({fields[0]: fields}), value=lambda name, unit, value: values.update({name: (value, unit)})
    )
    facts = run_cell(WORK, {}, records, lambda _text: None)
    assert set(samples) == {"converge", "reconnect", "death-known", "hub-converge"}
    assert all(fields[4] > 0 and fields[5] for fields in samples.values())
    value, unit = values["traffic that an idle member sends"]
    assert unit == "bit/s"
    assert value > 0
    assert values["traffic that an idle hub sends"][0] > values["traffic that an idle member of a hub sends"][0]
    assert values["of these, answered with 5xx or not at all"][0] == 0
    assert facts["cpu_s"] > 0


@pytest.mark.parametrize("missing", ["idle_cpu_percent", "neighbours"])
def test_a_number_that_was_not_measured_is_left_out(missing):
    found = dict.fromkeys((*hollow_cells._VALUES, *hollow_cells._OPERATIONS.values()), 1.0) | {missing: None}
    found["hub"] = {"converged_s": 1.0, "idle_out_bits_s": 1.0, "hub_out_bits_s": 1.0}
    values = []
    hollow_cells.record(found, "site-1", Records(lambda *_fields: None, value=lambda *fields: values.append(fields)))
    assert len(values) == len(hollow_cells._VALUES) - 1 + len(hollow_cells._HUB)
