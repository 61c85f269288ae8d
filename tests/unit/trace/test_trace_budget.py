"""Counts of control traffic, and their budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_trace_analysis import Maker

from atoll.trace.budget import Budget, least, written
from atoll.trace.counts import Counts, count

COUNTS = Counts({"nova-api -> neutron": 1}, {"nova-api -> nova-conductor": 1}, {"neutron": 20}, 3, 1000)

BUDGET = """
boot:
  http: {nova-api -> neutron: 1}
  rpc: {nova-api -> nova-conductor: 1}
  sql: {neutron: 18}
  commits: 3
  bytes: 1000
slack:
  boot:
    sql neutron: {more: 2, why: a refused address is tried again}
  "*":
    bytes: {more: 2%, why: the length of tokens differs}
"""


@pytest.fixture
def budget(tmp_path) -> Budget:
    path = tmp_path / "budget.yaml"
    path.write_text(BUDGET)
    return Budget.read(path)


@pytest.mark.parametrize(
    ("grown", "text"),
    [
        ({"http": {"nova-api -> neutron": 2}}, "boot: 2 HTTP calls from nova-api -> neutron, the budget is 1"),
        ({"http": {"nova-api -> neutron": 1, "a -> b": 1}}, "boot: 1 HTTP calls from a -> b, the budget is 0"),
        ({"rpc": {"nova-api -> nova-conductor": 2}}, "boot: 2 messages from nova-api -> nova-conductor, the budget is 1"),
        ({"sql": {"neutron": 21}}, "boot: 21 statements of neutron, the budget is 20"),
        ({"commits": 4}, "boot: 4 commits, the budget is 3"),
        ({"bytes": 1021}, "boot: 1021 bytes, the budget is 1020"),
    ],
    ids=["http", "new pair", "rpc", "sql", "commits", "bytes"],
)
def test_a_grown_count_is_an_excess(budget, grown, text):
    assert budget.excesses("boot", COUNTS) == []
    assert [str(each) for each in budget.excesses("boot", replace(COUNTS, **grown))] == [text]


def test_an_operation_without_a_budget_may_cause_nothing(budget):
    assert len(budget.excesses("attach", COUNTS)) == 5


def test_a_lower_count_is_not_an_excess(budget):
    assert budget.excesses("boot", Counts({}, {}, {}, 0, 0)) == []


def test_slack_needs_a_reason(tmp_path):
    path = tmp_path / "budget.yaml"
    path.write_text("slack: {boot: {bytes: {more: 2}}}\n")
    with pytest.raises(ValueError, match="slack boot: bytes: expected the reason"):
        Budget.read(path)


def test_a_written_budget_allows_exactly_its_counts(tmp_path):
    path = tmp_path / "budget.yaml"
    path.write_text(written({"boot": COUNTS}))
    assert Budget.read(path).excesses("boot", COUNTS) == []
    assert len(Budget.read(path).excesses("boot", replace(COUNTS, bytes=1001))) == 1


def test_the_least_of_several_rounds_is_taken():
    """The first round had to ask Keystone, because a cache had lapsed."""
    cold = replace(COUNTS, http={"nova-api -> neutron": 1, "neutron -> keystone": 1}, sql={"neutron": 20, "keystone": 9}, bytes=3000)
    assert least([cold, COUNTS]) == COUNTS


def test_calls_are_counted_where_they_are_answered():
    """The gateway of the control site passes on what a compute site asks; its work for a client is not control traffic."""
    make = Maker()
    entered = make.span("", 0, 100, "server", "POST /compute/servers", "gateway", "paris", **{"http.request.method": "POST"})
    api = make.call(entered, 1, 98, "POST /servers", service="gateway", to="nova-api")
    sql = {"db.system.name": "sqlite", "db.namespace": "nova_api.db"}
    make.span(api, 2, 1, "client", "SELECT flavors", "nova-api", **sql)
    make.span(api, 4, 1, "client", "COMMIT", "nova-api", "paris", **{"db.system.name": "sqlite"})
    cast = make.span(api, 5, 1, "producer", "compute build", "nova-api", "paris", **{"messaging.destination.name": "compute"})
    build = make.span(
        cast, 6, 50, "server", "compute build", "nova-compute", "edge", **{"messaging.destination.name": "compute", "rpc.method": "build"}
    )
    gateway = make.call(build, 10, 20, "POST /network/ports", service="nova-compute", site="edge", to="gateway", at="paris")
    make.call(gateway, 12, 10, "POST /ports", service="gateway", to="neutron")
    found = count([make.trace])
    assert found.http == {"nova-compute -> neutron": 1}
    assert found.to("neutron") == found.totals["neutron_calls"] == 1
    assert found.rpc == {"nova-api -> nova-compute": 1}
    assert (found.sql, found.commits) == ({"nova-api": 1}, 1)
    assert found.bytes == 60
