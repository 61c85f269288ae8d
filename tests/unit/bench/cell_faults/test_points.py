"""Points of a workflow in a process: only spans that a fault waits for are announced, with their start before their work."""

import json
import socketserver
import threading
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from atoll.bench.cell_faults import points
from atoll.bench.cell_faults.step import SpanPoint
from atoll.trace import process, propagation, spans
from atoll.trace.recorder import Identity, Recorder

CHILD: Any = None


@pytest.fixture
def listener(tmp_path):
    """Yield the path of a socket and the announcements that arrived there."""
    told = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            told.append(points.numbers_of(self.rfile.readline()))
            self.wfile.write(b"\n")

    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "s"), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(tmp_path / "s"), told
        server.shutdown()


@pytest.fixture
def installed(listener, tmp_path, monkeypatch):
    """Yield a function that makes the recorder of a process of a cloud with points."""
    path, told = listener

    def install(service, site, **waited):
        points.write(tmp_path / "points.json", path, {int(number[1:]): point for number, point in waited.items()})
        monkeypatch.setenv(points.FILE, str(tmp_path / "points.json"))
        points.install(CHILD)
        made = process.start(Identity(service, site), {"size_mb": 1, "sample": 1.0}, tmp_path)
        recorders.append(made)
        return made, told

    monkeypatch.setattr(process, "FURTHER", [])
    recorders = []
    yield install
    for made in recorders:
        process.stop(made)


def test_the_start_and_the_end_of_a_span_are_announced(installed):
    made, told = installed("neutron", "lyon", p1=SpanPoint("POST /v2.0/ports"), p2=SpanPoint("POST *", edge="end"), p3=SpanPoint("GET *"))
    span = made.start("POST /v2.0/ports", SpanKind.SERVER)
    assert told == [[1]]
    span.end()
    assert told == [[1], [2]]


def test_only_processes_of_the_point_announce(installed):
    made, told = installed(
        "neutron", "lyon", p1=SpanPoint("x", site="nice"), p2=SpanPoint("x", service="nova"), p3=SpanPoint("x", "lyon", "neutron")
    )
    made.start("x", SpanKind.SERVER).end()
    assert told == [[3]]


def test_brackets_are_not_a_pattern(installed):
    made, told = installed("nova", "lyon", p1=SpanPoint("call [a]"))
    made.start("call a", SpanKind.CLIENT).end()
    assert told == []
    made.start("call [a]", SpanKind.CLIENT).end()
    assert told == [[1]]


def test_a_statement_has_an_end(installed):
    made, told = installed("nova", "lyon", p1=SpanPoint("UPDATE instances", edge="end"))
    with propagation.work("boot"):
        spans.finished(made, "UPDATE instances", 0, {})
    assert told == [[1]]


def test_a_process_goes_on_if_nobody_listens(tmp_path):
    announcer = points.Announcer(Identity("nova", "lyon"), str(tmp_path / "none"), {1: SpanPoint("x")})
    made = Recorder(Identity("nova", "lyon"), 1.0, announcer)
    made.start("x", SpanKind.SERVER).end()


def test_a_cloud_without_points_is_not_changed(monkeypatch):
    monkeypatch.delenv(points.FILE, raising=False)
    points.install(CHILD)
    assert process.FURTHER == []


def test_the_file_names_each_point(tmp_path):
    points.write(tmp_path / "f", tmp_path / "s", {2: SpanPoint("x", number=3)})
    content = json.loads((tmp_path / "f").read_text(encoding="utf-8"))
    assert SpanPoint(**content["points"]["2"]) == SpanPoint("x", number=3)
