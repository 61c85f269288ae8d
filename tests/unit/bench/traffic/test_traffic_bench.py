"""`atoll bench traffic`: figures, requests and options."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from atoll.bench import workload
from atoll.bench.api import Answer
from atoll.bench.traffic import experiment, figures, periodic, predictions
from atoll.bench.traffic.operations import SETTLE_S, Actor, TracedOperation
from atoll.cli import bench_traffic
from atoll.errors import AtollError


@given(trips=st.integers(0, 80), base=st.floats(0, 5000), rtts=st.sets(st.integers(0, 300), min_size=2, max_size=8))
def test_the_slope_of_latency_over_round_trips_is_their_number(trips, base, rtts):
    assert figures.slope([(rtt, base + trips * rtt) for rtt in rtts]) == pytest.approx(trips, abs=0.01)


def test_one_round_trip_has_no_slope():
    assert figures.slope([(100.0, 1.0), (100.0, 2.0)]) is None
    assert figures.slope([]) is None


def test_ratios_are_of_figures_that_both_have():
    assert figures.ratios({"rpc_messages": 5, "wall_s": 1.0, "commits": 3}, {"rpc_messages": 10, "commits": 0}) == {"rpc_messages": 0.5}
    assert figures.ratios({"neutron_calls": 0}, {"neutron_calls": 7}) == {"neutron_calls": 0.0}, "a figure of 0 is one"


def test_errors_of_predictions_are_of_the_measured_time():
    assert (figures.error_percent(110, 100), figures.error_percent(95, 100)) == (10.0, -5.0)


class Api:
    """A double of a cloud's API: servers are ACTIVE at the second look, and gone at the second."""

    def __init__(self, status=200, fault=None):
        self.status, self.fault, self.sent, self.looks = status, fault, [], 0

    def call(self, service, method, path, body=None, headers=None):
        self.sent.append((method, path, headers["traceparent"].split("-")))
        if method == "GET" and path == "/servers/s":
            self.looks += 1
            deleted = any(sent[0] == "DELETE" for sent in self.sent)
            server = {"name": "x", "status": "ERROR" if self.fault else "ACTIVE" if self.looks % 2 == 0 else "BUILD", "fault": self.fault}
            return Answer(404 if deleted and self.looks % 2 == 0 else 200, {"server": server}, {})
        if path == "/v2.0/ports":
            return Answer(self.status, {"port": {"id": "p"}}, {})
        body = {"server": {"id": "s"}, "interfaceAttachment": {"port_id": "p2"}}
        return Answer(self.status, body, {})


def actor(api) -> Actor:
    return Actor(api, SimpleNamespace(), workload.Tenancy("image", "flavor", "network"), "second")


def test_only_the_operation_itself_is_recorded():
    api = Api()
    made = actor(api)
    boot, delete = made.boot("edge"), made.delete()
    recorded = {trace: (method, path) for method, path, (_version, trace, _span, flags) in api.sent if flags == "01"}
    assert recorded == {boot.trace: ("POST", "/servers"), delete.trace: ("DELETE", "/servers/s")}
    assert len({trace for _method, _path, (_version, trace, _span, _flags) in api.sent}) == len(api.sent), (
        "each request has a trace of its own"
    )
    assert (boot.wall_s > 0, made.server) == (True, "")


def test_a_boot_on_a_port_uses_an_existing_one():
    made = actor(Api())
    assert made.boot_on_port("edge").operation == "boot on a port"


def test_attach_and_event_concern_one_port():
    api = Api()
    made = actor(api)
    made.server = "s"
    made.attach()
    made.event()
    assert api.sent[-1][:2] == ("PUT", "/v2.0/ports/p2")


@pytest.mark.parametrize("act", ["boot", "boot_on_port"])
def test_a_refused_request_is_not_a_result(act):
    with pytest.raises(AtollError, match="HTTP 409"):
        getattr(actor(Api(status=409)), act)("edge")


def test_a_server_that_fails_is_not_a_result():
    with pytest.raises(AtollError, match="went to ERROR: no disk"):
        actor(Api(fault={"message": "no disk"})).boot("edge")


def test_processor_time_is_that_beyond_the_idle_clouds(monkeypatch):
    monkeypatch.setattr(
        "atoll.bench.traffic.operations.time", SimpleNamespace(monotonic=iter([10.0, 20.0]).__next__, sleep=lambda _s: None)
    )
    made = actor(Api())
    made.idle, made.processor_s = 0.1, iter([50.0, 53.0]).__next__
    assert made.costed(lambda: TracedOperation("show", "t", 0.1)).cpu_s == pytest.approx(2.0)


