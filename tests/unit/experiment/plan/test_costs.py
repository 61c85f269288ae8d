"""Costs from traces: the round trips and bytes of an operation whose client and nova-compute are at a compute site."""

import json

import pytest

from atoll.errors import AtollError
from atoll.experiment.plan.costs import Costs, costs, of_trace
from atoll.experiment.plan.document import PlannedOperation
from atoll.trace import formats
from atoll.trace.store import Span
from atoll.trace.tree import build

MS = 1_000_000
RPC = {"rpc.method": "x", "messaging.destination.name": "compute"}


class Recorded:
    """The spans of one trace, whose times are in milliseconds, and whose requests have 100 bytes and answers 50."""

    def __init__(self) -> None:
        self.spans = []

    def span(self, parent, start, end, kind, service="nova", **attributes):
        name = f"{len(self.spans) + 1:016x}"
        self.spans.append(Span("a" * 32, name, parent, kind, "x", service, "paris", start * MS, end * MS, None, 100, 50, attributes))
        return name

    def boot(self):
        """Record a request that casts to nova-compute, which calls Neutron twice, one call after the other."""
        api = self.span("", 0, 20, "server", "nova")
        cast = self.span(api, 10, 11, "producer", "nova")
        compute = self.span(cast, 12, 100, "server", "nova", **RPC)
        for start in (20, 60):
            call = self.span(compute, start, start + 30, "client", "nova")
            self.span(call, start + 1, start + 29, "server", "neutron")
        return build(self.spans)


def test_the_client_and_nova_compute_are_at_the_compute_site():
    # The client's request, half a round trip for the cast, and two calls
    assert of_trace(Recorded().boot()) == Costs(0.1, pytest.approx(0.5 + 0.5 + 2), 150 * 4)


def test_an_answer_comes_before_the_work_is_complete():
    told = of_trace(Recorded().boot(), complete=False)
    # The API waits until the cast is acknowledged
    assert (told.time_s, told.round_trips) == (0.02, 2)


def test_the_round_trips_of_the_recording_are_not_counted_twice():
    made = Recorded()
    api = made.span("", 0, 200, "server", "nova")
    for start in (0, 100):
        call = made.span(api, start, start + 90, "client", "nova")
        made.spans.append(
            made.spans[-1]._replace(
                span="9" * 15 + str(start // 100), parent=call, kind="server", site="lyon", start=(start + 20) * MS, end=(start + 70) * MS
            )
        )
    # Two calls to another site, 40 ms away, within 200 ms
    assert of_trace(build(made.spans)).time_s == 0.2
    assert of_trace(build(made.spans), recorded_rtt_s=0.04).time_s == pytest.approx(0.12)
    assert of_trace(build(made.spans), recorded_rtt_s=9.0).time_s == 0


def test_requests_of_one_client_follow_each_other():
    made = Recorded()
    for start in (0, 50):
        made.span("c" * 16, start, start + 40, "server", "keystone", **{"atoll.from_outside": True})
    trace = build(made.spans)
    assert of_trace(trace) == Costs(0.09, 2, 300)
    assert [node.span.site for node in trace.roots] == [""], "the trace itself is unchanged"


def test_a_trace_in_pieces_is_refused():
    made = Recorded()
    made.span("", 0, 10, "server")
    made.span("f" * 16, 5, 8, "server")
    with pytest.raises(AtollError, match="of operation boot has 2 roots: expected a whole trace"):
        costs("boot", PlannedOperation(trace="boot.json"), lambda _name: build(made.spans))


def test_a_plan_reads_a_trace_of_a_file(tmp_path):
    from click.testing import CliRunner

    from atoll.cli.group import cli

    (tmp_path / "boot.json").write_text(json.dumps(formats.to_otlp(Recorded().boot() and _spans())), encoding="utf-8")
    text = """\
sites: [{name: paris}, {name: lyon, kind: compute, load: {boot: 3600}}]
topology: {defaults: {delay: 50ms}}
operations: {boot: {trace: boot.json}}
footprints: {full: 540MB, compute: 160MB}
"""
    (tmp_path / "plan.yaml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["--state", str(tmp_path / "none"), "plan", str(tmp_path / "plan.yaml"), "--json"])
    assert done.exception is None, done.output
    (lyon,) = [site for site in json.loads(done.stdout)["sites"] if site["name"] == "lyon"]
    assert lyon["control"] == "paris"
    assert lyon["latency_s"]["boot"] == pytest.approx(0.1 + 3 * 0.1)
    assert lyon["wan_bytes_per_hour"] == 3600 * 600


def _spans():
    made = Recorded()
    made.boot()
    return made.spans
