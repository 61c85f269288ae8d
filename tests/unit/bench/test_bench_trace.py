"""The report of `atoll bench trace`, and its table."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from atoll.bench import tracing
from atoll.bench.tracing import MODES, TraceOptions
from atoll.cli import bench_trace
from atoll.errors import AtollError
from atoll.site.state import State
from atoll.trace.store import Summary


def site(reads: list[float], boots: list[float], processor: list[float]) -> tracing._Site:
    return tracing._Site(State(Path("/nowhere")), None, None, reads, boots, processor)


@pytest.fixture
def sites(monkeypatch) -> dict[str, tracing._Site]:
    monkeypatch.setattr(tracing, "pids", lambda _state: [])
    monkeypatch.setattr(tracing, "memory_mb", lambda _pids: 400.0)
    made = {mode: site([2.0, 4.0, 3.0], [1.0, 2.0, 3.0], [5.0, 5.0, 5.0]) for mode in MODES}
    made["100_percent"] = site([2.5, 5.0, 3.0], [1.0, 4.0, 3.0], [5.5, 5.0, 6.0])
    return made


def spans(counts):
    """Return a double that tells these counts, site by site."""
    told = iter(counts)
    return lambda _state, _limit: [Summary("a" * 32, next(told), 0, 1, 0)]


def test_ratios_compare_the_turns_of_one_round(sites, monkeypatch):
    monkeypatch.setattr(tracing.traces, "summaries", spans([0, 7, 700]))
    report = tracing._report(sites, TraceOptions(rounds=3, requests=300, boots=2))
    assert report["off"] == {"reads_per_s": 100.0, "boot_and_delete_s": 1.0, "processor_s": 5.0, "memory_mb": 400.0, "spans": 0}
    assert report["1_percent"]["reads_ratio"] == 1.0
    assert {name: value for name, value in report["100_percent"].items() if name.endswith("ratio")} == {
        "reads_ratio": 0.8,
        "boots_ratio": 1.0,
        "processor_ratio": 1.1,
        "memory_ratio": 1.0,
    }


@pytest.mark.parametrize("counts", [(3, 1, 700), (0, 1, 0)], ids=["off-records", "all-records-none"])
def test_a_mode_that_is_none_is_not_a_result(sites, monkeypatch, counts):
    monkeypatch.setattr(tracing.traces, "summaries", spans(counts))
    with pytest.raises(AtollError, match="recorded"):
        tracing._report(sites, TraceOptions())


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "table"])
def test_the_command_prints_the_report(sites, monkeypatch, as_json):
    monkeypatch.setattr(tracing.traces, "summaries", spans([0, 7, 700]))
    report = tracing._report(sites, TraceOptions())
    monkeypatch.setattr(tracing, "run", lambda *_arguments: report)
    done = CliRunner().invoke(bench_trace.trace, ["--json"] if as_json else [])
    assert done.exit_code == 0, done.output
    if as_json:
        assert json.loads(done.stdout.splitlines()[-1]) == report
    else:
        assert "0.8" in done.stdout
        assert "100 %" in done.stdout