def test_boot_and_delete_together_are_added_before_the_slope():
    def samples(ms):
        return {name: [TracedOperation(name, "t", ms / 1000)] for name in ("boot", "delete")}

    found = experiment._over_rtts({0: samples(500), 100: samples(900)}, ["boot", "delete"])
    assert found == {"by_rtt_s": {"0": 1.0, "100": 1.8}, "round_trips": 8.0}


def test_predictions_are_compared_with_runs(monkeypatch):
    """A model that is right about everything but 10 ms."""
    traces = {f"{name}-{rtt}": (name, rtt) for name in predictions.UNTIL for rtt in (0, 100)}
    real = {0: 500.0, 100: 900.0}

    def predict(trace, rtt_ms, recorded_rtt_ms, until):
        name, recorded = trace
        assert (recorded, until) == (recorded_rtt_ms, predictions.UNTIL[name])
        time, predicted = real[recorded], real[rtt_ms] + 9
        return SimpleNamespace(
            complete_ms=time, answered_ms=time, predicted_complete_ms=predicted, predicted_answered_ms=predicted,
            round_trips_complete=4.0, round_trips_answered=4.0,
        )  # fmt: skip

    monkeypatch.setattr(predictions, "predict", predict)
    monkeypatch.setattr(predictions, "crossings", lambda _trace: [101.0, 103.0])
    found = {rtt: {name: [TracedOperation(name, f"{name}-{rtt}", 1.0)] for name in predictions.UNTIL} for rtt in (0, 100)}
    told = predictions.check(SimpleNamespace(name="stock", trace=lambda sample: traces[sample.trace]), found)
    assert [(each["operation"], each["rtt_ms"], each["error_percent"]) for each in told] == [(name, 100, 1.0) for name in predictions.UNTIL]
    assert told[0] == {
        "traffic": "stock", "operation": "boot", "rtt_ms": 100, "predicted_ms": 909.0, "measured_ms": 900.0, "error_percent": 1.0,
        "round_trips": 4.0, "measured_round_trips": 4.0, "base_work_ms": 509.0, "measured_work_ms": 500.0,
        "same_work_error_percent": 0.0, "crossing_ms": 102.0,
    }  # fmt: skip


def test_a_crossing_takes_what_its_work_does_not():
    def node(kind, site, ms, *children):
        return SimpleNamespace(span=SimpleNamespace(kind=kind, site=site, start=0, end=ms * 1_000_000), children=children)

    near, far = node("client", "a", 9, node("server", "a", 5)), node("client", "a", 130, node("server", "b", 25))
    cast = node("producer", "a", 90, node("server", "b", 400))
    assert predictions.crossings(SimpleNamespace(walk=lambda: [near, far, cast])) == [105.0]


@pytest.mark.parametrize("text", ["", "x", "0,0", "-1", "20,abc"])
def test_round_trips_that_are_none_are_refused(text):
    with pytest.raises(click.BadParameter, match="expected different numbers separated by commas"):
        bench_traffic._numbers(text, "--rtt", 0)


def test_numbers_are_put_in_order():
    assert bench_traffic._numbers("100,0,20ms", "--rtt", 0) == (0.0, 20.0, 100.0)


REPORT = {
    "operations": {"boot": {"stock": {"neutron_calls": 14, "cpu_s": 1.5}, "reduced": {"neutron_calls": 2, "cpu_s": 0.75}, "ratios": {}}},
    "far": {"boot": {"stock": {"round_trips": 40.0}, "reduced": {"round_trips": 15.5}, "ratios": {}}},
    "periodic": {"10": {"stock": {"placement_calls": 12}, "reduced": {"placement_calls": 2}, "ratios": {}}},
    "crowded": {"10": {"reduced": {"placement_calls": 2, "sql_statements": 117}}},
    "whatif": [
        {"traffic": "stock", "operation": "boot", "rtt_ms": 100.0, "predicted_ms": 990.0, "measured_ms": 1000.0, "error_percent": -1.0}
    ],
}


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_the_last_line_is_the_report_or_a_table_is_shown(monkeypatch, arguments):
    monkeypatch.setattr(experiment, "run", lambda options, *_: REPORT | {"options": options.rtts_ms})
    done = CliRunner().invoke(bench_traffic.traffic, ["--rtt", "0,100", *arguments], obj=None)
    assert done.exit_code == 0, done.output
    if arguments:
        assert json.loads(done.stdout.splitlines()[-1]) == REPORT | {"options": [0.0, 100.0]}
    else:
        assert "14 -> 2" in done.stdout
        assert "update of a host with 10 guests" in done.stdout
        assert re.search(r"boot on a host with 10 guests.* 117 ", done.stdout), "the only variant that was measured"
        assert "predicted 990 ms, measured 1000 ms (-1.0 %)" in done.stdout


