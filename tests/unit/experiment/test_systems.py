"""Message buses and hollow members as architectures: swept like clouds, and refused with what they do not have."""

from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.experiment.document import parse_experiment
from atoll.experiment.estimate import seconds
from atoll.experiment.run import create, load
from atoll.experiment.sweep import cells

BUS = """\
name: bus
repetitions: 1
architectures: [{kind: bus, sites: 3, transport: [zenoh, rabbit]}]
links: [{delay: [0ms, 10ms], loss: [0%, 1%]}]
workloads: {rpc: {operation: [call, fanout], clients: [10, 100]}}
"""
HOLLOW = """\
name: members
repetitions: 2
architectures: [{kind: hollow, sites: [10, 1000]}]
links: [{delay: [5ms, 10ms]}]
workloads: {membership: {idle_s: 30}}
"""


def made(text):
    return cells(parse_experiment(text, "x.yaml"), Path())


def test_buses_are_swept():
    found = made(BUS)
    assert len(found) == 2 * 4 * 4
    assert {cell.system for cell in found} == {"bus"}
    assert {(cell.factors["transport"], cell.rabbitmq) for cell in found} == {("zenoh", ""), ("rabbit", "site-1")}
    assert {cell.cloud["sites"][0]["host"] for cell in found} == {"10.77.1.1"}
    assert {cell.cloud["topology"]["constraints"][-1]["loss"] for cell in found} == {"0%", "1%"}
    assert {cell.database for cell in found} == {""}


def test_members_are_swept():
    found = made(HOLLOW)
    assert len(found) == 2 * 2 * 2
    assert {len(cell.cloud["sites"]) for cell in found} == {10, 1000}
    assert {cell.cloud["links"]["delay"] for cell in found} == {"5ms", "10ms"}
    assert {cell.system for cell in found} == {"hollow"}


@pytest.mark.parametrize("text", [BUS, HOLLOW])
def test_a_run_keeps_the_system_of_its_cells(tmp_path, text):
    run = create(tmp_path, {"name": "x", "seed": 0}, made(text))
    assert load(run.directory).cells == run.cells


def test_brokers_and_members_take_time():
    by_transport = {name: seconds(cell for cell in made(BUS) if cell.factors["transport"] == name) for name in ("zenoh", "rabbit")}
    assert by_transport["rabbit"] > by_transport["zenoh"] > 16 * 10
    by_size = {size: seconds(cell for cell in made(HOLLOW) if cell.factors["sites"] == size) for size in (10, 1000)}
    assert by_size[1000] > 10 * by_size[10]


@pytest.mark.parametrize(
    ("text", "old", "new", "line", "expected"),
    [
        (BUS, "[zenoh, rabbit]", "qpid", 3, "expected `zenoh`, `rabbit`, or a list of both"),
        (BUS, "kind: bus", "kind: cooperative", 3, "`transport` is given for `kind: cooperative`"),
        (BUS, "sites: 3", "sites: 65", 3, "65 sites: expected at most 64"),
        (BUS, "sites: 3", "sites: 3, traffic: stock", 3, "has no services of OpenStack: expected no `traffic`"),
        (BUS, "{kind: bus", "{kind: cooperative}, {kind: bus", 3, "`kind: bus` is no system like `kind: cooperative`"),
        (BUS, "rpc: {operation: [call, fanout], clients: [10, 100]}", "boot: {times: 1}", 5, "the workload boot needs a cloud"),
        (BUS, "rpc: {", "my-task: {rally: Authenticate.keystone}, rpc: {", 5, "the workload my-task needs a cloud"),
        (BUS, "operation: [call, fanout]", "operation: shout", 5, "expected `call`, `cast` or `fanout`"),
        (BUS, "clients: [10, 100]", "clients: 0", 5, "a whole number from 1"),
        (BUS, "clients: [10, 100]", "users: 3", 5, "rpc has no parameter users: expected one of operation"),
        (BUS, "workloads:", "databases: [sqlite]\nworkloads:", 5, "`kind: bus` has no databases"),
        (
            BUS,
            "workloads:",
            "faults: [{name: cut, steps: [{kind: cut, target: site-1, at: 1s}]}]\nworkloads:",
            5,
            "`kind: bus` can't have faults yet",
        ),
        (HOLLOW, "[10, 1000]", "5001", 3, "5001 sites: expected at most 5000"),
        (HOLLOW, "[10, 1000]", "[1, 10]", 3, "1 sites: expected at least 2"),
        (HOLLOW, "{delay: [5ms, 10ms]}", "{delay: 5ms, loss: 1%}", 4, "links of hollow members have only a delay: expected no `loss`"),
        (HOLLOW, "membership: {idle_s: 30}", "rpc: {}", 5, "the workload rpc needs `kind: bus`, not `kind: hollow`"),
        (HOLLOW, "idle_s: 30", "gateways: 10", 5, "10 gateways for 10 members: expected fewer gateways than members"),
        (HOLLOW, "kind: hollow, sites: [10, 1000]", "kind: cooperative", 5, "the workload membership needs `kind: hollow`"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text, old, new, line, expected):
    assert old in text
    with pytest.raises(AtollError) as raised:
        parse_experiment(text.replace(old, new), "x.yaml")
    assert raised.value.kind.code == "experiment.invalid"
    assert "\n" not in raised.value.message
    assert raised.value.message.startswith(f"x.yaml:{line}:"), raised.value.message
    assert expected in raised.value.message