def test_the_update_of_the_compute_sites_host_is_found_with_each_manager(monkeypatch):
    """The subclass that reduces traffic has another name than upstream's manager, and the span has the name of the class."""
    spans = {
        "old": ("periodic ComputeManager.update_available_resource", "edge", 1),
        "control": ("periodic ComputeManager.update_available_resource", "control", 5),
        "other": ("periodic BatchingManager.update_available_resources", "edge", 5),
        "wanted": ("periodic BatchingManager.update_available_resource", "edge", 5),
    }
    summaries = [SimpleNamespace(trace=trace, start=start) for trace, (_name, _site, start) in spans.items()]
    monkeypatch.setattr(periodic.traces, "summaries", lambda _state, _limit: summaries)
    made = {
        each: SimpleNamespace(roots=[SimpleNamespace(span=SimpleNamespace(name=name, site=site))])
        for each, (name, site, _start) in spans.items()
    }
    monkeypatch.setattr(periodic.traces, "find", lambda _state, trace: (made[trace], []))
    assert periodic._update(actor(Api()), 3) is made["wanted"]
    assert periodic._update(actor(Api()), 5) is None


def test_an_operation_at_the_compute_site_waits_for_the_consequences_of_the_one_before(monkeypatch):
    done = []
    monkeypatch.setattr(experiment, "time", SimpleNamespace(sleep=done.append))
    acts = {name: lambda *_host, name=name: done.append(name) or name for name in ("boot", "attach", "delete")}
    assert experiment._on_edge(SimpleNamespace(**acts)) == ["boot", "attach", "delete"]
    assert done == ["boot", SETTLE_S, "attach", SETTLE_S, "delete", SETTLE_S]


class Cloud:
    """A double of a cloud whose servers become ACTIVE at the next look."""

    project = "p"

    def __init__(self, status="ACTIVE", refuse=False):
        self.servers, self.status, self.refuse, self.changed = [], status, refuse, {}

    def call(self, service, method, path, body=None, headers=None):
        if method == "POST":
            self.servers += [] if self.refuse else [body["server"]]
            return Answer(403 if self.refuse else 202, {"forbidden": {"message": "Quota exceeded"}}, {})
        assert path.startswith("/servers?limit=1000"), "without details"
        _query, _, status = path.partition("status=")
        return Answer(200, {"servers": [{}] * len(self.servers) if status in ("", self.status) else []}, {})

    def expect(self, service, method, path, body):
        self.changed[service, method, path] = body


def filled(api, guests):
    periodic.fill(actor(api), guests)


def test_guests_are_added_until_there_are_enough():
    api = Cloud()
    filled(api, 3)
    filled(api, 5)
    assert sorted(each["name"] for each in api.servers) == [f"guest-{number}" for number in range(5)]
    assert {each["host"] for each in api.servers} == {"edge"}


def test_a_guest_that_fails_or_is_refused_is_an_error():
    with pytest.raises(AtollError, match="3 of 3 guests went to ERROR"):
        filled(Cloud("ERROR"), 3)
    with pytest.raises(AtollError, match=r"guest 0: HTTP 403.*Quota exceeded"):
        filled(Cloud(refuse=True), 1)


def test_quotas_allow_more_servers_than_the_defaults():
    api = Cloud()
    workload.allow(api, 1000)
    compute = api.changed["compute", "PUT", "/os-quota-sets/p"]["quota_set"]
    assert min(compute["instances"], compute["cores"]) >= 1200
    assert compute["ram"] > 1000 * 64
    assert api.changed["network", "PUT", "/v2.0/quotas/p"] == {"quota": {"port": 3000}}


def test_figures_of_one_variant_have_no_ratios():
    figures = {"wall_s": 1.0}
    assert experiment._compared({"reduced": figures}) == {"reduced": figures}
    assert experiment._compared({"reduced": figures, "stock": figures})["ratios"] == {"wall_s": 1.0}


@pytest.mark.parametrize(("chosen", "expected"), [("both", ("stock", "reduced")), ("reduced", ("reduced",))])
def test_one_of_the_clouds_can_be_measured_alone(monkeypatch, chosen, expected):
    options = []
    monkeypatch.setattr(experiment, "run", lambda made, *_: options.append(made) or REPORT)
    assert CliRunner().invoke(bench_traffic.traffic, ["--traffic", chosen, "--guests", "1,1000"], obj=None).exit_code == 0
    assert (options[0].traffic, options[0].guests) == (expected, (1, 1000))


def test_more_guests_than_a_list_shows_are_refused():
    done = CliRunner().invoke(bench_traffic.traffic, ["--guests", "1,1001"], obj=None)
    assert done.exit_code == 2
    assert "expected at most 1000 guests, got 1001" in done.output
